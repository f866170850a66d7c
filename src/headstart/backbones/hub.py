"""Weights on the Hugging Face hub: found in the local cache first, asked for over the network only if it answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import InputError
from headstart.system.waiting import within

ANSWER_SECONDS = 3.0
"""How long one request may take; the hub's own clients would retry for most of a minute."""
PATIENCE_SECONDS = 8.0
"""How long we wait in all, also where name resolution hangs, which no request's timeout covers."""


_asks: ContextVar[bool] = ContextVar("asks the hub", default=True)


@contextmanager
def cached_only() -> Iterator[None]:
    """Within the block nothing is asked for over the network: what is not in the cache cannot be had."""
    token = _asks.set(False)
    try:
        yield
    finally:
        _asks.reset(token)


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository at a commit; `path` where the local cache has it already."""

    repository: str
    filename: str
    commit: str
    path: Path | None = None

    @property
    def source(self) -> str:
        """`hub:<repository>@<commit>`."""
        return f"hub:{self.repository}@{self.commit}"

    @property
    def local(self) -> Path | None:
        """The file's place on disk by now, if it is there."""
        from huggingface_hub import try_to_load_from_cache

        found = self.path or try_to_load_from_cache(self.repository, self.filename, revision=self.commit)
        return Path(found) if isinstance(found, (str, Path)) else None

    def fetch(self) -> Path:
        """The file's place on disk, downloaded to the hub's cache if it is not there yet."""
        if self.path is not None:
            return self.path
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.repository, self.filename, revision=self.commit))
        except Exception as error:  # whatever the client raises half-way: the download did not succeed
            raise _unavailable(self.repository, f"downloading {self.filename} failed: {error}") from error


def find(repository: str, filenames: Sequence[str]) -> HubFile:
    """The first of `filenames` that `repository` (`owner/name` or `owner/name@revision`) has.

    The local cache (`HF_HUB_CACHE`, `HF_HOME`) is asked first and then no request is made, so that a cached model
    stays at its commit. `HF_HUB_OFFLINE` and `HF_ENDPOINT` are respected. Raises `InputError` within seconds.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    repository, _, revision = repository.partition("@")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r} is no name that a model of the hub can have: {error}") from error
    return _in_cache(repository, filenames, revision or None) or _on_hub(repository, filenames, revision or None)


def _in_cache(repository: str, filenames: Sequence[str], revision: str | None) -> HubFile | None:
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        path = try_to_load_from_cache(repository, filename, revision=revision)
        if isinstance(path, str):
            commit = Path(path).parts[-1 - len(Path(filename).parts)]  # …/snapshots/<commit>/<filename>
            return HubFile(repository, filename, commit, Path(path))
    return None


def _on_hub(repository: str, filenames: Sequence[str], revision: str | None) -> HubFile:
    from huggingface_hub import HfApi, constants

    if not _asks.get():
        raise _unavailable(repository, "the local cache does not have it")
    if constants.HF_HUB_OFFLINE:
        raise _unavailable(repository, "HF_HUB_OFFLINE is set and the local cache does not have it")
    try:
        info = within(
            PATIENCE_SECONDS, lambda: HfApi().model_info(repository, revision=revision, timeout=ANSWER_SECONDS)
        )
    except Exception as error:  # the client's network errors have no common base across its versions
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise _unavailable(repository, f"{constants.ENDPOINT} did not give it ({reason[0]})") from error
    names = {sibling.rfilename for sibling in info.siblings or []}
    filename = next((name for name in filenames if name in names), None)
    if filename is None or info.sha is None:
        raise InputError(f"The hub repository {repository} has none of {', '.join(filenames)}.")
    return HubFile(repository, filename, info.sha)


def _unavailable(repository: str, reason: str) -> InputError:
    return InputError(
        f"The pretrained weights of {repository} cannot be had from the hub: {reason}. Connect to the network, or"
        " give a local file (backbone.weights=/path/to/model.safetensors), an installed package's weights"
        " (backbone.weights=package:<name>; backbone=efficientnet_lite0 uses one), or backbone.weights=none."
    )
