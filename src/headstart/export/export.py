"""A run's model written for others to load, and loaded as they would before anybody gets it."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart.backbones.huggingface_files import quiet
from headstart.errors import InputError, unknown
from headstart.export.adapter_format import AdapterFormat
from headstart.export.card import card
from headstart.export.examples import examples, largest_difference
from headstart.export.format import Format, Written
from headstart.export.onnx_format import OnnxFormat
from headstart.export.plain_format import PlainFormat
from headstart.export.plain_model import PlainModel, plain_model
from headstart.export.soup import soup
from headstart.export.timm_format import TimmFormat
from headstart.export.transformers_format import TransformersFormat
from headstart.names import listed, plural
from headstart.record.directory import RunDirectory
from headstart.record.writing import write_bytes, write_json
from headstart.report.metric import Metric
from headstart.report.selected import is_comparison
from headstart.report.winner import Chosen, chosen_from, winner
from headstart.run.load import FinishedRun, load
from headstart.system.process import draft_of

FORMATS: tuple[Format, ...] = (PlainFormat(), TimmFormat(), TransformersFormat(), OnnxFormat(), AdapterFormat())
CARD, FACTS = "README.md", "headstart.json"
TOLERANCE = 1e-4
"""The largest difference from the run's own outputs, as a share of their size, that rounding explains."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what its check found."""

    folder: Path
    checked: tuple[str, ...]
    difference: float
    """The largest of any output, over all ways of loading it."""
    chosen: Chosen | None


def export(place: Path, to: str, out: Path | None = None, force: bool = False, mix: str | None = None) -> Exported:
    """Write the model of a run, or of a comparison's winner, in a format, check it, and give it its place.

    Args:
        place: The directory of a run or of a comparison.
        to: The name of the format.
        out: The folder to write; `None` for `exports/<to>` in `place`.
        force: Whether an export that lies there may be replaced.
        mix: Which runs of a comparison to average the weights of (see `soup`); `None` for the one that val selects.

    Raises:
        InputError: if there is no such run, its model cannot go there, something lies at `out`, or the outputs of what
            was written differ from the run's by more than rounding. Nothing is left then.
    """
    forms = {form.name: form for form in FORMATS}
    if to not in forms:
        raise unknown("format", to, forms)
    target = RunDirectory(place).exports / to if out is None else out
    _check_place(target, force)
    run, chosen = _chosen(place, mix)
    model = plain_model(run)
    _check_fit(model, forms, to)
    with _drafted(target) as draft:
        with quiet():
            written = forms[to].write(model, draft)
        write_json(draft / FACTS, _facts(model, to))
        checked, difference = _check(model, written, draft)
        write_bytes(draft / CARD, card(model, written, to, checked, chosen).encode())
        _put(draft, target)
    return Exported(target, checked, difference, chosen)


def _chosen(place: Path, mix: str | None) -> tuple[FinishedRun, Chosen | None]:
    if mix is not None:
        if not is_comparison(place):
            raise InputError(f"--soup averages the runs of a comparison, and {place} is not the directory of one.")
        made = soup(place, mix)
        return made.run, Chosen(made.members[0], Metric(made.members[0].score), (), made.words)
    chosen = winner(place) if is_comparison(place) else chosen_from(place)
    return load(chosen.run.directory if chosen else place), chosen


def _check_place(target: Path, force: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    is_export = target.is_dir() and not target.is_symlink() and (target / FACTS).is_file()
    is_empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if is_empty or (is_export and force):
        return
    if is_export:
        raise InputError(f"{target} holds an export already. Say --force to replace it, or another place with --out.")
    raise InputError(f"{target} is there and is no export, so that it is left alone. Say another place with --out.")


def _check_fit(model: PlainModel, forms: Mapping[str, Format], to: str) -> None:
    refusal = forms[to].refusal(model)
    if refusal is not None:
        can = [name for name, form in forms.items() if name != to and _fits(form, model)]
        raise InputError(
            f"{model.run.directory.path} cannot be exported to {to}: {refusal}. It can go to {listed(can) or 'none'}."
        )


def _fits(form: Format, model: PlainModel) -> bool:
    try:
        return form.refusal(model) is None
    except InputError:  # what is not installed
        return False


@contextmanager
def _drafted(target: Path) -> Iterator[Path]:
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(target)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _put(draft: Path, target: Path) -> None:
    """Give a draft its place; what lay there goes first, and only then."""
    if target.exists():
        old = draft_of(target)
        target.rename(old)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(target)


def _facts(model: PlainModel, to: str) -> dict[str, Any]:
    """What a program may want to know, beside what the libraries ask for."""
    result = model.run.result
    return {
        "format": to,
        "run_id": result.run_id,
        "task": model.task,
        "names": list(model.names),
        "modality": model.modality,
        "backbone": model.factory.name,
        "reading": dict(model.run.reading.description),
        "pooling": getattr(model.backbone, "pooling", None),
        "data": {"name": result.data.name, "fingerprint": result.data.fingerprint} if result.data else None,
    }


# --- the check -------------------------------------------------------------------------------------------------------


def _check(model: PlainModel, written: Written, folder: Path) -> tuple[tuple[str, ...], float]:
    with tempfile.TemporaryDirectory() as files:
        shown = examples(model, Path(files))
        reference = torch.cat([model.reference(one) for one in shown.inputs])
        words, differences = [], []
        for code in written.codes:
            for size in written.batch_sizes or (len(reference),):
                how = f"{code.title}, {plural(size, 'example')} at a time" if written.batch_sizes else code.title
                found = torch.cat([_outputs(code.source, folder, part) for part in shown.batches(size)])
                apart, share = largest_difference(model, found, reference)
                if not share <= TOLERANCE:
                    raise InputError(
                        f"What was written does not give the run's own outputs ({how}): on {shown.words} they differ "
                        f"by up to {apart:.3g}, {share:.2g} of their size, where rounding explains {TOLERANCE:g}. "
                        "Nothing is left of it."
                    )
                differences.append(apart)
                words.append(
                    f"{how}: on {shown.words} the largest difference from the run's own outputs is {apart:.2g} "
                    f"({share:.1g} of their size)."
                )
    return tuple(words), max(differences)


def _outputs(source: str, folder: Path, given: Mapping[str, Any]) -> Tensor:
    """What the card's code gives, run as it stands there, with nothing of this program at hand."""
    names: dict[str, Any] = {"__name__": "card", "folder": str(folder), **given}
    before, known = list(sys.path), set(sys.modules)
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            exec(compile(source, "README.md", "exec"), names)
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - known:  # modules that the export brings
            if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]
    return torch.as_tensor(names["logits"]).float()
