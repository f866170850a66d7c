"""Which weights the backbones of the runs began from, in a comparison of weights. Contents count, not names."""

from collections import defaultdict
from collections.abc import Sequence

from headstart.report.datasets import shortest
from headstart.report.reading import Run

SOURCE, PLACE = "backbone.weights", "backbone.weights_key"
"""Overrides that say which weights; the settings of results do not keep them."""


def read_weights(runs: Sequence[Run]) -> list[str]:
    """A name for each run's weights: equal for equal contents; `?` where a run has not told, and no like run has."""
    given = [_given(run) for run in runs]
    known = [_content(run, place) for run, (_, place) in zip(runs, given, strict=True)]
    told = {(_setup(run), words): it for run, words, it in zip(runs, given, known, strict=True) if it}
    contents = [
        it or told.get((_setup(run), words), " ".join(filter(None, words)))
        for run, words, it in zip(runs, given, known, strict=True)
    ]
    words_of: dict[str, tuple[str, str]] = {}
    for content, run, (source, place) in zip(contents, runs, given, strict=True):
        words_of.setdefault(content, (source or run.weights.partition(" ")[0], place))
    names = _told_apart(words_of)
    return [names[content] if content else "?" for content in contents]


def _told_apart(words_of: dict[str, tuple[str, str]]) -> dict[str, str]:
    """By as little as does it: the place in the file, the ends of paths, both, or else the contents' checksum."""
    sources = list(dict.fromkeys(source for source, _ in words_of.values()))
    ends = dict(zip(sources, shortest(sources, 1), strict=True)) if len(sources) > 1 else dict.fromkeys(sources, "")
    names = {
        content: " ".join(filter(None, (ends[source], place))) or source
        for content, (source, place) in words_of.items()
    }
    alike: dict[str, list[str]] = defaultdict(list)
    for content, name in names.items():
        alike[name].append(content)
    return {
        content: name if len(alike[name]) == 1 else f"{name} {content.replace('sha256:', '')[:6]}"
        for content, name in names.items()
    }


def _given(run: Run) -> tuple[str, str]:
    words = dict(word.lstrip("+").partition("=")[::2] for word in run.overrides)
    return words.get(SOURCE, "").strip("'\""), words.get(PLACE, "").strip("'\"")


def _content(run: Run, place: str) -> str:
    """With the place in the file, which earlier results did not keep."""
    it = run.weights_content
    return f"{it} {place}" if it and place and " " not in it else it


def _setup(run: Run) -> tuple[str, ...]:
    return tuple(run.choices.get(name, "") for name in ("strategy", "backbone"))
