"""The card of an export: what the model is, how it was chosen, how good it is, and the code that loads it."""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from headstart import __version__, metrics
from headstart.export.format import PIPELINES, Written
from headstart.export.licence import licence_of
from headstart.export.plain_model import PlainModel
from headstart.export.snippets import GIVEN
from headstart.names import in_markdown, listed, plain, plural, safe_command
from headstart.record.result import Result
from headstart.report.metric import Metric
from headstart.report.statistics import t_interval
from headstart.report.winner import Chosen

MOST_NAMES = 1000
"""Classes that a card names; more stand in the files beside it."""
_HUB_NAME = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)(?:@.*)?")


def card(model: PlainModel, written: Written, form: str, checked: Sequence[str], chosen: Chosen | None) -> str:
    """README.md as the hub reads it: YAML between dashes, then Markdown.

    Args:
        model: What was exported.
        written: What was written, and how it is loaded.
        form: The name of the format.
        checked: What the check found, in sentences.
        chosen: The comparison that the run comes from.
    """
    result = model.run.result
    parts = [
        _front(model, written, form),
        f"# {in_markdown(_title(model))}\n",
        *_what(model, form),
        *_use(model, written),
        *_reading(model),
        *_data(model, result),
        *_choice(result, chosen),
        *_scores(result, chosen),
        *_cost(result),
        *_origin(model),
        "## Checked\n",
        *(f"- {in_markdown(line)}" for line in checked),
        "",
        *_repeat(result),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _title(model: PlainModel) -> str:
    data = model.run.result.data
    return f"{model.factory.name} on {data.name if data else 'data'}"


def _front(model: PlainModel, written: Written, form: str) -> str:
    import yaml

    result = model.run.result
    base = _HUB_NAME.fullmatch(result.weights.source if result.weights else "")
    head: dict[str, Any] = {
        "library_name": written.library,
        "pipeline_tag": PIPELINES[model.modality],
        "license": licence_of(model)[0],
        "tags": ["headstart", "transfer-learning", form, plain(str(result.choices.get("strategy", "")))],
        **({"base_model": base[1]} if base else {}),
        "model-index": [{"name": plain(_title(model)), "results": [_indexed(model, result)]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _indexed(model: PlainModel, result: Result) -> dict[str, Any]:
    name = plain(result.data.name if result.data else "data")
    tested = [{"type": key[5:], "value": value} for key, value in _tested(result.metrics).items()]
    return {
        "task": {"type": PIPELINES[model.modality]},
        "dataset": {"name": name, "type": re.sub(r"[^\w.-]+", "-", name) or "data"},
        "metrics": tested,
    }


def _tested(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if name.startswith("test/") and isinstance(value, int | float) and isfinite(value)
    }


def _what(model: PlainModel, form: str) -> list[str]:
    kinds = {
        "multiclass": f"says which of {len(model.names)} classes an example is of",
        "multilabel": f"says which of {len(model.names)} labels an example has",
        "regression": f"says {plural(len(model.names), 'number')} of an example, in the data's units",
    }
    reads = {"vision": "pictures", "text": "texts", "audio": "sounds"}[model.modality]
    choices = model.run.result.choices
    head = "linear" if model.is_linear else f"layers of {', '.join(map(str, model.widths[1:]))}"
    return [
        f"A model of {reads} that {kinds[model.task]}. Backbone: {in_markdown(model.factory.name)}; trained by the "
        f"strategy {in_markdown(str(choices.get('strategy', '?')))}; head: {head}. Written by headstart "
        f"{__version__} in the format {form}.\n",
    ]


def _use(model: PlainModel, written: Written) -> list[str]:
    lines = ["## How to use it\n"]
    for code in written.codes:
        given = 'folder = "."  # this folder\n' + GIVEN[model.modality]
        lines += [f"{code.title}:\n", f"```python\n{given}\n\n{code.source}```\n"]
    outputs = {
        "multiclass": "`logits` are `(B, C)`; softmax gives probabilities.",
        "multilabel": "`logits` are `(B, C)`; the sigmoid of each is the probability of a label. A label counts as "
        f"there from {getattr(model.run.cfg.task, 'threshold', 0.5)} on.",
        "regression": "`logits` are `(B, T)`: numbers in the units of the data.",
    }[model.task]
    return [*lines, outputs + " Output `i` is for name `i` under *Data*.\n", *(f"{line}\n" for line in written.words)]


def _reading(model: PlainModel) -> list[str]:
    said = {name: _value(value) for name, value in model.run.reading.description.items() if name != "tokenizer"}
    words = ", ".join(f"{in_markdown(name)} {in_markdown(value)}" for name, value in said.items() if value)
    part = model.run.reading.arguments.get("part", "middle")
    notes = {
        "vision": f"Pictures are read in {_colours(model)}, upright as their EXIF says.",
        "text": "Longer texts are cut off at the end where the tokenizer cuts.",
        "audio": f"Several channels become their mean. Of a longer sound the {part} is read: cut it to that "
        "before, as the code above does not.",
    }[model.modality]
    return ["## How it reads\n", f"{words}. {notes} All of it stands in `headstart.json`.\n"]


def _colours(model: PlainModel) -> str:
    channels = model.run.reading.description.get("channels", 3)
    known = {1: "grey (brightness alone), transparency over white", 3: "RGB, transparency over white"}
    what = known.get(channels, f"{channels} channels: the pages of a TIFF, or the bands of a file")
    return f"{what}, with 16 bits a value" if model.is_deep else what


def _value(value: Any) -> str:
    """In words; nothing of what is no number, text, or a few numbers."""
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, str | int) else ""


def _data(model: PlainModel, result: Result) -> list[str]:
    data = result.data
    names = [in_markdown(name) for name in model.names]
    sizes = ", ".join(f"{count} {in_markdown(part)}" for part, count in ((data and data.sizes) or {}).items())
    what = {"regression": "Numbers", "multilabel": "Labels"}.get(model.task, "Classes")
    return [
        "## Data\n",
        f"{in_markdown(data.name if data else '?')}: {sizes or 'sizes not recorded'}. Fingerprint (sha256 of contents "
        f"and labels): {in_markdown(data.fingerprint if data else '?')}.\n",
        f"{what}: {listed(names, MOST_NAMES)}.\n",
    ]


def _choice(result: Result, chosen: Chosen | None) -> list[str]:
    selection = result.selection if "best_epoch" in result.metrics else None
    epoch = (
        f"Its epoch ({int(result.metrics['best_epoch']) + 1}) is the one with the best {in_markdown(selection.metric)}."
        if selection
        else ""
    )
    words = chosen.words if chosen else ("A single run: it was compared with no other.",)
    said = [*map(in_markdown, words), epoch, *_average(result)]
    return ["## How it was chosen\n", " ".join(said) + "\n"]


def _average(result: Result) -> list[str]:
    """How its weights were averaged, where they were."""
    found = result.average
    if not found:
        return []
    how = {
        "ema": "Its weights are a moving average over the steps of training (decay {coefficient:g} at most).",
        "wise_ft": "Its weights are {coefficient:g} of the tuned and the rest of the starting ones, chosen on val.",
    }[found["how"]].format(**found)
    name, before, after = in_markdown(found["metric"]), found.get("before"), found.get("after")
    if before is None or after is None:
        return [how]
    return [f"{how} {name}: {metrics.text(found['metric'], before)} without that, "
            f"{metrics.text(found['metric'], after)} with it."]  # fmt: skip


def _scores(result: Result, chosen: Chosen | None) -> list[str]:
    runs = chosen.replicates if chosen else ()
    several = len(runs) > 1
    head = "| measure | this run |" + (f" mean of {len(runs)} runs | 95 % interval of the mean |" if several else "")
    rule = "| --- | ---: |" + (" ---: | ---: |" if several else "")
    rows = []
    for key, value in result.metrics.items():
        if not key.startswith(("test/", "shift/")) or not isinstance(value, int | float):
            continue
        name = key.rpartition("/")[2]
        metric = Metric(name)
        where = "" if key.startswith("test/") else f" (shift {key.split('/')[1]})"
        row = f"| {in_markdown(metric.title + where)} | {metric.text(metric.sign * value)} |"
        if several:
            found = [metric.sign * run.metrics[key] for run in runs if key in run.metrics]
            interval = t_interval(found) if found else None
            mean = metric.text(interval.mean) if interval else "–"
            row += f" {mean} | {metric.range(interval.low, interval.high) if interval else '–'} |"
        rows.append(row)
    seeds = (
        f"Runs that differ in seed or fold alone: {len(runs)}. Intervals are Student's t over them."
        if several
        else "One model: no interval over seeds."
    )
    shifts = "" if any(key.startswith("shift/") for key in result.metrics) else " No shifted test set was scored."
    return ["## Scores on the test set\n", head, rule, *rows, "", seeds + shifts + " " + _calibration(result) + "\n"]


def _calibration(result: Result) -> str:
    temperature = (result.calibration or {}).get("temperature")
    if not isinstance(temperature, int | float):
        why = (result.calibration or {}).get("no_temperature")
        return f"Probabilities were not calibrated{f': {in_markdown(why)}' if isinstance(why, str) else ''}."
    errors = (result.calibration or {}).get("calibration_error")
    each = errors.items() if isinstance(errors, Mapping) else ()
    told = "".join(
        f" Expected calibration error on {in_markdown(part)}: {pair[0]:.4g} before, {pair[1]:.4g} after."
        for part, pair in each
    )
    return (
        f"Dividing the outputs by {temperature:.4g} (the temperature with the least loss on val) calibrates them; they "
        f"are given undivided here.{told}"
    )


def _cost(result: Result) -> list[str]:
    cost = result.cost
    seconds = cost.get("total_seconds")
    parts = [f"{seconds:,.1f} s in all" if seconds is not None else "time not recorded"]
    if cost.get("train_flops") is not None:
        parts.append(f"{(cost.get('train_flops') or 0) + (cost.get('feature_flops') or 0):.3g} FLOPs")
    if cost.get("peak_memory_bytes"):
        parts.append(f"{cost['peak_memory_bytes'] / 1e9:.2f} GB of memory at most")
    if cost.get("trainable_parameters") is not None:
        parts.append(f"{cost['trainable_parameters']:,} of {cost.get('total_parameters', 0):,} parameters trained")
    return ["## What training cost\n", ", ".join(parts) + ".\n"]


def _origin(model: PlainModel) -> list[str]:
    weights = model.run.result.weights
    source = weights.source if weights else "?"
    began = (
        "Training began from random weights."
        if source == "none"
        else f"Training began from the weights {in_markdown(source)} (sha256 "
        f"{in_markdown(str(weights.sha256) if weights and weights.sha256 else 'not recorded')})."
    )
    return ["## Weights and licence\n", f"{began} {in_markdown(licence_of(model)[1])}\n"]


def _repeat(result: Result) -> list[str]:
    command = safe_command(" ".join(["headstart", "train", *_words(result.overrides)]), "headstart", "train")
    lines = ["## How to repeat it\n"]
    if command:
        lines.append(f"    {plain(command)}\n")
    return [*lines, f"Run {in_markdown(result.run_id)}; its directory repeats it exactly with `headstart rerun`.\n"]


def _words(overrides: Sequence[str]) -> list[str]:
    import shlex

    return [shlex.quote(str(word)) for word in overrides]
