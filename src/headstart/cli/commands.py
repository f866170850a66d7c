"""The commands beside `train` and `plan`, and what a comparison ends with: what they print, and their exit status."""

import contextlib
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.options import Given, given
from headstart.errors import InputError, unknown
from headstart.names import plain, plain_lines, plural

if TYPE_CHECKING:
    from omegaconf import DictConfig


def report(words: list[str]) -> int:
    """`headstart report DIR... [--out=DIR] [--margin=POINTS] [--open]`."""
    folders, typed = _folders(words, ("--out", "--margin"), ("--open",), "headstart report outputs/demo --margin=0.5")
    out, margin = typed.values.get("--out"), typed.values.get("--margin")
    from headstart.report.build import build

    made = build(folders, Path(out).expanduser() if out else None, _margin(margin) if margin is not None else None)
    for note in made.notes:
        sys.stderr.write(f"note: {plain(note)}\n")
    print("\n".join(map(plain, made.answer)))
    print(f"\nReport: {plain(str(made.page))}")
    if "--open" in typed.flags:
        import webbrowser

        webbrowser.open(made.page.absolute().as_uri())
    return 0


def _margin(word: str) -> float:
    """A difference that does not matter: points of a share, or the measure's own unit."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(word)) < math.inf:
            return number
    raise InputError(
        "A margin is a difference that does not matter in practice, a number above 0: points of a share, or the "
        f"measure's own unit, as in --margin=0.5. Got {word!r}."
    )


def finish_comparison(directory: Path, cfg: "DictConfig") -> None:
    """What a comparison ends with, failures or not: its table, failures and paths on the screen, and to its tracker.

    `cfg` is what it was started with: the tracker that it names is told, whatever the directory says.
    """
    from headstart.cli.tell_tracker import tell
    from headstart.report.build import build
    from headstart.report.terminal import show
    from headstart.system.places import closed

    may_write = not closed(directory)
    try:
        made = build([directory], write=may_write)
    except InputError as error:
        sys.stderr.write(f"No report: {error}\n")
        return
    show(made)
    if may_write:
        tell(directory, made, cfg)


def status(words: list[str]) -> int:
    """`headstart status DIR`: the grid of a comparison."""
    from headstart.record.directory import SweepDirectory
    from headstart.search.screen import show_standing
    from headstart.sweep.screen import show_status

    folders, _ = _folders(words, (), (), "headstart status outputs/demo")
    for folder in folders:
        sweep = SweepDirectory(folder)
        if not show_standing(sweep) or sweep.is_listed:  # until it has chosen, a search lists no runs
            show_status(folder)
    return 0


def rerun(words: list[str]) -> int:
    """`headstart rerun RUN_DIR [--check]`: the same run in a fresh directory, and whether it gave the same numbers."""
    folders, typed = _folders(words, (), ("--check",), "headstart rerun outputs/demo/RUN_ID")
    if len(folders) != 1:
        raise InputError(f"Name one run's directory, not {len(folders)}.")
    from headstart.record.directory import RunDirectory
    from headstart.run.rerun import repeat

    original = RunDirectory(folders[0])
    if original.reruns.is_symlink():
        raise InputError(f"{original.reruns} must be a folder, but is a link. Remove it, or use --check.")
    fresh = Path(tempfile.mkdtemp(prefix="headstart-")) if "--check" in typed.flags else original.next_rerun()
    try:
        differences = repeat(original, RunDirectory(fresh))
    finally:
        if "--check" in typed.flags:
            shutil.rmtree(fresh, ignore_errors=True)
    print("\n".join(map(plain_lines, differences)) if differences else "identical")
    if "--check" not in typed.flags:
        print(f"The repetition lies in {fresh}.")
    return 1 if differences else 0


def export(words: list[str]) -> int:
    """`headstart export DIR --to FORMAT [--out DIR] [--force] [--push NAME]`: a run's model for other libraries."""
    from headstart.cli.export import export as carry_out

    return carry_out(words)


def predict(words: list[str]) -> int:
    """`headstart predict RUN_DIR INPUT...`: labels and scores for new files, texts or tables."""
    from headstart.cli.predict import predict as carry_out

    return carry_out(words)


def store(words: list[str]) -> int:
    """`headstart store [list | prune [GB]]`: activations that are kept."""
    from headstart.config.schema import FeaturesConfig
    from headstart.features.store import FeatureStore
    from headstart.system.cache import cache_dir

    action, *rest = words or ["list"]
    if action not in ("list", "prune"):
        raise unknown("action", action, ("list", "prune"))
    if len(rest) > (1 if action == "prune" else 0):
        raise InputError(f"headstart store {action} takes no such words: {' '.join(rest)}. See headstart store --help.")
    budget = _gigabytes(rest[0]) if rest else FeaturesConfig().budget_gb
    kept = FeatureStore(cache_dir("features"), int(budget * 1e9))
    if action == "prune":
        removed = kept.prune()
        freed = sum(entry.num_bytes for entry in removed) / 1e6
        print(f"{plural(len(removed), 'entry', 'entries')} removed, {freed:,.1f} MB freed.")
        left = sum(entry.num_bytes for entry in kept.entries())
        if left > kept.budget_bytes:
            sys.stderr.write(
                f"note: {left / 1e6:,.1f} MB are left in {plain(str(kept.root))}: they cannot be removed.\n"
            )
        return 0
    entries = kept.entries()
    for entry in entries:
        print(f"{entry.digest[:12]}  {entry.num_bytes / 1e6:10,.1f} MB  {plain(_described(entry.key))}")
    total = sum(entry.num_bytes for entry in entries) / 1e6
    print(f"{plural(len(entries), 'entry', 'entries')}, {total:,.1f} MB in {kept.root}")
    return 0


def _gigabytes(word: str) -> float:
    """A number from 0 to a million."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(word)) <= 1e6:
            return number
    raise InputError(
        f"Say how many gigabytes to keep, from 0 to a million, as in: headstart store prune 5. Got {word!r}."
    )


def _described(key: Mapping[str, Any]) -> str:
    """`tf_efficientnet_lite0 after blocks.5.1, view 2, size 64, interpolation bicubic, data 207debea`."""
    words = [str(key.get("backbone", {}).get("model", "?")) + (f" after {key['after']}" if key.get("after") else "")]
    words += [f"view {key['view'][0]}"] if key.get("view") else []
    words += [f"{name} {_short(value)}" for name, value in key.get("reading", {}).items() if value is not None]
    return ", ".join([*words, f"data {_short(key.get('data', '?'))}"])


def _short(value: Any) -> str:
    """A digest by its beginning, all else as it is."""
    text = str(value)
    return text[:8] if len(text) == 64 else text


def _folders(
    words: Sequence[str], valued: Sequence[str], flags: Sequence[str], example: str
) -> tuple[list[Path], Given]:
    """Directories that are there, and all that was typed."""
    typed = given(words, valued, flags, example)
    folders = [Path(name).expanduser() for name in typed.names]
    if not folders:
        raise InputError(f"Name a directory, as in: {example}")
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(*(f"{folder} is not a directory." for folder in missing))
    return folders, typed
