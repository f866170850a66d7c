"""What qualifies an answer: cost, less data, shift, selection, what is missing and what the data cannot tell."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, isfinite

from headstart.metrics import title
from headstart.report.analysis import Analysis, Difference, Summary
from headstart.report.crossover import Crossover
from headstart.report.design import Contender, Scene
from headstart.report.metric import Metric, number, p_text, plural, scaled, seconds_text
from headstart.report.reading import STATUSES, Ledger, Run
from headstart.report.statistics import Interval, pairs_needed, smallest_p


def where(scene: Scene) -> str:
    """`on openmoji with 40 examples a class`."""
    return f"on {scene.dataset}" + (f" with {scene.n:g} examples a class" if scene.n < inf else "")


def listing(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`, with the number of the rest where there are many."""
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def training(costs: Mapping[str, float]) -> str:
    """`45 s`, or `0.04 s on features that took 2.7 s once for all`."""
    shared = ""
    if costs["feature_seconds"] > 0:
        shared = f" on features that took {seconds_text(costs['feature_seconds'])} once for all"
    return seconds_text(costs["train_seconds"]) + shared


def own_cost(row: Summary) -> str | None:
    costs = row.costs
    if not isfinite(costs["train_seconds"]):
        return None
    trained = f", {scaled(costs['trainable_parameters'])} trainable parameters" * isfinite(
        costs["trainable_parameters"]
    )
    return (
        f"One run of {row.cell.contender.label} trained for {training(costs)}{trained}; "
        f"all its runs here, whatever their settings, took {seconds_text(row.total_seconds)}."
    )


def cost(
    analysis: Analysis, leader: Summary, others: Sequence[Summary], against: Mapping[Contender, Difference]
) -> str | None:
    """The leader's cost, and the cheapest contender: what it gives up, or that it gives up nothing that shows.

    Each is charged for its features in full, though others may have shared them.
    """
    text = own_cost(leader)
    price = leader.costs["seconds"]
    cheaper = [row for row in others if row.costs["seconds"] < price]
    if text is None:
        return None
    if not cheaper:
        return f"{text} None of the others trained faster."
    metric = analysis.design.metric
    equal = [row for row in cheaper if (i := against[row.cell.contender].interval) and i.known and not i.excludes_zero]
    row = min(equal or cheaper, key=lambda row: row.costs["seconds"])
    ratio = price / row.costs["seconds"] if row.costs["seconds"] > 0 else inf
    gap = metric.gap(leader.interval.mean - row.interval.mean, signed=False) + metric.unit
    together = "together " * (row.costs["feature_seconds"] > 0)
    times = f" ({together}{number(ratio, 2)} times less)" if isfinite(ratio) and ratio >= 1.1 else ""
    if equal:
        return f"{text} {row.cell.contender.label}, not shown to be worse, takes {training(row.costs)}{times}."
    return (
        f"{text} The cheapest, {row.cell.contender.label}, takes {training(row.costs)}{times} and scores {gap} lower."
    )


def with_less_data(analysis: Analysis, leader: Summary, scene: Scene) -> str | None:
    """Where the leader (or, if feature extraction leads, anything) passes feature extraction."""
    found = {key: c for key, c in analysis.crossovers.items() if key[0] == scene.dataset}
    if not found:
        return None
    for (_, reference, contender), c in found.items():
        if contender is not leader.cell.contender:
            continue
        if c.place is not None and c.ahead_at_largest:
            place = f"at about {number(c.place, 2)} examples a class{_range(c, analysis.design.replicates.unit)}"
            return f"{contender.label} overtakes {reference.label} {place}."
        state = "ahead of" if c.ahead_at_smallest and c.ahead_at_largest else None
        if state:
            doubt = "" if c.low is None else ", though not clearly at all of them"
            return f"{contender.label} is {state} {reference.label} at every size measured{doubt}."
    passed = [key[2].label for key, c in found.items() if c.ahead_at_largest]
    if leader.cell.contender.lead == "feature_extraction" and not passed:
        return f"No contender overtakes {leader.cell.contender.label} at any size measured."
    return None


def _range(c: Crossover, unit: str) -> str:
    if c.num_seeds < 2 or c.low is None or c.high is None:
        return f" (one {unit}, so no range)" if c.num_seeds < 2 else ""
    if c.open_below and c.open_above:
        return "; the data leave open where, within the sizes measured"
    if c.open_below:
        return f" (95% range: up to {number(c.high, 2)}, open below)"
    if c.open_above:
        return f" (95% range: from {number(c.low, 2)}, open above)"
    low, high = number(c.low, 2), number(c.high, 2)
    return f" (95% range {low} to {high})" if low != high else ""


def limits(analysis: Analysis, d: Difference, against: Sequence[Difference]) -> str | None:
    metric, interval = analysis.design.metric, d.interval
    pairs, family, repeats = d.num_pairs, max(1, d.family), analysis.design.replicates
    parts = []
    if interval is None or not interval.known:
        parts.append("With fewer than two pairs of runs there is no telling any difference from chance.")
    else:
        blind = metric.gap(interval.half_width, signed=False) + metric.unit
        if interval.std > 0:
            parts.append(
                f"With {repeats.count(pairs)} that vary as these do, a difference below {blind} between the first two "
                "cannot be shown."
            )
    floor = smallest_p(pairs)
    if pairs > 1 and floor * family > 0.05:
        need = pairs_needed(num_comparisons=family)
        after = f" ({p_text(min(1.0, floor * family))} after Holm)" if family > 1 else ""
        parts.append(
            f"With {pairs} pairs the smallest p that the exact test can give is {p_text(floor)}{after}, so no "
            f"difference could reach 5%; that takes at least {repeats.count(need)}"
            + (f" for {family} comparisons." if family > 1 else ".")
        )
    if any(x.unpaired for x in against):
        parts.append("Some contenders ran on different splits and could not be paired.")
    parts.append(repeats.meaning)
    return " ".join(parts)


def under_shift(analysis: Analysis, scene: Scene) -> str | None:
    """Who is ahead on each shifted test set, where it is not the one ahead on the own."""
    found, metric = analysis.shifts.get(scene, {}), analysis.design.metric
    names = sorted({name for values in found.values() for name in values})
    if len(found) < 2 or not names:
        return None
    leader = analysis.best(scene).cell.contender
    tops = {name: _top(found, name, leader) for name in names}
    moved = [
        f"{tops[name].label} on {name} ({metric.text(found[tops[name]][name].mean)})"
        for name in names
        if tops[name] is not leader
    ]
    if not moved:
        return f"{leader.label} has the highest mean on {'every' if len(names) > 1 else 'the'} shifted test set too."
    return f"Another has the highest mean: {listing(moved)}."


def _top(found: Mapping[Contender, Mapping[str, Interval]], name: str, leader: Contender) -> Contender:
    """Who has the highest mean on a shifted test set; the leader, if nobody has a higher one."""
    return max((c for c in found if name in found[c]), key=lambda c: (found[c][name].mean, c is leader))


def selection(analysis: Analysis, rows: Sequence[Summary]) -> str | None:
    """What settings were selected by, where there were several, and what epochs were, where it is another measure."""
    return " ".join(filter(None, [_settings_selection(analysis, rows), _epoch_selection(analysis)])) or None


def _epoch_selection(analysis: Analysis) -> str | None:
    runs = selected_runs(analysis)
    counts = Counter(run.monitor for found in runs.values() for run in found)
    if set(counts) <= {f"val/{analysis.design.metric.name}"}:
        return None
    if len(counts) == 1:
        return f"The epoch of each run is the one that was best on validation {title(next(iter(counts)))}."
    shares = [f"validation {title(monitor)} in {plural(count, 'run')}" for monitor, count in counts.most_common()]
    return f"The epoch of a run is the one that was best on {listing(shares)}."


def selected_runs(analysis: Analysis) -> dict[Contender, list[Run]]:
    """The runs that each contender stands with, in all scenes."""
    found: dict[Contender, list[Run]] = {}
    for rows in analysis.summaries.values():
        for row in rows:
            assert row.cell.selected is not None
            found.setdefault(row.cell.contender, []).extend(row.cell.selected.runs.values())
    return found


def phases(analysis: Analysis) -> str | None:
    """Contenders whose selected epochs come before their strategy was at work in full, or whose plan was not ended."""
    parts = []
    for contender, runs in selected_runs(analysis).items():
        known = [run.phases for run in runs if run.phases is not None]
        head = sum(p.head_only[p.best] and not p.head_only[-1] for p in known)
        early = sum(p.best < p.planned - 1 for p in known) - head
        ended = sum(p.reached < p.planned for p in known)
        said = [f"in {head} the epoch selected comes before anything but the head had trained"] * (head > 0)
        which = "it" if head else "the epoch selected"
        said += [f"in {early} {which} comes before all that the plan thaws had begun to train"] * (early > 0)
        said += [f"in {ended} training ended before the plan's last phase"] * (ended > 0)
        if said:
            parts.append(f"Of {plural(len(runs), 'run')} of {contender.label}, {listing(said)}.")
    return " ".join(parts) or None


def majority(rows: Sequence[Summary], metric: Metric) -> str | None:
    """What always giving the most frequent answer would score, and who is not above that."""
    known = [(row, row.beside["majority_accuracy"]) for row in rows if "majority_accuracy" in row.beside]
    if not known:
        return None
    text = f"Always answering the class that is most frequent in training would be right in {known[0][1]:.1%}"
    below = [
        row.cell.contender.label
        for row, score in known
        if (row.interval.mean if metric.name == "accuracy" else row.beside.get("accuracy", inf)) <= score
    ]
    return text + (f"; no more accurate than that: {listing(below)}." if below else ".")


def _settings_selection(analysis: Analysis, rows: Sequence[Summary]) -> str | None:
    tried = [sum(bool(candidate.runs) for candidate in row.cell.candidates) for row in rows]
    if max(tried) < 2:
        return None
    count = str(tried[0]) if len(set(tried)) == 1 else f"{min(tried)} to {max(tried)}"
    measure = f"mean validation {analysis.design.metric.title}"
    return f"Each contender stands with the settings that were best on {measure}, of {count} tried."


def copies(ledger: Ledger) -> str | None:
    """That test examples have exact copies in train or val, or that one content has several labels."""
    done = [run for run in ledger.runs if run.completed and run.copies]
    shares = [run.copies.get("test_in_train_or_val", 0) / max(1, run.sizes.get("test", 1)) for run in done]
    torn = max((run.copies.get("two_labels", 0) for run in done), default=0)
    parts = []
    if affected := sum(share > 0 for share in shares):
        runs = f"{affected} of {plural(len(ledger.runs), 'run')}" if len(ledger.runs) > 1 else "the run"
        parts.append(
            f"In {runs}, up to {max(shares):.0%} of the test examples have an exact copy in train or val: scores are "
            "too high by what was remembered."
        )
    if torn:
        parts.append(f"{torn:,.0f} contents stand under several labels.")
    return " ".join(parts) or None


def completeness(ledger: Ledger) -> str:
    """How many runs there are a result of."""
    total, done = len(ledger.runs), ledger.count("completed")
    if done == total:
        return f"All {plural(total, 'run')} completed." if total > 1 else "The run completed."
    rest = [f"{ledger.count(status):,} {status}" for status in STATUSES[1:] if ledger.count(status)]
    return f"{done:,} of {plural(total, 'run')} completed; {listing(rest)}."
