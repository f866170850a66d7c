"""What a search varies: settings with their ranges, as Hydra's grammar writes them."""

import math
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep, Sweep

from headstart.config import schema
from headstart.errors import InputError
from headstart.record.variable import CHOOSABLE, Variable

GROUPS = frozenset({"strategy", "unfreeze", "augmentation", "optimizer", "scheduler", "head", "task", "backbone"})
"""Groups whose settings can be searched."""
TRAINER = frozenset({"trainer.batch_size", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"})
FIXED = frozenset({"backbone.model", "backbone.weights", "backbone.weights_key", "task.monitor"})
TAGS = frozenset({"log", "search"})


def variable(override: Override) -> Variable | None:
    """What an override lets a search vary; `None` if it gives one value, or lists several to compare.

    A range or an interval is searched, and so is a choice that is tagged: `tag(search,choice(a,b))`.

    Raises:
        InputError: for an empty or inverted range, a log scale that reaches 0, or a setting that cannot be searched.
    """
    sweep = override.value()
    if not isinstance(sweep, Sweep):
        return None
    is_range = isinstance(sweep, (RangeSweep, IntervalSweep))
    if not is_range and not sweep.tags:
        return None
    key, line = override.key_or_group, str(override.input_line)
    _check_key(key, line)
    unknown = sorted(map(str, sweep.tags - TAGS))
    if unknown:
        raise InputError(f"{line} has a tag that means nothing here: {', '.join(unknown)}. Tags are log and search.")
    log = "log" in sweep.tags
    if isinstance(sweep, ChoiceSweep):
        values = tuple(_plain(value) for value in sweep.list)
        if log or len(set(map(repr, values))) < 2:
            raise InputError(f"{line} must give at least two values, without tag log, such as tag(search,choice(1,2)).")
        return Variable(key, values=values)
    if key in schema.GROUPS:
        raise InputError(f"{line} must list configs of the group: {key}=tag(search,choice(a,b)).")
    if isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        whole = isinstance(low, int) and isinstance(high, int)
        assert low is not None
        assert high is not None
        found = Variable(key, low, high, None, log, whole)
    else:
        assert isinstance(sweep, RangeSweep)
        found = _of_range(key, line, sweep, log)
    _check_range(found, line)
    return found


def _of_range(key: str, line: str, sweep: RangeSweep, log: bool) -> Variable:
    """Hydra's ranges end before their stop."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if log:
        raise InputError(f"{line} has steps, and so no log scale: write tag(log,interval(LOW,HIGH)).")
    if step <= 0:
        raise InputError(f"{line} must go up, with a step above 0, but its step is {step}.")
    number = math.ceil((stop - start) / step - 1e-9)
    if number < 2:
        raise InputError(f"{line} must have at least two values, and end above its start, but has {max(number, 0)}.")
    whole = all(isinstance(one, int) for one in (start, stop, step))
    return Variable(key, start, start + (number - 1) * step, step, False, whole)


def _check_range(found: Variable, line: str) -> None:
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        raise InputError(f"{line} must have finite ends.")
    if found.low >= found.high:
        raise InputError(f"{line} must have its lower end first, and the other above it: it holds no range.")
    if found.log and found.low <= 0:
        raise InputError(f"{line} must begin above 0, as it is on a log scale, but begins at {found.low:g}.")


def _check_key(key: str, line: str) -> None:
    """Raise `InputError` for what cannot vary within a search."""
    group, _, rest = key.lstrip("+").partition(".")
    is_setting = group in GROUPS and rest != "" and rest.rpartition(".")[2] != "_target_"
    can = key in CHOOSABLE or key in TRAINER or is_setting
    if can and key not in FIXED:
        return
    why = "a search varies settings of parts that train"
    if key == "seed":
        why = "search.seeds and search.replicates say on how many seeds a setting is measured"
    elif group in ("data", "split", "backbone", "strategy", "task"):
        why = "each of its values is a comparison of its own: list them, as in a,b"
    elif key in ("trainer.max_epochs", "trainer.max_steps"):
        why = "the length of training is what a trial costs: list the lengths to compare them"
    raise InputError(
        f"{line} cannot be searched: {why}. Ranges can be given for settings of {', '.join(sorted(GROUPS))}, and for "
        f"{', '.join(sorted(TRAINER))}."
    )


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
