"""Texts as token ids: tokenised once, kept on disk, padded to the longest of each batch."""

import hashlib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from headstart.data.source import Examples
from headstart.names import agreeing
from headstart.system import bounded
from headstart.system.bounded import DamagedError
from headstart.system.cache import cache_dir, remove_left, replacing, versions
from headstart.system.checksums import crc32_of

READER = "tokens 1"
"""Changes with every change of what is kept, so that nothing kept from before is taken for the same."""
TOKENIZERS = ("tokenizers", "transformers", "sentencepiece", "tiktoken")
"""Packages that cut texts into tokens; an upgrade may cut them otherwise."""
_MOST_BYTES = 1 << 40
_CHUNK = 4096
_MANY_UNKNOWN = 0.05
"""Share of unknown tokens from which on a tokenizer is likely not made for these texts."""
_KINDS = ("ids", "types", "special", "offsets", "full")
_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What a backbone gives for reading texts."""

    identity: str
    """A hash of everything that decides how a text is cut into tokens."""
    pad_id: int
    mask_id: int
    """Stands for a token that is hidden: the model's mask, or the nearest thing it has."""
    unknown_id: int | None
    """Stands for what the vocabulary does not have; `None` where it has everything."""
    part: Literal["first", "last"]
    """What is kept of a text that is too long."""
    has_types: bool
    """Whether tokens of a first and a second text are told apart."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Mapping[str, Any]:
        """For each text (with its second text): `ids`, `types`, `special` (1: no word of the text), all of at most
        `max_length` tokens, and `full`, the number of tokens before any were cut off."""


class Texts(Examples):
    """Tokenised texts: `input_ids`, `attention_mask`, `masked_ids` and, where tokens have types, `token_type_ids`.

    All are `(B, L)` int64 with L the longest of the batch, padded on the right. `masked_ids` are the ids with every
    token hidden that is a word of the text: what token dropout takes from.
    """

    def __init__(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        fingerprint: str,
        tokenizer: Tokenizer,
        max_length: int,
        name: str = "data",
    ) -> None:
        self._texts, self._pairs = texts, pairs
        self._max_length, self._part, self._unknown_id = max_length, tokenizer.part, tokenizer.unknown_id
        self._pad_id, self._mask_id, self._has_types = tokenizer.pad_id, tokenizer.mask_id, tokenizer.has_types
        told = f"{READER} {fingerprint} {tokenizer.identity} {versions(*TOKENIZERS)} {max_length}"
        key = hashlib.sha256(told.encode()).hexdigest()[:24]
        self._kept = _tokens(key, texts, pairs, tokenizer, max_length)
        self._identity = f"{key}-{crc32_of(*(self._kept[name] for name in _KINDS)):08x}"
        self._lengths = np.diff(self._kept["offsets"])
        self._say_what_is_lost(name)

    def __len__(self) -> int:
        return len(self._kept["full"])

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def is_kept(self) -> bool:
        return True

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        tokens = (self._pad_id, self._mask_id, self._has_types)
        return padded(self._kept, np.asarray(indices, dtype=np.int64), *tokens)

    def preview(self, index: int) -> str:
        return self._texts[index] if self._pairs is None else f"{self._texts[index]} | {self._pairs[index]}"

    def statistics(self) -> dict[str, Any]:
        """Numbers of tokens before anything was cut off, how many texts are longer than `max_length`, and the share of
        the tokens read that the vocabulary does not have."""
        full = self._kept["full"]
        is_cut = full > self._max_length
        return {
            "num_tokens": int(full.sum()),
            "tokens_per_example": {
                "mean": round(float(full.mean()), 2),
                "median": float(np.median(full)),
                "p95": float(np.percentile(full, 95)),
                "max": int(full.max()),
            },
            "max_length": self._max_length,
            "part": self._part,
            "num_truncated": int(is_cut.sum()),
            "truncation_rate": float(is_cut.mean()),
            "unknown_rate": self._unknown_rate,
        }

    @property
    def _unknown_rate(self) -> float:
        words = self._kept["ids"][~self._kept["special"]]
        return float((words == self._unknown_id).mean()) if len(words) and self._unknown_id is not None else 0.0

    def _say_what_is_lost(self, name: str) -> None:
        full = self._kept["full"]
        num_cut = int((full > self._max_length).sum())
        if num_cut:
            _log.warning(
                "%s: %d of %d texts %s more tokens than are read of %s (the longest has %d): the %s %d. "
                "data.max_length says how many are read.",
                name,
                num_cut,
                len(full),
                agreeing(num_cut, "have"),
                agreeing(num_cut, "them"),
                full.max(),
                self._part,
                self._max_length,
            )
        if self._unknown_rate > _MANY_UNKNOWN:
            _log.warning(
                "%s: %.1f%% of the tokens are unknown to the tokenizer: another language, script or case than its own?",
                name,
                100 * self._unknown_rate,
            )


def padded(
    kept: Mapping[str, np.ndarray], chosen: np.ndarray, pad_id: int, mask_id: int, has_types: bool
) -> dict[str, Tensor]:
    """The `chosen` of the texts that `encoded` cut into tokens, as `Texts` gives a batch."""
    starts = kept["offsets"][chosen]
    lengths = kept["offsets"][chosen + 1] - starts
    places = np.arange(lengths.max())
    real = places < lengths[:, None]
    flat = np.minimum(starts[:, None] + places, len(kept["ids"]) - 1)
    ids = np.where(real, kept["ids"][flat], pad_id)
    word = real & ~kept["special"][flat]
    inputs = {
        "input_ids": ids,
        "attention_mask": real.astype(np.int64),
        "masked_ids": np.where(word, mask_id, ids),
    }
    if has_types:
        inputs["token_type_ids"] = np.where(real, kept["types"][flat], 0)
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in inputs.items()}


def _tokens(
    key: str, texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """All tokens in a row, with where each text begins; found on disk if it was made before."""
    path = cache_dir("tokens", f"{key}.npz")
    remove_left(path.parent)
    kept = _load(path)
    if kept is None:
        kept = encoded(texts, pairs, tokenizer, max_length)
        try:
            with replacing(path) as draft, draft.open("wb") as file:
                np.savez(file, **kept)  # type: ignore[arg-type]
        except OSError as error:
            _log.warning("Tokens cannot be kept in %s (%s).", path.parent, error)
    return kept


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """The tokens kept at `path`, held against their checksums; what is damaged is said."""
    try:
        arrays = bounded.arrays(path, _MOST_BYTES)
        if arrays.keys() != {*_KINDS}:
            raise DamagedError("it has other arrays than tokens have")
        return {name: arrays[name] for name in _KINDS}
    except FileNotFoundError:
        return None
    except DamagedError as error:
        _log.warning("Tokens in %s are damaged: %s. They are made again.", path, error)
        return None


def encoded(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int
) -> dict[str, np.ndarray]:
    """All tokens in a row (`ids`, `types`, `special`), where each text begins (`offsets` `(N + 1,)`), and how many
    tokens each had before it was cut (`full` `(N,)`)."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("ids", "types", "special", "lengths", "full")}
    for start in range(0, len(texts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        found = tokenizer.encode(texts[chunk], None if pairs is None else pairs[chunk], max_length)
        parts["lengths"].append(np.array([len(ids) for ids in found["ids"]], dtype=np.int64))
        parts["full"].append(np.array(found["full"], dtype=np.int64))
        for name, kind in (("ids", np.int32), ("types", np.uint8), ("special", np.bool_)):
            parts[name].append(np.concatenate([np.asarray(row, dtype=kind) for row in found[name]]))
    kept = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    kept["offsets"] = np.concatenate([[0], np.cumsum(kept.pop("lengths"))])
    return kept


def text_contents(texts: Sequence[str], pairs: Sequence[str] | None) -> list[str]:
    """Hashes of texts (each with its second text) that are equal for the same words: whatever their case, their blanks
    and their Unicode form."""
    both = zip(texts, pairs or [""] * len(texts), strict=True)
    return [hashlib.sha256("\0".join(_plain(text) for text in two).encode()).hexdigest()[:32] for two in both]


def _plain(text: str) -> str:
    normal = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(normal.casefold().split())
