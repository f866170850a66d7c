"""Where a transformers model lies (a folder, an installed package, the hub), and loading it from there strictly."""

import hashlib
import inspect
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from headstart.backbones import checkpoint, hub, weights
from headstart.backbones.backbone import WeightsRecord
from headstart.compat import declare_torchvision_operators
from headstart.errors import InputError
from headstart.system import memory

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which they are preferred; an index names the shards beside it."""
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"),
    *("sentencepiece.bpe.model", "spiece.model", "spm.model", "special_tokens_map.json", "added_tokens.json"),
)
CONFIG_FILE = "config.json"
SMALL_FILES = (CONFIG_FILE, *TOKENIZER_FILES, "processor_config.json", "preprocessor_config.json", "README.md")
"""What makes a model and reads for it, and says its licence."""
_SMALL_FILES = ("*.json", "*.txt", "*.model")
_ATTENTION = (None, "eager", "sdpa")
"""Ways to compute attention that transformers has itself; for others it fetches code."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_DOWNLOAD_SECONDS = 12.0


@dataclass(frozen=True)
class Place:
    """A model in the hub's layout: config, tokenizer or feature extractor, weights. On disk, or yet to be fetched."""

    source: str
    folder: Path
    """Holds everything but, for a model of the hub, perhaps the weights."""
    repository: str | None = None
    commit: str | None = None

    def weights_name(self) -> str:
        """The weights file or the index of its shards. Raises `InputError` if there is none."""
        present = next((name for name in WEIGHT_FILES if (self.folder / name).is_file()), None)
        if present is not None:
            return present
        if self.repository is not None:
            return hub.find(f"{self.repository}@{self.commit}", WEIGHT_FILES).filename
        raise InputError(
            f"{self.source} holds no weights ({', '.join(WEIGHT_FILES)}). Choose another backbone.weights, or none for "
            "random ones."
        )

    def fetch(self) -> None:
        """Download the weights, if they are not there yet."""
        name = self.weights_name()
        if self.repository is None or (self.folder / name).is_file():
            return
        hub.HubFile(self.repository, name, self.commit or "main").fetch()
        if name.endswith(".index.json"):
            suffix = ".safetensors" if "safetensors" in name else ".bin"
            _snapshot(self.repository, self.commit, (f"*{suffix}",))

    def sha256(self) -> str:
        """Of the weights' bytes; of the shards' sha256s, one a line, where there are several."""
        name = self.weights_name()
        if not name.endswith(".index.json"):
            return weights.file_sha256(self.folder / name)
        suffix = ".safetensors" if "safetensors" in name else ".bin"
        shards = sorted(path for path in self.folder.iterdir() if path.suffix == suffix)
        lines = "".join(f"{shard.name} {weights.file_sha256(shard)}\n" for shard in shards)
        return hashlib.sha256(lines.encode()).hexdigest()


def locate(name: str, setting: str) -> Place:
    """Where `name` is: `package:<name>`, a folder, or a model of the hub (`owner/name`, `owner/name@revision`).

    `setting` is the key that says so, for messages. Raises `InputError` within seconds where there is nothing.
    """
    if name.startswith("package:"):
        return Place(name, _folder_in_package(name.removeprefix("package:")))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{setting}={name} is a folder without a config.json: save_pretrained writes one.")
        return Place(name, folder.resolve())
    if not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"{setting} must be a model of the hub (owner/name), an existing folder or package:<name>, but there is no "
            f"folder {name!r}. Check the path (relative ones start from the folder the command was typed in)."
        )
    try:
        config = hub.find(name, ["config.json"])
    except InputError as error:
        raise InputError(
            f"{setting}={name} is neither in the local cache nor to be had from the hub: {_reason(error)}. Connect to "
            "the network, or give a folder with the model (config.json, tokenizer or feature extractor, weights). "
            "Text works offline with backbone=minilm."
        ) from error
    assert config.repository
    if config.path is not None:
        folder = config.path.parent
    else:
        folder = _snapshot(config.repository, config.commit, _SMALL_FILES)
    return Place(config.source, folder, config.repository, config.commit)


def _reason(error: InputError) -> str:
    """Why the hub could not give it, without the remedies that are for files of weights."""
    cause = error.__cause__
    return " ".join(str(cause).split())[:200] if cause is not None else str(error).partition(": ")[2].partition(". ")[0]


def _snapshot(repository: str, commit: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    def download() -> Path:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=list(patterns)))

    try:
        return hub.within(_DOWNLOAD_SECONDS, download) if patterns == _SMALL_FILES else download()
    except Exception as error:  # whatever the client raises half-way: the download did not succeed
        raise InputError(f"Downloading {repository} from the hub failed: {error}. Try again.") from error


def _folder_in_package(name: str) -> Path:
    """The folder with a model inside an installed package, found without importing it."""
    module = name.replace("-", "_")
    spec = find_spec(module) if re.fullmatch(r"[A-Za-z_]\w*", module) else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"package:{name} needs the package {name!r}, which is not installed. Install it: "
            f"pip install {name.replace('_', '-')}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    folders = {path.parent for path in root.rglob("config.json")}
    folders = {folder for folder in folders if any((folder / name).is_file() for name in WEIGHT_FILES)}
    if len(folders) != 1:
        found = ", ".join(sorted(str(folder.relative_to(root)) for folder in folders)) or "none"
        raise InputError(f"package:{name} must hold one model (config.json beside its weights), but holds: {found}.")
    return folders.pop()


# --- reading -------------------------------------------------------------------------------------------------------


def read_config(place: Place, **changes: Any) -> Any:
    """The model's configuration, with what is set here; in float32 and without a cache of keys and values."""
    declare_torchvision_operators()
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(place.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a type it does not know, code of its own, JSON that is none: all kinds of exceptions
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"transformers cannot read the configuration of {place.source}: {reason}") from error
    _refuse_foreign_code(place, config)
    _check_numbers(place, config)
    import torch

    for name, value in {"dtype": torch.float32, "use_cache": False, **changes}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def _check_numbers(place: Place, config: Any) -> None:
    """Raise `InputError` for numbers that a model takes without looking, and fails on when it trains."""
    problems = []
    for name, value in vars(config).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        is_share, is_small = "drop" in name or name.endswith("_prob"), name == "eps" or "_eps" in name
        if (is_share and not 0 <= value <= 1) or (is_small and not 0 < value < 1):
            problems.append(f"{name} must lie between 0 and 1, but is {value!r}"[:200])
        elif value != value:
            problems.append(f"{name} must be a number, but is nan")
    if problems:
        raise InputError(*(f"In config.json of {place.source}, {problem}. Mend it there." for problem in problems))


def _refuse_foreign_code(place: Place, config: Any) -> None:
    """Raise `InputError` for a configuration that has attention computed by code from elsewhere."""
    parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))]
    for part in parts:
        asked = getattr(part, "_attn_implementation", None)
        if asked not in _ATTENTION:
            raise InputError(
                f"{place.source} must compute attention by code of transformers ({', '.join(filter(None, _ATTENTION))})"
                f", but its config.json has attn_implementation={asked!r}, for which code would be fetched. Remove it "
                "there."
            )


@contextmanager
def followed(place: Place) -> Iterator[None]:
    """Raises `InputError` in place of whatever comes up where a model is made and run as its configuration says."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # sizes of any kind in a config, models that take other inputs: all kinds of exceptions
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"transformers cannot make and run the model that the configuration of {place.source} describes: {reason}. "
            "Mend config.json, or choose another backbone.model."
        ) from error


def check_size(place: Place, model: nn.Module) -> None:
    """Raise `InputError` if this machine has less memory than the model's tensors take alone."""
    here = memory.all_bytes()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if here is not None and size > here:
        raise InputError(
            f"The model that the configuration of {place.source} describes must fit into memory, but its weights alone "
            f"take {size / 1e9:,.0f} GB, and here are {here / 1e9:,.0f} GB. Mend config.json, or choose another "
            "backbone.model."
        )


def model_class(config: Any) -> Any:
    """The headless class for a configuration. Raises `InputError` if transformers has none."""
    from transformers import MODEL_MAPPING

    try:
        return MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise InputError(f"transformers has no headless model for the type {config.model_type!r}.") from error


def create(config: Any, with_pooler: bool) -> nn.Module:
    """The model with random weights, from torch's global generator."""
    with quiet():
        return model_class(config)._from_config(config, **_pooler_argument(config, with_pooler))


def load(place: Place, config: Any, with_pooler: bool) -> tuple[nn.Module, WeightsRecord]:
    """The model with the weights of `place`, all of them: only what lies outside the headless model is left out.

    Raises:
        InputError: listing the missing, unexpected and mis-shaped keys.
    """
    place.fetch()
    try:
        model, fit = from_pretrained(place.folder, config, with_pooler)
    except Exception as error:  # damaged files, pickles: each reader raises its own
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"The weights {place.source} cannot be read: {reason}") from error
    if not fit.is_exact:
        raise checkpoint.refusal(place.source, fit.problems)
    return model, WeightsRecord(place.source, place.sha256(), fit.ignored)


def from_pretrained(
    folder: Path | None, config: Any, with_pooler: bool, state: checkpoint.State | None = None
) -> tuple[nn.Module, checkpoint.Matched]:
    """The model, with how well the weights of a folder (or `state`, under its files' names or its own) fit it."""
    with quiet():
        model, info = model_class(config).from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed below instead
            **({} if state is None else {"state_dict": dict(state)}),
            **_pooler_argument(config, with_pooler),
        )
    own = {name for name, _ in (*model.named_children(), *model.named_parameters(recurse=False))}
    unexpected = sorted(info["unexpected_keys"])
    inside = [key for key in unexpected if key.removeprefix(f"{model.base_model_prefix}.").split(".")[0] in own]
    return model, checkpoint.Matched(
        model.state_dict(),
        ignored=tuple(key for key in unexpected if key not in inside),
        missing=tuple(sorted(info["missing_keys"])),
        unexpected=tuple(inside),
        misshaped=tuple(str(key) for key in info["mismatched_keys"]),
        other=tuple(str(message) for message in info.get("error_msgs") or []),
    )


def accepts_pooler(config: Any) -> bool:
    """Whether the model has a pretrained pooler that can be left out."""
    return "add_pooling_layer" in inspect.signature(model_class(config).__init__).parameters


def _pooler_argument(config: Any, with_pooler: bool) -> dict[str, bool]:
    return {"add_pooling_layer": with_pooler} if accepts_pooler(config) else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' reports, warnings and progress bars: what matters of them is in our errors and notes."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
