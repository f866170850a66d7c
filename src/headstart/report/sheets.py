"""Tables of the comparison, filled from an analysis."""

from collections.abc import Sequence
from math import isfinite, nan

from headstart.report.analysis import BESIDE, Analysis, Difference, Summary
from headstart.report.crossover import Crossover
from headstart.report.design import Contender, Scene
from headstart.report.figures import place_text
from headstart.report.metric import Metric, number, p_text, scaled, seconds_text
from headstart.report.tables import Cell, Column, Table

COST_COLUMNS = (
    Column("trainable_parameters", "Trainable", True, "trainable parameters, mean over runs"),
    Column("train_seconds", "Training", True, "seconds of training of one run, mean over runs"),
    Column(
        "feature_seconds", "Features", True, "seconds of the frozen backbone's one pass, shared by all that read it"
    ),
    Column("train_flops", "FLOPs", True, "floating-point operations of training one run"),
    Column("peak_memory_bytes", "Memory", True, "peak memory of one run"),
    Column("total_seconds", "In all", True, "seconds of all runs of this row, failed ones too"),
)

BESIDE_COLUMNS = {
    "accuracy": ("Accuracy", True, "test, percent, mean over seeds"),
    "balanced_accuracy": (
        "Balanced",
        True,
        "balanced accuracy on test: the mean over classes; percent, mean over seeds",
    ),
    "macro_f1": ("Macro F1", True, "on test: the mean over classes; percent, mean over seeds"),
    "majority_accuracy": ("Majority", True, "test accuracy of always answering the class most frequent in training"),
}


def comparison(analysis: Analysis) -> Table:
    """One row a contender and scene: what it scored, with what certainty, at what cost."""
    design, metric, unit = analysis.design, analysis.design.metric, analysis.design.replicates.unit
    several_data = len({scene.dataset for scene in analysis.summaries}) > 1
    several_sizes = len({scene.n for scene in analysis.summaries}) > 1
    columns = [Column("contender", "Contender" if len(design.factors) > 1 else design.lead.capitalize())]
    columns += [Column("dataset", "Data")] * several_data
    columns += [Column("n_per_class", "Per class", True, "training examples a class")] * several_sizes
    columns += [
        Column("num_seeds", f"{unit.capitalize()}s", True), Column("mean", "Mean", True, f"mean over {unit}s"),
        Column("ci95_low,ci95_high", "95% t-interval", True, f"Student t-interval of the mean over {unit}s"),
        Column("median", "Median", True), Column("best", "Best", True),
        Column("worst", "Worst", True), Column("val_mean", "Val mean", True, "what settings were selected on"),
    ]  # fmt: skip
    beside = [
        name for name in BESIDE if any(name in row.beside for rows in analysis.summaries.values() for row in rows)
    ]
    columns += [Column(name, *BESIDE_COLUMNS[name]) for name in beside]
    columns += [Column("selected", "Settings"), *COST_COLUMNS]
    table = Table("comparison", f"Test {metric.heading} of the selected settings, with cost", columns, shown=400)
    for scene, rows in _largest_first(analysis):
        top = max(row.interval.mean for row in rows)
        for row in sorted(rows, key=lambda row: -row.interval.mean):
            cells: list[Cell | str] = [_contender(row.cell.contender)]
            cells += [scene.dataset] * several_data
            cells += [Cell(scene.size_text, scene.n)] * several_sizes
            cells += [
                Cell(str(row.interval.n), row.interval.n),
                Cell(metric.cell(row.interval.mean), metric.raw(row.interval.mean), row.interval.mean == top),
                interval_cell(metric, row.interval.low, row.interval.high),
                *(Cell(metric.cell(value), metric.raw(value)) for value in (row.median, row.best, row.worst, row.val)),
                *(_share_cell(row.beside.get(name, nan)) for name in beside), _selected(row), *_cost_cells(row),
            ]  # fmt: skip
            table.add(*cells)
    table.note = (
        f"Interval: mean ± t × standard error over {unit}s (95%, Student t). Bold: the highest mean of its data and "
        "size, whether or not it is clear of the next."
    )
    return table


def _share_cell(value: float) -> Cell:
    share = Metric("accuracy")
    return Cell(share.cell(value), share.raw(value))


def interval_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of scores, in the measure's own direction."""
    ends = tuple(sorted((metric.raw(low), metric.raw(high))) if isfinite(low) else (nan, nan))
    return Cell(metric.range(low, high).removesuffix("%"), ends)


def gap_cell(metric: Metric, low: float, high: float) -> Cell:
    """An interval of differences."""
    scale = 100 if metric.share else 1
    return Cell(f"{metric.gap(low)} to {metric.gap(high)}" if isfinite(low) else "–", (low * scale, high * scale))


def _largest_first(analysis: Analysis) -> list[tuple[Scene, list[Summary]]]:
    return sorted(analysis.summaries.items(), key=lambda item: (item[0].dataset, -item[0].n))


def _contender(contender: Contender) -> Cell:
    return Cell(contender.label, contender.label)


def _selected(row: Summary) -> Cell:
    assert row.cell.selected is not None
    tried = sum(bool(candidate.runs) for candidate in row.cell.candidates)
    text = row.cell.selected.label or "as given"
    return Cell(f"{text} (of {tried})" if tried > 1 else text, text)


def _cost_cells(row: Summary) -> list[Cell]:
    costs = row.costs
    return [
        Cell(scaled(costs["trainable_parameters"]), costs["trainable_parameters"]),
        Cell(seconds_text(costs["train_seconds"]), costs["train_seconds"]),
        Cell(seconds_text(costs["feature_seconds"]) if costs["feature_seconds"] else "–", costs["feature_seconds"]),
        Cell(scaled(costs["train_flops"]), costs["train_flops"]),
        Cell(scaled(costs["peak_memory_bytes"], "B", binary=True), costs["peak_memory_bytes"]),
        Cell(seconds_text(row.total_seconds), row.total_seconds),
    ]


def pairwise(analysis: Analysis, found: Sequence[Difference], name: str, place: str, unit: str = "") -> Table:
    """Paired differences with interval, exact p, Holm's, and probability of improvement."""
    metric = analysis.design.metric
    unit = unit or analysis.design.replicates.unit
    scale = 100 if metric.share else 1
    columns = [
        Column("better", "Ahead"), Column("other", "Behind"), Column("pairs", f"Paired {unit}s", True),
        Column("difference", "Difference", True), Column("ci95_low,ci95_high", "95% t-interval", True),
        Column("p", "p", True, "exact paired sign-flip test, two-sided"),
        Column("p_holm", "p (Holm)", True, "adjusted over the comparisons of this table"),
        Column("probability_of_improvement", "P(improvement)", True,
               "how often a run of the first scores above a run of the second"),
        Column("reading", "What that says"),
    ]  # fmt: skip
    table = Table(name, f"Differences in test {metric.title}{metric.unit and ' (points)'}: {place}", columns, shown=120)
    for d in found:
        interval = d.interval
        numbers = [interval.mean, interval.low, interval.high] if interval else [nan] * 3
        table.add(
            d.first.label, d.second.label, Cell(str(d.num_pairs), d.num_pairs),
            Cell(metric.gap(numbers[0]), numbers[0] * scale), gap_cell(metric, numbers[1], numbers[2]),
            Cell(p_text(d.p), d.p), Cell(p_text(d.p_adjusted), d.p_adjusted, d.clear),
            Cell(f"{d.improvement:.2f}", d.improvement), verdict(d, unit),
        )  # fmt: skip
    return table


def verdict(d: Difference, unit: str = "seed") -> str:
    """What a difference shows, in a few words."""
    if d.interval is None:
        return f"no {unit} on the same split in both" if d.unpaired else f"no {unit} in common"
    if not d.interval.known:
        return "one pair: no interval, no test"
    if d.clear:
        return "told apart at 5%"
    if d.interval.excludes_zero:
        return "interval excludes zero; test does not reach 5%"
    return "order open"


def ranking(analysis: Analysis) -> Table | None:
    """Contenders over data sets: mean of means, mean rank, interquartile mean."""
    across, metric = analysis.across, analysis.design.metric
    if across is None:
        return None
    columns = [
        Column("contender", "Contender"), *(Column(scene.dataset, scene.dataset, True) for scene in across.scenes),
        Column("mean", "Mean", True), Column("mean_rank", "Mean rank", True),
        Column("iqm", "IQM", True, "mean of the middle half of all runs"),
        Column("iqm_low,iqm_high", "95% bootstrap", True, "percentile bootstrap of runs within each data set"),
    ]  # fmt: skip
    table = Table("data-sets", f"Test {metric.heading} over {len(across.scenes)} data sets", columns)
    ranks = across.ranks.mean_ranks if across.ranks else [nan] * len(across.contenders)
    for i in sorted(range(len(across.contenders)), key=lambda i: -across.means[:, i].mean()):
        values = [*across.means[:, i], across.means[:, i].mean()]
        table.add(
            _contender(across.contenders[i]), *(Cell(metric.cell(float(v)), metric.raw(float(v))) for v in values),
            Cell(number(ranks[i], 3), ranks[i]),
            Cell(metric.cell(across.middle[i][0]), metric.raw(across.middle[i][0])),
            interval_cell(metric, *across.middle[i][1:]),
        )  # fmt: skip
    table.note = (
        "IQM: interquartile mean over all runs and data sets, with a stratified percentile bootstrap over runs "
        "(Agarwal et al. 2021). With few seeds such a bootstrap is too narrow: at 3 seeds it covers about 74%, at 5 "
        "about 84%."
    )
    return table


def crossovers(analysis: Analysis) -> Table | None:
    """Where each contender overtakes feature extraction."""
    if not analysis.crossovers:
        return None
    columns = [
        Column("contender", "Contender"), Column("reference", "Overtakes"), Column("dataset", "Data"),
        Column("crossover", "At examples a class", True), Column("low,high", "95% range", True),
        Column("seeds", f"{analysis.design.replicates.unit.capitalize()}s", True), Column("reading", "In words"),
    ]  # fmt: skip
    table = Table("crossovers", "Training size from which a contender is ahead of feature extraction", columns)
    for (dataset, reference, contender), c in analysis.crossovers.items():
        decided = c.low is None or c.high is None
        low, high = nan if decided or c.open_below else c.low, nan if decided or c.open_above else c.high
        text = "–" if decided else f"{_bound(low)} to {_bound(high)}"
        table.add(
            contender.label, reference.label, dataset, Cell(number(c.place, 2), nan if c.place is None else c.place),
            Cell(text, (low or nan, high or nan)), Cell(str(c.num_seeds), c.num_seeds), crossover_words(c),
        )  # fmt: skip
    table.note = (
        "The crossover is where the mean paired difference, drawn straight in log size between the sizes measured, "
        "turns positive. Its range holds every size at which the 95% t-interval of the difference holds zero."
    )
    return table


def _bound(value: float | None) -> str:
    return "open" if value is None or not isfinite(value) else number(value, 2)


def crossover_words(c: Crossover) -> str:
    """What a crossover says, in a few words."""
    if c.place is not None and c.ahead_at_largest:
        unsure = ", where exactly stays open" if c.open_below or c.open_above else ""
        return f"overtakes within the sizes measured{unsure}"
    if c.place is not None:
        return "ahead for a while, behind again at the largest size"
    if c.ahead_at_smallest and not c.ahead_at_largest:
        return "ahead at the smallest size, behind at the largest"
    where = "ahead" if c.ahead_at_largest else "behind"
    return f"{where} at every size measured" + ("" if c.low is None else ", though not clearly at all of them")


def shifts(analysis: Analysis, scene: Scene) -> Table | None:
    """Scores on the own and on shifted test sets."""
    found, metric = analysis.shifts.get(scene), analysis.design.metric
    if not found:
        return None
    names = sorted({name for values in found.values() for name in values})
    columns = [Column("contender", "Contender"), Column("test", "Own test set", True)]
    for name in names:
        columns += [Column(name, name, True), Column(f"{name}_low,{name}_high", "95% t-interval", True)]
        columns += [Column(f"{name}_change", "Change", True)]
    table = Table("shifts", f"Test {metric.heading} on the own and on shifted test sets: {place_text(scene)}", columns)
    for row in sorted(analysis.summaries[scene], key=lambda row: -row.interval.mean):
        inside, outside = row.interval.mean, found.get(row.cell.contender, {})
        cells: list[Cell | str] = [_contender(row.cell.contender), Cell(metric.cell(inside), metric.raw(inside))]
        for name in names:
            interval = outside.get(name)
            if interval is None:
                cells += ["–", Cell("–", (nan, nan)), "–"]
                continue
            cells += [Cell(metric.cell(interval.mean), metric.raw(interval.mean))]
            cells += [interval_cell(metric, interval.low, interval.high)]
            cells += [Cell(metric.gap(interval.mean - inside), (interval.mean - inside) * (100 if metric.share else 1))]
        table.add(*cells)
    return table


def budgets(analysis: Analysis, scene: Scene) -> Table | None:
    """Expected best validation score after 1, 2, 5, … settings, and the test score of the one selected."""
    found, metric = analysis.budgets.get(scene), analysis.design.metric
    if not found:
        return None
    most = max(len(budget.trials) for budget in found)
    steps = [n for n in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if n < most] + [most]
    columns = [Column("contender", "Contender"), Column("trials", "Settings tried", True)]
    columns += [Column(f"val_best_of_{n}", f"Best of {n}", True) for n in steps]
    columns += [Column("test_mean", "Test of the selected", True), Column("test_low,test_high", "95% t-interval", True)]
    title = f"Expected best val {metric.heading} by number of settings tried: {place_text(scene)}"
    table = Table("budgets", title, columns, note="Unbiased estimate without replacement (Tang et al. 2020).")
    for budget in found:
        values = [budget.unbiased[n - 1] if n <= len(budget.trials) else nan for n in steps]
        test = budget.selected_test
        table.add(
            _contender(budget.contender), Cell(str(len(budget.trials)), len(budget.trials)),
            *(Cell(metric.cell(value), metric.raw(value)) for value in values),
            Cell(metric.cell(test.mean), metric.raw(test.mean)), interval_cell(metric, test.low, test.high),
        )  # fmt: skip
    return table
