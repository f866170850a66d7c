"""What a search looks like in a terminal: what will be searched and at what expense, how far it is, what was chosen."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from headstart.config.schema import SearchConfig
from headstart.metrics import shown
from headstart.names import in_console, plural
from headstart.progress import bar, duration
from headstart.record.directory import SweepDirectory
from headstart.record.search import CELL, cells_of
from headstart.record.variable import Variable
from headstart.report.importance import importances
from headstart.search.cells import Cell
from headstart.search.halving import epochs_in_all, rungs
from headstart.search.standing import NUM_BEST, Budget, Standing, budget_words, fresh_seeds, words_of
from headstart.system.bounded import DamagedError


def show_plan(sweep: SweepDirectory, cells: Sequence[Cell], search: SearchConfig) -> None:
    """Every cell with its space and budget, how far it is, and what the rest may cost, as far as that is known."""
    console = _console()
    for cell in cells:
        there = (sweep.search / cell.record.cell / CELL).is_file()
        standing = Standing(sweep, cell.record.cell, search) if there else None
        if standing is not None:
            standing.look()
        name = " ".join(cell.record.overrides) or "the default setting"
        console.print(f"[bold]{in_console(name)}[/]")
        for one in map(Variable.from_dict, cell.record.space):
            default = cell.record.defaults.get(one.key)
            console.print(f"  {in_console(str(one))}  [dim](default {in_console(str(default))})[/]")
        console.print(f"  {_spent(standing, cell, search)}")
    times = (search.replicates - 1) * (NUM_BEST + 1)
    console.print(
        f"\n{plural(len(cells), 'search', 'searches')} by {search.method}, "
        f"{budget_words(search, Budget.of(search).amount)} each; then in "
        f"each at most {times} runs to choose among {NUM_BEST + 1} finalists, and {search.seeds} to "
        f"{2 * search.seeds} on fresh seeds, scored on test."
    )


def _spent(standing: Standing | None, cell: Cell, search: SearchConfig) -> str:
    heads = "; heads that train together" if cell.record.is_probe else ""
    if standing is None:
        amount = Budget.of(search).amount
        if cell.record.is_probe and Budget.of(search).unit == "trials":
            amount = max(amount, search.probes)
        return f"{budget_words(search, amount)}{_epochs(cell, search)}, none done{heads}"
    rest = standing.expected_rest()
    left = f", about {duration(rest)} one after the other" if rest else ""
    return f"{budget_words(search, standing.amount, standing.spent)} spent{left}{heads}"


def _epochs(cell: Cell, search: SearchConfig) -> str:
    """About how many epochs a number of trials trains, as far as that can be told before any has run."""
    record, budget = cell.record, Budget.of(search)
    if record.is_probe or budget.unit != "trials":
        return ""
    ends = rungs(record.max_epochs, search.reduction)
    if search.stopping == "none" or len(ends) == 1:
        return f" of {plural(record.max_epochs, 'epoch')}"
    total = epochs_in_all(budget.amount, ends, search.reduction, NUM_BEST + 1)
    whole = f"{budget.amount * ends[-1]:g}"
    return f" of up to {plural(ends[-1], 'epoch')}, about {total:.0f} in all (without halving {whole})"


def show_standing(sweep: SweepDirectory, search: SearchConfig | None = None) -> bool:
    """How far each search in a directory is; false if there is none."""
    console = _console()
    found = list(cells_of(sweep))
    if not found:
        return False
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("search", "trials", "under way", "best on val", "by"):
        table.add_column(column, overflow="fold")
    standings = []
    for record, _ in found:
        standing = Standing(sweep, record.cell, search or SearchConfig())
        try:
            standing.look()
        except DamagedError as error:
            table.add_row(in_console(standing.record.label), f"[red]{in_console(str(error))}[/]")
            continue
        standings.append(standing)
        best = standing.best
        value = None if best is None else standing.value(best)
        ended = sum(trial.number in standing.ended for trial in standing.drawn)
        again = len(standing.trials) - len(standing.drawn)
        failed = sum(not done.is_completed and done.status == "failed" for done in standing.ended.values())
        told = f"{ended} ended" + (f", {again} again" if again else "") + (f", {failed} failed" if failed else "")
        table.add_row(
            in_console(standing.record.label),
            told,
            str(len(standing.open)) + (f", {len(standing.paused)} paused" if standing.paused else ""),
            "" if value is None else shown(record.monitor, value),
            "" if best is None else in_console(_point(standing, best.number)),
        )
    console.print(table)
    for standing in standings:
        scored = [(one.params, one.value) for one in standing.tried() if one.value is not None]
        shares = importances(standing.space, scored, standing.is_maximized)
        if shares:
            told = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
            console.print(f"[dim]what matters in {in_console(standing.record.label)}: {in_console(told)}[/]")
    console.print()
    return True


def show_chosen(standings: Sequence[Standing]) -> None:
    """What each cell's search came to, before it is run anew."""
    console = _console()
    console.print("\nChosen on val, and run anew on fresh seeds with the default:")
    for standing in standings:
        chosen, means = standing.chosen, standing.means()
        share = bar(min(1.0, standing.share), 10)
        if chosen is None:
            console.print(
                f"  {in_console(standing.record.label)}  {share}  no trial has a score; the default is run alone"
            )
            continue
        mean = shown(standing.record.monitor, means[chosen.number])
        default = "" if 0 not in means or not chosen.number else f", default {shown(standing.record.monitor, means[0])}"
        console.print(
            f"  {in_console(standing.record.label)}  {share}  {plural(len(standing.drawn), 'setting')} tried: "
            f"{in_console(_point(standing, chosen.number))} ({mean}{default})"
        )
        passed_over = best_mean(standing)
        if not chosen.number and passed_over:
            better = shown(standing.record.monitor, means[passed_over])
            console.print(f"    trial {passed_over} has {better} on the mean, but is not clearly ahead of the default")
        point = chosen.params or standing.record.defaults
        at_bound = [one.key for one in standing.space if chosen.number and one.is_at_bound(point.get(one.key))]
        if at_bound:
            console.print(f"    at the end of its range: {in_console(', '.join(at_bound))}; a wider one may be better")
    seeds = {seed for standing in standings for seed in fresh_seeds(standing.record, standing.search)}
    console.print(f"  seeds {min(seeds)} to {max(seeds)}\n")


def best_mean(standing: Standing) -> int:
    """The finalist that would be chosen if the best mean were; of equals the default, or the earlier one."""
    sign, means = 1 if standing.is_maximized else -1, standing.means()
    return max(means, key=lambda number: (sign * means[number], -number))


def _point(standing: Standing, number: int) -> str:
    trial = next(one for one in standing.trials if one.number == number)
    return " ".join(words_of(trial.params)) if number else "the default"


def _console() -> Console:
    return Console(highlight=False, emoji=False, soft_wrap=True)
