"""What the data of the runs is called. Contents make a data set, not names."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.report.reading import Run

PLACES = ("data.root", "data.path", "data.dataset")
"""Settings that say where data lies; results do not keep them, but the overrides do."""


@dataclass(slots=True)
class Data:
    """A name for each run's data, and what there is to say of that."""

    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Names of contents that one and the same place had at different times, each with the name of that place."""


def read_data(runs: Sequence[Run]) -> Data:
    """Name the data: the same contents under several names is one data set, others under the same name are several."""
    first: dict[str, Run] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.fingerprint:
            first.setdefault(run.fingerprint, run)
            names[run.fingerprint] += [_name(run)] * (_name(run) not in names[run.fingerprint])
    found = Data()
    labels: dict[str, str] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for fingerprint, (name, *more) in names.items():
        alike[name].append(fingerprint)
        if more:
            found.notes.append(f"{' and '.join([name, *more])} are the same data, and shown as {name}.")
    for name, fingerprints in alike.items():
        places = [_place(first[fingerprint]) for fingerprint in fingerprints]
        several = len(fingerprints) > 1
        shown = shortest(places) if len(set(places)) == len(places) and all(places) else None
        for i, fingerprint in enumerate(fingerprints):
            labels[fingerprint] = name if not several else shown[i] if shown else f"{name} {fingerprint[:6]}"
        if several and not shown:
            found.versions |= {labels[fingerprint]: name for fingerprint in fingerprints}
            found.notes.append(
                f"{name} was not the same data in all runs; each content is shown as a data set, and averages over "
                "data sets take one of them."
            )
        elif several and shown:
            found.notes.append(f"{' and '.join(shown)} are different data of the same name.")
    seen: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        if run.fingerprint:
            seen[run.choices.get("data", "")].add(labels[run.fingerprint])
    for run in runs:  # one that told nothing has the data of all others with its choice, if that is one
        others = seen[run.choices.get("data", "")] if not run.dataset else set()
        found.names.append(labels.get(run.fingerprint) or (min(others) if len(others) == 1 else _name(run)))
    found.notes.sort()
    return found


def _name(run: Run) -> str:
    return run.dataset or run.choices.get("data") or "data"


def _place(run: Run) -> str:
    given = dict(word.lstrip("+").partition("=")[::2] for word in run.overrides)
    return next((given[key].strip("'\"") for key in PLACES if key in given), "")


def shortest(places: Sequence[str], least: int = 2) -> list[str]:
    """The ends of paths, from as few names as tell them apart, but `least`."""
    parts = [place.rstrip("/").split("/") for place in places]
    for count in range(least, max(map(len, parts)) + 1):
        ends = ["/".join(part[-count:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return list(places)
