"""What qualifies an answer: cost, less data, shift, selection, what is missing and what the data cannot tell."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from statistics import fmean

from headstart.metrics import title
from headstart.names import plural
from headstart.report.analysis import Analysis
from headstart.report.crossover import WIDEST_STEP, Crossover
from headstart.report.design import Condition, Contender
from headstart.report.differences import Difference
from headstart.report.evidence import BETTER, EQUAL, LEVEL
from headstart.report.factors import interactions, turns
from headstart.report.metric import BASELINES, Metric, number, p_equals, scaled, seconds_text
from headstart.report.reading import STATUSES, Run, SweepRecords
from headstart.report.scored import Summary
from headstart.report.sizes import BySize


def where(condition: Condition) -> str:
    """`on openmoji with 40 examples a class`."""
    return f"on {condition.dataset}" + (f" with {condition.sized}" if condition.sized else "")


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
    equal = [row for row in cheaper if against[row.cell.contender].verdict == EQUAL]
    row = min(equal or cheaper, key=lambda row: row.costs["seconds"])
    ratio = price / row.costs["seconds"] if row.costs["seconds"] > 0 else inf
    together = "together " * (row.costs["feature_seconds"] > 0)
    times = f" ({together}{number(ratio, 2)} times less)" if isfinite(ratio) and ratio >= 1.1 else ""
    takes = f"{row.label} takes {training(row.costs)}{times}"
    d = against[row.cell.contender]
    if equal:
        return f"{text} {takes}, and is practically equal."
    if d.interval is None:
        return f"{text} {takes}; the two could not be paired."
    gap = metric.gap(d.interval.mean, signed=False) + metric.unit
    behind = d.seen_from(leader.cell.contender) > 0
    if d.verdict == BETTER and behind:
        return f"{text} The cheapest, {takes} and is {gap} worse."
    side = "behind" if behind else "ahead"
    return f"{text} The cheapest, {takes}; it is {gap} {side}, and whether it is worse cannot be told."


def with_less_data(analysis: Analysis, dataset: str) -> str | None:
    """At which sizes a contender is shown to be ahead of feature extraction or behind it, and where the order turns."""
    found = {key: by_size for key, by_size in analysis.by_size.items() if key[0] == dataset}
    said = [_by_size(analysis, contender, reference, by) for (_, reference, contender), by in found.items()]
    if not said:
        return None
    crossed = any(by.overtakes or by.overtaken for by in found.values())
    text = " ".join(said[:6]) + (f" For {len(said) - 6} more, see the table." if len(said) > 6 else "")
    return text if crossed else f"{text} No crossover is shown."


def _by_size(analysis: Analysis, contender: Contender, reference: Contender, by: BySize) -> str:
    places: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for n in sorted(by.sizes):
        places[by.sizes[n].state].append(number(n, 3))
    if not places[1] and not places[-1]:
        return f"{contender.label} and {reference.label} cannot be told apart at any size."
    words = {1: "better", -1: "worse", 0: "not told apart"}
    every = [state for state in (1, -1) if len(places[state]) == len(by.sizes)]
    if every:
        text = f"{contender.label} is {words[every[0]]} than {reference.label} at every size measured"
    else:
        parts = [f"{words[state]} with {listing(places[state], 8)}" for state in (1, -1, 0) if places[state]]
        text = f"{contender.label} against {reference.label}, by examples a {by.group}: {'; '.join(parts)}"
    for crossing, one, other in ((by.overtakes, contender, reference), (by.overtaken, reference, contender)):
        if crossing is not None:
            text += f". {one.label} overtakes {other.label} {crossing_text(crossing, by.group)}"
    return text + "."


def crossing_text(c: Crossover, group: str = "class") -> str:
    """`between 10 and 20 examples a class, at about 14 if both curves are straight there (in log size)`."""
    text = f"between {number(c.low, 3)} and {number(c.high, 3)} examples a {group}"
    if c.place is not None:
        return f"{text}, at about {number(c.place, 2)} if the curves are straight in log size there"
    if c.wide:
        return f"{text}; sizes more than {WIDEST_STEP:g} times apart say no more of where"
    return text


def under_shift(analysis: Analysis, condition: Condition) -> str | None:
    """Who is told apart from the leader on each shifted test set."""
    found, metric = analysis.shifts.get(condition, {}), analysis.design.metric
    if not found or len(analysis.summaries[condition]) < 2:
        return None
    leader, said = analysis.leader(condition).cell.contender, []
    for name, shifted in found.items():
        ahead = [(c, gap) for c, (gap, clear) in shifted.against.items() if clear and gap > 0]
        behind = [c for c, (gap, clear) in shifted.against.items() if clear and gap < 0]
        if ahead:
            shown = [f"{c.label} ({metric.gap(gap)}{metric.unit})" for c, gap in ahead]
            said.append(f"on {name}, {listing(shown)} {'is' if len(ahead) == 1 else 'are'} better than {leader.label}")
        elif behind and len(behind) == len(shifted.against):
            rest = "the other" if len(behind) == 1 else f"all {len(behind)} others"
            said.append(f"on {name}, {leader.label} is better than {rest}")
        elif behind:
            said.append(f"on {name}, {leader.label} is better than {listing([c.label for c in behind])}")
        else:
            said.append(f"on {name}, none is told apart from {leader.label}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def together(analysis: Analysis) -> str | None:
    """Whether what one factor does depends on another, and where an order is shown to turn."""
    said = []
    for found in interactions(analysis):
        depends = "depends on" if found.p <= LEVEL else "is not shown to depend on"
        said.append(f"the effect of {found.first} {depends} {found.second} ({p_equals(found.p)})")
    text = f"{'; '.join(said[:6])}." if said else ""
    text = text[:1].upper() + text[1:]
    orders: dict[tuple[str, str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for turn in turns(analysis):
        better, worse = orders.setdefault((turn.ahead, turn.behind, turn.factor), ({}, {}))
        better[turn.here] = worse[turn.there] = None
    for (ahead, behind, factor), (better, worse) in list(orders.items())[:3]:
        text += f" {ahead} is better than {behind} with {factor} {listing([*better])}, worse with {listing([*worse])}."
    return text.strip() or None


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
    """The runs that each contender stands with, in all conditions."""
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


def constant_answer(rows: Sequence[Summary], metric: Metric) -> str | None:
    """What one constant answer would score, and who is not above that."""
    names = dict.fromkeys(name for row in rows for name in row.beside if name.startswith(BASELINES))
    # by the measure that runs are compared by, or else the first there is
    name = next((name for name in names if name.partition("_")[2] == metric.name), next(iter(names), None))
    if name is None:
        return None
    known = [(row, row.beside[name]) for row in rows if name in row.beside]
    other = Metric.fitting(name.partition("_")[2], (score for _, score in known))
    other = metric if other.name == metric.name else other
    value = other.text(other.sign * known[0][1])
    below = [row.cell.contender.label for row, score in known if _own(row, metric, other) <= other.sign * score]
    if name.startswith("majority_"):
        text = f"Always answering the class most frequent in training (on average, of equal ones) is right in {value}"
        return text + (f"; no more accurate than that: {listing(below)}." if below else ".")
    text = f"One and the same answer, the best for training, would come to {other.title} {value}"
    return text + (f"; no better than that: {listing(below)}." if below else ".")


def _own(row: Summary, metric: Metric, other: Metric) -> float:
    """A row's score by another measure than it is compared by, more being better."""
    if other.name == metric.name:
        return row.interval.mean
    return other.sign * row.beside[other.name] if other.name in row.beside else inf


FRESH = (
    "Scores, intervals and verdicts are of fresh seeds alone, on which no setting was selected: they are free of the "
    "luck of having been selected."
)


def _settings_selection(analysis: Analysis, rows: Sequence[Summary]) -> str | None:
    """What was tried by whom, whether that is fair, and what selection does to scores."""
    tried = [row.num_tried for row in rows]
    if max(tried) < 2:
        return FRESH if analysis.design.fresh else None
    metric = analysis.design.metric
    count = str(tried[0]) if len(set(tried)) == 1 else f"{min(tried)} to {max(tried)}"
    text = (
        f"Each contender stands with the settings that were best on mean validation {metric.title}, of {count} tried."
    )
    if max(tried) > 2 * min(tried):
        most, least = (f(rows, key=lambda row: row.num_tried) for f in (max, min))
        text += (
            f" {most.label} tried {most.num_tried}, {least.label} {least.num_tried}: whoever tries more finds better "
            "settings, and luckier ones; compare them at the same number."
        )
    gaps = [row.val - row.interval.mean for row in rows if isfinite(row.val) and row.num_tried > 1]
    if gaps:
        lead = " Validation scores of what was selected are too high for having been selected (here by "
        lead += f"{metric.gap(fmean(gaps))}{metric.unit} against test, on average)."
        text += lead if fmean(gaps) > 0 else " Validation scores of what was selected are too high for that."
    if analysis.design.fresh:
        return f"{text} {FRESH}"
    return text + (
        " Test scores did not select settings; but the best of several contenders is partly the luckiest, and only new "
        "seeds show its score without that: the comparison's command with --fresh-seeds runs what was selected anew."
    )


def copies(records: SweepRecords) -> str | None:
    """That test examples have exact copies in train or val, or that one content has several labels."""
    done = [run for run in records.runs if run.completed and run.copies]
    shares = [run.copies.get("test_in_train_or_val", 0) / max(1, run.sizes.get("test", 1)) for run in done]
    torn = max((run.copies.get("two_labels", 0) for run in done), default=0)
    parts = []
    if affected := sum(share > 0 for share in shares):
        runs = f"{affected} of {plural(len(records.runs), 'run')}" if len(records.runs) > 1 else "the run"
        parts.append(
            f"In {runs}, up to {max(shares):.0%} of the test examples have an exact copy in train or val: scores are "
            "too high by what was remembered."
        )
    if torn:
        parts.append(f"{torn:,.0f} contents stand under several labels.")
    return " ".join(parts) or None


def completeness(records: SweepRecords) -> str:
    """How many runs there are a result of."""
    total, done = len(records.runs), records.count("completed")
    if done == total:
        return f"All {plural(total, 'run')} completed." if total > 1 else "The run completed."
    rest = [f"{records.count(status):,} {status}" for status in STATUSES[1:] if records.count(status)]
    return f"{done:,} of {plural(total, 'run')} completed; {listing(rest)}."
