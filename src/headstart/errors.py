"""The one exception that stands for bad input, and the one condition of a machine that no run can help."""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from headstart.names import listed_or

Name = TypeVar("Name", bound=str)


class InputError(ValueError):
    """Something the user gave cannot be used; the message says the rule, the value and the remedy.

    Several problems found together are one error with several messages, so that all can be mended at once.
    """

    def __init__(self, *messages: str) -> None:
        self.messages = tuple(messages)
        super().__init__("\n".join(messages))

    def __reduce__(self):
        return type(self), self.messages


class LaunchError(RuntimeError):
    """What was to start the runs could not; they have not failed, and nothing is wrong with what was asked for.

    Args:
        what: What did not come about, as a sentence without its end.
        why: What was said of it, if anything.
    """

    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(
            f"{what}{f' ({why})' if why else ''}. What is done stays so. Mend what keeps it from starting and give the "
            "same command again, or use hydra/launcher=basic."
        )


def collect(checks: Iterable[Callable[[], object]]) -> None:
    """Run every check and raise the `InputError`s of all of them as one."""
    messages: list[str] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            messages += [message for message in error.messages if message not in messages]
    if messages:
        raise InputError(*messages)


def check_distinct(names: Sequence[Name], setting: str) -> list[Name]:
    """The names, or an `InputError` for those that stand there twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{setting} must name each once, but holds {', '.join(map(repr, twice))} more than once.")
    return list(names)


def unknown(what: str, value: object, choices: Iterable[str], meant: str | None = None) -> InputError:
    """An `InputError` that lists the choices and suggests the nearest, or that which is `meant`."""
    names = sorted(choices)
    near = [meant] if meant in names else _nearest(str(value), names)
    hint = f" Did you mean {listed_or(near)}?" if near else ""
    shown = ", ".join(names) if len(names) <= 40 else f"{', '.join((near or names)[:12])}, … ({len(names)} in all)"
    return InputError(f"Unknown {what} {str(value)!r}.{hint} Choices: {shown or 'none'}.")


def _nearest(value: str, names: Sequence[str]) -> list[str]:
    """Up to three of the names that are written much alike, or that hold the value."""
    from difflib import get_close_matches

    as_written = {name.casefold(): name for name in reversed(names)}
    typed = value.casefold()
    close = get_close_matches(typed, as_written, n=3)
    holding = [name for name in as_written if len(typed) > 2 and (typed in name or (len(name) > 2 and name in typed))]
    return [as_written[name] for name in dict.fromkeys([*close, *sorted(holding)])][:3]


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that a disk has no room left."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "PytorchStreamWriter failed writing" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
