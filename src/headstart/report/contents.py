"""What the report holds, section by section: every section has its figures and tables, or says why it has none."""

from collections.abc import Iterable
from dataclasses import dataclass

from headstart.names import plural
from headstart.record.directory import SweepDirectory
from headstart.report import curves, figures, pair_sheets, pictures, run_sheets, searches, sheets
from headstart.report.analysis import Analysis
from headstart.report.answer import Answer
from headstart.report.design import Condition
from headstart.report.differences import ALL_PAIRS_UP_TO
from headstart.report.exhibits import Exhibits
from headstart.report.figures import Looks, place_text
from headstart.report.html import Page, Section
from headstart.report.qualifications import completeness
from headstart.report.reading import SweepRecords
from headstart.report.reproducibility import checklist, controlled
from headstart.report.style import Drawing, looks, palette
from headstart.report.sureness import sureness
from headstart.report.tables import Table

MOST_CONDITIONS = 6
"""Data sets that get figures of their own; tables have all."""


@dataclass(slots=True)
class Contents:
    """The page, and all tables and drawings that are written beside it."""

    page: Page
    tables: list[Table]
    drawings: list[Drawing]


@dataclass(slots=True)
class Maker:
    """What every section is made from."""

    records: SweepRecords
    analysis: Analysis
    exhibits: Exhibits
    looks: Looks
    seconds: Drawing | None = None
    """Score against training seconds, which stands beside the answer."""

    @property
    def stages(self) -> list[Condition]:
        """Each data set's largest training size, the focus first: the conditions that get figures."""
        largest = {
            condition.dataset: condition
            for condition in sorted(self.analysis.summaries, key=lambda condition: condition.n)
        }
        focus = self.analysis.focus
        if focus is not None:
            largest = {
                focus.dataset: focus,
                **{name: condition for name, condition in largest.items() if name != focus.dataset},
            }
        return list(largest.values())

    def drawn(self, make: Iterable[Drawing | None]) -> list[Drawing]:
        """The drawings that could be made."""
        return [drawing for drawing in make if drawing is not None]

    def name(self, kind: str, condition: Condition) -> str:
        """A file name for a figure of a condition, numbered where there are several."""
        place = self.stages.index(condition)
        return kind if place == 0 else f"{kind}-{place + 1}"


def compose_page(records: SweepRecords, analysis: Analysis, words: Answer, exhibits: Exhibits) -> Contents:
    """Make every figure and table and put them in order."""
    maker = Maker(records, analysis, exhibits, looks(analysis.design.contenders))
    hero: list[Drawing] = []
    if analysis.focus is not None:
        hero = [figures.scores(analysis, analysis.focus, maker.looks, "scores")]
        if analysis.across is not None:
            hero = [*maker.drawn([figures.ranks(analysis.across, "ranks")]), *hero]
        else:
            name = _cost_name("seconds")
            maker.seconds = figures.pareto(analysis, analysis.focus, maker.looks, "seconds", name)
            hero += maker.drawn([maker.seconds])
    parts = (
        _completeness, _comparison, _differences, _data_sets, _examples, _cost, _less_data, _budget, _shifted, _inside,
        _failures, _reproducibility,
    )  # fmt: skip
    sections = [part(maker) for part in parts]
    if any(SweepDirectory(place).search.is_dir() for place in records.directories):
        sections.insert(2, searches.section(records))
    notes = [*records.notes, *analysis.design.notes, *exhibits.notes]
    page = Page(records.name, _facts(maker), words, hero, sections, _condensed(notes), _swatches(maker.looks))
    tables = [table for section in sections for table in (*section.tables, *section.folded)]
    return Contents(page, tables, hero + [drawing for section in sections for drawing in section.drawings])


def _condensed(notes: list[str], most: int = 30) -> list[str]:
    unique = list(dict.fromkeys(notes))
    return (
        unique
        if len(unique) <= most
        else [*unique[:most], f"… and {len(unique) - most} more like these, in summary.json."]
    )


def _cost_name(cost: str) -> str:
    return f"cost-{cost.replace('_', '-')}"


def _facts(maker: Maker) -> list[str]:
    runs, analysis = maker.records.runs, maker.analysis
    repeats = analysis.design.replicates
    facts = [plural(len(runs), "run"), plural(len(analysis.design.contenders), "contender")]
    facts += [repeats.count(len(repeats.names))] if repeats.unit != "run" else []
    datasets = list(dict.fromkeys(condition.dataset for condition in analysis.design.conditions))
    facts.append(", ".join(datasets) if len(datasets) <= 4 else plural(len(datasets), "data set"))
    facts += [value for key, value in analysis.design.constants.items() if key == "backbone"]
    days = sorted({run.finished[:10] for run in runs if len(run.finished) >= 10})
    if days:
        facts.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    return facts


def _swatches(looks: Looks) -> dict[str, str]:
    names = {light: name for name, (light, _, _) in palette().items()}
    return {contender.label: names[look.color] for contender, look in looks.items()}


def _completeness(maker: Maker) -> Section:
    table = run_sheets.grid(maker.records, maker.analysis)
    return Section("completeness", "Completeness", completeness(maker.records), tables=[table])


def _comparison(maker: Maker) -> Section:
    section = Section("comparison", "Comparison")
    if not maker.analysis.summaries:
        section.missing = "No completed run has a test score, so there is nothing to compare."
        return section
    section.drawings = [
        figures.scores(maker.analysis, condition, maker.looks, maker.name("scores", condition))
        for condition in maker.stages[1:MOST_CONDITIONS]
    ]
    section.tables = [
        table
        for table in (
            sheets.comparison(maker.analysis),
            sheets.factors(maker.analysis),
            sheets.settings(maker.analysis),
        )
        if table
    ]
    sure = None if maker.analysis.focus is None else sureness(maker.analysis, maker.analysis.focus)
    section.folded = [sure] if sure else []
    return section


def _differences(maker: Maker) -> Section:
    section = Section("differences", "Differences, in pairs")
    analysis = maker.analysis
    conditions = [condition for condition in analysis.differences if analysis.differences[condition]]
    if not conditions:
        section.missing = "There are no two contenders with scores in the same place, so nothing can be paired."
        return section
    section.lead = (
        f"Each difference is taken between runs of the same {_same(maker)}split, so what a lucky split gives to both "
        f"drops out. {controlled(analysis)}"
    )
    if any(len(analysis.summaries[condition]) > ALL_PAIRS_UP_TO for condition in conditions):
        section.lead += (
            f" With more than {ALL_PAIRS_UP_TO} contenders, those with the leader are shown; all pairs are tested, and "
            "counted in the adjustment."
        )
    section.drawings = maker.drawn(
        figures.differences(analysis, condition, maker.looks, maker.name("differences", condition))
        for condition in maker.stages[:MOST_CONDITIONS]
    )
    conditions.sort(key=lambda condition: (condition != analysis.focus, condition.dataset, -condition.n))
    for place, condition in enumerate(conditions):
        name = "differences" if place == 0 else f"differences-{condition.dataset}-{condition.size_text}"
        table = pair_sheets.pairwise(analysis, analysis.differences[condition], _file_name(name), place_text(condition))
        (section.folded if place else section.tables).append(table)
    return section


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in text)[:80]


def _same(maker: Maker) -> str:
    unit = maker.analysis.design.replicates.unit
    return {"run": "seed, fold and ", "split": ""}.get(unit, f"{unit} on the same ")


def _data_sets(maker: Maker) -> Section:
    section, across = Section("data-sets", "Over data sets"), maker.analysis.across
    if across is None:
        section.missing = (
            "One data set was run (or no two contenders share several), so there is nothing to average over."
        )
        return section
    if across.ranks is None:
        section.missing = "With two contenders there are no ranks to test; the paired differences below say all."
    ranking = pair_sheets.ranking(maker.analysis)
    assert ranking is not None
    place = "means of data sets"
    pairs = pair_sheets.pairwise(maker.analysis, across.differences, "data-set-differences", place, "data set")
    section.tables = [ranking, pairs]
    return section


def _examples(maker: Maker) -> Section:
    section, exhibits = Section("examples", "The first two on the same test examples"), maker.exhibits
    if exhibits.pair is None or not exhibits.examples:
        section.missing = (
            "There are no two contenders to compare."
            if exhibits.pair is None
            else f"{exhibits.pair[0].label} and {exhibits.pair[1].label} kept no predictions on the same test examples."
        )
        return section
    section.tables = [run_sheets.example_tests(exhibits.examples, *exhibits.pair, maker.analysis.design)]
    return section


def _cost(maker: Maker) -> Section:
    section, condition = Section("cost", "Score against cost"), maker.analysis.focus
    if condition is not None:
        section.drawings = maker.drawn(
            figures.pareto(maker.analysis, condition, maker.looks, cost, _cost_name(cost))
            for cost in figures.COSTS
            if maker.seconds is None or cost != "seconds"
        )
    if maker.seconds is not None:
        section.lead = f"Test {maker.analysis.design.metric.title} against training seconds is drawn beside the answer."
    elif not section.drawings:
        section.missing = "Fewer than two contenders have both a score and a recorded cost."
    return section


def _less_data(maker: Maker) -> Section:
    section, analysis = Section("less-data", "With less data"), maker.analysis
    datasets = list(dict.fromkeys(condition.dataset for condition in maker.stages))[:MOST_CONDITIONS]
    section.drawings = maker.drawn(
        curves.low_data(analysis, dataset, maker.looks, f"low-data{'' if i == 0 else f'-{i + 1}'}")
        for i, dataset in enumerate(datasets)
    )
    if table := pair_sheets.crossovers(analysis):
        section.tables = [table]
    if section.empty:
        section.missing = (
            "Every contender was trained with one size of training set, so there is no curve to draw. A comparison "
            "with, say, split.n_per_class=5,10,20,50 has one."
        )
    elif not section.tables:
        section.lead = (
            "There is no feature extraction to overtake at two sizes or more, so no crossover was looked for."
        )
    return section


def _budget(maker: Maker) -> Section:
    section, condition = Section("budget", "What the search for settings bought"), maker.analysis.focus
    if condition is not None and condition in maker.analysis.budgets:
        section.drawings = maker.drawn([curves.budgets(maker.analysis, condition, maker.looks, "budgets")])
        table = pair_sheets.budgets(maker.analysis, condition)
        section.tables = [table] if table else []
    if section.empty:
        section.missing = (
            "No contender tried three settings or more, so there is no budget curve. A comparison with, say, "
            "optimizer.lr=3e-4,1e-3,3e-3 has one."
        )
    return section


def _shifted(maker: Maker) -> Section:
    section, condition = Section("shifts", "Shifted test sets"), maker.analysis.focus
    if condition is not None and condition in maker.analysis.shifts:
        section.drawings = maker.drawn([curves.shifts(maker.analysis, condition, maker.looks, "shifts")])
        table = pair_sheets.shifts(maker.analysis, condition)
        section.tables = [table] if table else []
    if section.empty:
        section.missing = "No shifted test set was scored. Name some in data.shifts, and each run scores them too."
    return section


def _inside(maker: Maker) -> Section:
    """Learning curves and plans of all contenders; classes and examples of the best run."""
    section, exhibits, condition = Section("inside", "Inside the runs"), maker.exhibits, maker.analysis.focus
    if condition is None or exhibits.best is None:
        section.missing = "No run completed, so there is nothing to look into."
        return section
    section.drawings = maker.drawn([
        curves.learning(exhibits.curves, maker.analysis.design.metric, condition, maker.looks),
        pictures.plans(exhibits.plans, maker.looks),
        pictures.confusion(exhibits.details, exhibits.best_label, "confusion") if exhibits.details else None,
    ])  # fmt: skip
    absent = [
        name for name, there in (
            ("histories", exhibits.curves), ("thaw plans", exhibits.plans), ("per-class results", exhibits.details),
            ("hardest examples", exhibits.hardest),
        ) if not there
    ]  # fmt: skip
    section.lead = (
        f"Classes and examples are those of {exhibits.best_label}, the leader's run with the best validation score "
        f"({place_text(condition)})."
    )
    if absent:
        section.lead += f" The runs kept no {' and no '.join(absent)}."
    if exhibits.details is not None:
        section.tables = [run_sheets.per_class(exhibits.details, exhibits.best_label)]
    section.hardest = exhibits.hardest
    return section


def _failures(maker: Maker) -> Section:
    section = Section("runs", "Failures, and how to repeat each run")
    section.failures = run_sheets.failures(maker.records)[:20]
    if table := run_sheets.failure_table(maker.records):
        section.tables = [table]
    else:
        section.lead = "No run failed and none is missing."
    section.folded = [run_sheets.all_runs(maker.records, maker.analysis)]
    return section


def _reproducibility(maker: Maker) -> Section:
    items, notes = checklist(maker.analysis, maker.records), run_sheets.notes(maker.records)
    return Section("reproducibility", "Reproducibility", items=items, tables=[notes] if notes else [])
