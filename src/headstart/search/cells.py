"""From overrides to the cells of a comparison, each with its space, checked before anything is written."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from headstart.config import recorded, schema
from headstart.config.composer import Composer
from headstart.config.explanation import COMPOSITION_ERRORS, explained
from headstart.config.overrides import as_written, key_of, words
from headstart.config.schema import SearchConfig
from headstart.config.text_settings import keep_texts
from headstart.errors import InputError
from headstart.record.search import CellRecord
from headstart.record.variable import Variable
from headstart.run.job import Job
from headstart.run.prepare import job_config
from headstart.search.draws import check_method
from headstart.search.space import variable
from headstart.sweep.grid import Line, expand

log = logging.getLogger(__name__)

Prepare = Callable[[DictConfig], Job]
NOT_OF_A_CELL = re.compile(r"(seed|search([./]\w+)?)=")
"""Overrides that make no cell of their own."""
MOST_COMBINATIONS = 64
"""Of config groups that are searched: each is composed beforehand."""


@dataclass(frozen=True)
class Cell:
    """One cell of the comparison: one search."""

    record: CellRecord
    configs: Sequence[str]
    """YAML of the config at each combination of the groups that are searched; the default's first."""
    default: Job
    """The trial of the default setting."""


@dataclass(frozen=True)
class Outline:
    """The overrides of a cell, and what the user wants searched in it."""

    line: Line
    ranges: Mapping[str, Variable]
    seeds: Sequence[int]


class Drafts:
    """Composes and checks cells; all that is wrong with any of them is said together."""

    def __init__(
        self, loader: ConfigLoader, outlines: Sequence[Outline], search: SearchConfig, prepare: Prepare
    ) -> None:
        self.loader, self.outlines, self.search, self.prepare = loader, outlines, search, prepare
        lines = [set(outline.line) for outline in outlines]
        shared = set.intersection(*lines) if lines else set()
        self.composer = Composer(loader, common=[word for word in outlines[0].line if word in shared])

    def draw(self) -> list[Cell]:
        """Every cell, once.

        Raises:
            InputError: with everything that is wrong with any of them.
        """
        cells: dict[str, Cell] = {}
        problems: dict[str, list[str]] = {}
        for outline in self.outlines:
            try:
                cell = self._cell(outline)
                cells.setdefault(cell.record.cell, cell)
            except COMPOSITION_ERRORS as error:
                for message in explained(error, self.loader, outline.line).messages:
                    problems.setdefault(message, []).append(" ".join(outline.line))
            except InputError as error:
                for message in error.messages:
                    problems.setdefault(message, []).append(" ".join(outline.line))
        if problems:
            raise InputError(*(_in_cells(m, where, len(self.outlines)) for m, where in problems.items()))
        return list(cells.values())

    def _cell(self, outline: Outline) -> Cell:
        cfg, hydra = self.composer.compose(outline.line)
        ranges = outline.ranges or brought_ranges(cfg, outline.line)
        if not ranges:
            raise InputError(
                "A search needs something to search, but no range is given and no part brings any. Give one, such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-2))', or use search=none."
            )
        space = sorted(ranges.values(), key=lambda one: (not one.is_group, one.key))
        configs = [job_config(cfg, hydra), *self._bases(outline.line, space)]
        seed = outline.seeds[0] if outline.seeds else int(cfg.seed)
        default = self.prepare(trial_config(configs[0], {}, seed))
        values = {one.key: default_value(default.cfg, one) for one in space}
        refused = self._refused_edges(configs, space, seed)
        if outline.ranges and refused:
            raise InputError(*refused.values())
        space = [narrowed for one in space if (narrowed := _narrowed(one, values[one.key], refused)) is not None]
        if not space:
            raise InputError("A search needs something to search, but no range of this cell's parts is possible here.")
        check_method(self.search.method, space)
        record = CellRecord(
            cell=_name(default.run_id, space, self.search),
            overrides=list(outline.line),
            choices=dict(default.cfg.choices),
            space=[one.to_dict() for one in space],
            defaults=values,
            method=self.search.method,
            stopping=self.search.stopping,
            search_seed=self.search.seed,
            seed=seed,
            monitor=str(default.cfg.trainer.monitor),
            max_epochs=int(default.cfg.trainer.max_epochs),
            is_probe=default.is_probe,
        )
        return Cell(record, [recorded.dumped(one, resolve=False) for one in configs], default)

    def _bases(self, line: Line, space: Sequence[Variable]) -> list[DictConfig]:
        groups = [one for one in space if one.is_group]
        if not groups:
            return []
        if prod(len(one.values or ()) for one in groups) > MOST_COMBINATIONS:
            raise InputError(
                f"At most {MOST_COMBINATIONS} combinations of config groups can be searched, but "
                f"{', '.join(one.key for one in groups)} have more. List some of them to compare them."
            )
        bases = []
        for choice in combinations(space):
            added = [f"{key}={name}" for key, name in choice.items()]
            bases.append(job_config(*self.composer.compose([*line, *added])))
        return bases

    def _refused_edges(
        self, configs: Sequence[DictConfig], space: Sequence[Variable], seed: int
    ) -> dict[tuple[str, Any], str]:
        """Values at an end of a range, or choices, that no run can have, with why."""
        wrong: dict[tuple[str, Any], str] = {}
        chosen = combinations(space)
        for one in space:
            for value in one.edges():
                base, point = configs[0], {one.key: value}
                if one.is_group:
                    base = configs[1 + next(i for i, choice in enumerate(chosen) if choice[one.key] == value)]
                    point = {}
                try:
                    self.prepare(trial_config(base, point, seed))
                except (InputError, *COMPOSITION_ERRORS) as error:
                    found = error if isinstance(error, InputError) else explained(error, self.loader, [])
                    wrong[one.key, value] = f"{one} cannot be searched, as {value} is refused: {found}"
        return wrong


def _narrowed(one: Variable, default: Any, refused: Mapping[tuple[str, Any], str]) -> Variable | None:
    """A range that a part brings, up to its default where its end is not possible here; `None` if none is left."""
    bad = [value for value in one.edges() if (one.key, value) in refused]
    if not bad:
        return one
    left: Variable | None = None
    if one.values is not None:
        values = tuple(value for value in one.values if value not in bad)
        left = replace(one, values=values) if len(values) > 1 else None
    elif one.holds(default):
        low, high = (default if end in bad else end for end in (one.low, one.high))
        left = replace(one, low=low, high=high) if low < high else None
    how = f"searched as {left}" if left else "not searched"
    log.warning("%s; it is %s.", " ".join(refused[one.key, value] for value in bad).rstrip("."), how)
    return left


def outlines(loader: ConfigLoader, arguments: Sequence[str], params: Any, paired: Any, runs: Any) -> list[Outline]:
    """What is listed makes cells, in order, seeds aside; what is a range is searched in each of them.

    Raises:
        InputError: as `sweep.grid.expand`, and for ranges that cannot be searched.
    """
    parser = OverridesParser.create(config_loader=loader)

    def ranges_in(lines: Iterable[str]) -> tuple[dict[str, Variable], list[str]]:
        found: dict[str, Variable] = {}
        rest = []
        for one in parser.parse_overrides(list(lines)):
            sought = variable(one)
            if sought is None:
                rest.append(str(one.input_line))
            else:
                found[sought.key] = sought
        return found, rest

    typed, listed = ranges_in(arguments)
    named = {word.partition("=")[0] for word in arguments}
    brought = [f"{key}={'null' if value is None else value}" for key, value in params.items() if key not in named]
    more, others = ranges_in(brought)
    for key in paired:
        if ranges_in([f"{key}={paired[key]}"])[0]:
            raise InputError(f"hydra.sweeper.zip lists values that vary together, so {key} cannot be a range there.")
    found: dict[Line, Outline] = {}
    for line in runs or [""]:
        own, plain = ranges_in(words(str(line)))
        grid = expand(loader, [*others, *listed], {}, paired, [" ".join(plain)] if plain else [])
        for point in grid:
            rest = tuple(word for word in point if not NOT_OF_A_CELL.match(word))
            seeds = [int(word.partition("=")[2]) for word in point if word.startswith("seed=")][-1:]
            before = found.get(rest)
            known = list(before.seeds) if before else []
            found[rest] = Outline(rest, {**more, **own, **typed}, [*known, *seeds])
    _say_of_seeds(found.values())
    return list(found.values())


def _say_of_seeds(found: Iterable[Outline]) -> None:
    unused = max((len(set(outline.seeds)) for outline in found), default=0)
    if unused > 1:
        log.warning(
            "%d seeds are listed, but a search measures its trials on the first, its finalists on search.replicates "
            "seeds from there on, and its chosen settings on search.seeds fresh ones: the list is not used.",
            unused,
        )


def brought_ranges(cfg: DictConfig, line: Sequence[str]) -> dict[str, Variable]:
    """The ranges that the parts of a cell bring, but for settings that the line itself gives."""
    parser = OverridesParser.create()
    given = {key_of(word) for word in line}
    found: dict[str, Variable] = {}
    for group in schema.GROUPS:
        node = cfg.get(group)
        if not OmegaConf.is_dict(node) or schema.SPACE not in node:
            continue
        space = node[schema.SPACE]
        if not OmegaConf.is_dict(space):
            raise InputError(
                f"{group}.{schema.SPACE} must hold ranges by setting, such as {{lr: 'interval(1e-4,1e-2)'}}."
            )
        for key, text in schema.flatten(as_written(space), group):
            is_followed = key == "strategy.lr" and "optimizer.lr" in given  # which it would no longer set
            if key in given or is_followed:
                continue
            (override,) = parser.parse_overrides([f"{key}={text}"])
            sought = variable(override)
            if sought is None:
                raise InputError(
                    f"{group}.{schema.SPACE} must hold ranges, but {key} is {text}. Write interval(LOW,HIGH)."
                )
            found[key] = sought
    return found


def combinations(space: Sequence[Variable]) -> list[dict[str, Any]]:
    """Every combination of the config groups that are searched."""
    groups = [one for one in space if one.is_group]
    return [
        dict(zip([one.key for one in groups], point, strict=True))
        for point in product(*(one.values or () for one in groups))
    ]


def config_number(space: Sequence[Variable], params: Mapping[str, Any]) -> int:
    """Which of a cell's configs a point starts from; the default's is 0."""
    groups = {one.key: params[one.key] for one in space if one.is_group and one.key in params}
    return 1 + combinations(space).index(groups) if groups else 0


def trial_config(base: DictConfig, params: Mapping[str, Any], seed: int, is_trial: bool = True) -> DictConfig:
    """A cell's config with a point of its space and a seed set."""
    cfg = base.copy()
    added = []
    with open_dict(cfg):
        for key, value in params.items():
            added.append(f"{key}={value}")
            if key in schema.GROUPS:
                continue
            place = key.lstrip("+")
            if key == place and OmegaConf.select(cfg, place.rpartition(".")[0]) is None:
                raise InputError(f"{key} cannot be searched: there is no such setting here.")
            if key == place and place.rpartition(".")[2] not in OmegaConf.select(cfg, place.rpartition(".")[0]):
                raise InputError(f"{key} cannot be searched: there is no such setting here.")
            OmegaConf.update(cfg, place, value, force_add=key != place)
        cfg.seed, cfg.trial = seed, is_trial
        cfg.overrides = [*as_written(cfg.overrides), *added, f"seed={seed}"]
    keep_texts(cfg)
    return cfg


def default_value(cfg: DictConfig, one: Variable) -> Any:
    """What a setting is where nothing is searched."""
    if one.is_group:
        return cfg.choices.get(one.key)
    return OmegaConf.to_container(cfg, resolve=True) and OmegaConf.select(cfg, one.key.lstrip("+"))


def _name(run_id: str, space: Sequence[Variable], search: SearchConfig) -> str:
    """What a cell is: its default trial, what is searched and how. A larger budget goes on with the same search."""
    what = [run_id, [one.to_dict() for one in space], search.method, search.stopping, search.seed]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _in_cells(message: str, where: Sequence[str], number: int) -> str:
    if len(where) == number:
        return message
    return f"{message} (in {len(where)} of {number} cells, such as: {where[0]})"
