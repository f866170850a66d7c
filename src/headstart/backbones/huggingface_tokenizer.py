"""A tokenizer of transformers as the data room needs one."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from headstart.backbones.huggingface_files import TOKENIZER_FILES, Place
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError

log = logging.getLogger(__name__)


class TextTokenizer:
    """Cuts texts into the ids of a model's vocabulary; the same files give the same `identity`."""

    def __init__(self, tokenizer: Any, identity: str) -> None:
        self._tokenizer = tokenizer
        self.identity = identity
        padding = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, 0)
        self.pad_id: int = next(token for token in padding if token is not None)
        hiding = (tokenizer.mask_token_id, tokenizer.unk_token_id, self.pad_id)
        self.mask_id: int = next(token for token in hiding if token is not None)
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.part: Literal["first", "last"] = "last" if tokenizer.truncation_side == "left" else "first"
        self.has_types = "token_type_ids" in tokenizer.model_input_names
        self.has_cls = tokenizer.cls_token_id is not None
        self.highest_id = max(tokenizer.get_vocab().values(), default=0)
        self.file_names = frozenset(tokenizer.vocab_files_names.values())
        """Of its vocabulary, as its kind calls them."""
        self.limit: int | None = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else None
        """Most tokens by the tokenizer's own account."""

    def least_length(self, with_pairs: bool) -> int:
        """Tokens that it takes to read one word of each text beside the special tokens."""
        return int(self._tokenizer.num_special_tokens_to_add(pair=with_pairs)) + (2 if with_pairs else 1)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> dict[str, Any]:
        """For each text (with its second text): `ids`, `types`, `special` (1: no word of the text), all of at most
        `max_length` tokens (the longer text of a pair is shortened first), and `full`, the number before that."""
        encoded = self._encode(list(texts), None if pairs is None else list(pairs))
        full = [len(ids) for ids in encoded["ids"]]
        long = [place for place, length in enumerate(full) if length > max_length]
        if long:
            shortened = self._encode(
                [texts[place] for place in long],
                None if pairs is None else [pairs[place] for place in long],
                truncation="longest_first",
                max_length=max_length,
            )
            for name, rows in encoded.items():
                for place, row in zip(long, shortened[name], strict=True):
                    rows[place] = row
        return {**encoded, "full": full}

    def _encode(self, texts: list[str], pairs: list[str] | None, **truncation: Any) -> dict[str, list[list[int]]]:
        encoded = self._tokenizer(
            texts,
            pairs,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=self.has_types,
            return_special_tokens_mask=True,
            verbose=False,
            **truncation,
        )
        ids = [row or [self.pad_id] for row in encoded["input_ids"]]  # a text that comes to nothing
        types = encoded["token_type_ids"] if self.has_types else [[0] * len(row) for row in ids]
        special = [row or [1] for row in encoded["special_tokens_mask"]]
        return {"ids": ids, "types": [row or [0] for row in types], "special": special}


def read_tokenizer(place: Place) -> TextTokenizer:
    """The tokenizer that lies with a model. Raises `InputError` if there is none that can be read."""
    declare_torchvision_operators()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # files that are absent or damaged: each tokenizer raises its own
        raise _unreadable(place, " ".join(str(error).split())[:300]) from error
    own = set(tokenizer.vocab_files_names.values())
    if own and not any((place.folder / name).is_file() for name in own):  # transformers makes an empty one
        raise _unreadable(place, f"none of {', '.join(sorted(own))} is there.")
    _say_what_is_guessed(place, tokenizer)
    digest = hashlib.sha256()
    for name in (*TOKENIZER_FILES, *sorted(own - {*TOKENIZER_FILES})):
        path = place.folder / name
        if path.is_file():
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return TextTokenizer(tokenizer, digest.hexdigest())


def _unreadable(place: Place, reason: str) -> InputError:
    return InputError(
        f"{place.source} holds no tokenizer that transformers can read: {reason} Put the tokenizer's files beside "
        "config.json (its save_pretrained writes them)."
    )


def _say_what_is_guessed(place: Place, tokenizer: Any) -> None:
    lower = getattr(tokenizer, "do_lower_case", None)
    if lower is not None and "do_lower_case" not in _settings(place.folder / "tokenizer_config.json"):
        log.warning(
            "%s does not say whether its texts are put in lower case (do_lower_case in tokenizer_config.json). "
            "Taken is the default of transformers' %s: %s.",
            place.source,
            type(tokenizer).__name__,
            "they are" if lower else "they are not",
        )


def _settings(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
