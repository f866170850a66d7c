"""What a range on the command line means, and which are refused."""

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from headstart.errors import InputError
from headstart.record.variable import Variable
from headstart.search.draws import Draws, check_method
from headstart.search.model import Model, most_telling
from headstart.search.space import variable
from headstart.search.tried import Tried


def parsed(text: str) -> Variable | None:
    return variable(OverridesParser.create().parse_override(text))


def test_a_range_is_searched_and_a_list_compared():
    assert parsed("optimizer.lr=tag(log,interval(1e-5,1e-2))") == Variable("optimizer.lr", 1e-5, 1e-2, log=True)
    assert parsed("head.dropout=interval(0,1)") == Variable("head.dropout", 0.0, 1.0)
    assert parsed("head.hidden=int(interval(8,64))") == Variable("head.hidden", 8, 64, whole=True)
    assert parsed("strategy.last_k=range(1,6)") == Variable("strategy.last_k", 1, 5, 1, whole=True)
    assert parsed("head.dropout=range(0,1,0.25)") == Variable("head.dropout", 0, 0.75, 0.25)
    assert parsed("scheduler=tag(search,choice(cosine,constant))") == Variable(
        "scheduler", values=("cosine", "constant")
    )
    for listed in ("optimizer.lr=1e-3,1e-2", "optimizer.lr=choice(1e-3,1e-2)", "optimizer.lr=1e-3"):
        assert parsed(listed) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("seed=range(0,3)", "search.seeds"),
        ("data.size=range(32,64,8)", "list them"),
        ("data=tag(search,choice(a,b))", "list them"),
        ("trainer.max_epochs=range(1,5)", "what a trial costs"),
        ("optimizer.lr=interval(1,0)", "lower end first"),
        ("optimizer.lr=interval(1,1)", "holds no range"),
        ("optimizer.lr=tag(log,interval(0,1))", "must begin above 0"),
        ("strategy.last_k=range(3,1)", "at least two values"),
        ("strategy.last_k=range(1,2)", "at least two values"),
        ("optimizer.lr=tag(log,range(1,5))", "no log scale"),
        ("optimizer.lr=tag(search,choice(1))", "at least two values"),
        ("optimizer.lr=tag(logarithmic,interval(1,2))", "Tags are log and search"),
        ("scheduler=interval(0,1)", "configs of the group"),
    ],
)
def test_what_cannot_be_searched_is_refused(text: str, why: str):
    with pytest.raises(InputError, match=why):
        parsed(text)


SPACE = [
    Variable("optimizer.lr", 1e-5, 1e-1, log=True),
    Variable("head.hidden", 4, 64, log=True, whole=True),
    Variable("head.dropout", 0.0, 0.75, 0.25),
    Variable("scheduler", values=("cosine", "constant")),
]


def played(method: str, number: int, key: str = "0/cell", space: list[Variable] | None = None) -> list[dict]:
    """Points that are drawn one after the other, the score being best at a rate of 1e-3."""
    space, points, tried = space or SPACE, [], []
    for trial in range(1, number + 1):
        point = Draws(space, method, key, maximize=True).next(trial, tried)
        if point is None:
            break
        points.append(point)
        score = -abs(math.log10(point.get("optimizer.lr", 1.0)) + 3)
        tried.append(Tried(point, score))
    return points


@pytest.mark.parametrize("method", ["random", "qmc", "tpe", "gp"])
def test_the_same_history_gives_the_same_draw_whoever_draws(method: str):
    points = played(method, 12)
    assert points == played(method, 12)
    assert points != played(method, 12 if method != "gp" else 2, key="1/cell")
    assert len({repr(point) for point in points}) == 12
    for point in points:
        assert all(one.holds(point[one.key]) for one in SPACE)


def test_cma_es_goes_by_generations_and_draws_the_same_whoever_draws():
    pytest.importorskip("cmaes")
    points = played("cmaes", 40, space=SPACE[:3])
    assert points == played("cmaes", 40, space=SPACE[:3])
    off = [abs(math.log10(point["optimizer.lr"]) + 3) for point in points]
    assert sorted(off[25:])[7] < sorted(off[:10])[5]


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (SPACE, "scheduler is chosen by name"),
        (SPACE[:1], "at least two ranges"),
        (SPACE[:2], "pip install 'headstart\\[cmaes\\]'"),
    ],
)
def test_cma_es_needs_numbers_two_of_them_and_its_package(
    space: list[Variable], why: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headstart.search.draws.find_spec", lambda name: None)
    with pytest.raises(InputError, match=why):
        check_method("cmaes", space)
    check_method("tpe", space)


def test_of_a_long_history_the_best_and_the_latest_are_looked_at():
    model = Model(SPACE[:1], "tpe", maximize=False)
    tried = [Tried({"optimizer.lr": 1e-3}, float((n * 7) % 1000)) for n in range(1000)]
    kept = [trial.number for trial in most_telling(model._trials(tried), maximize=False)]
    assert kept == sorted(kept)
    assert set(range(500, 1000)) <= set(kept)
    best = sorted(range(500), key=lambda n: tried[n].value or 0.0)[:25]
    assert set(kept) == {*best, *range(500, 1000)}


def test_a_model_draws_near_what_was_good():
    late = [abs(math.log10(point["optimizer.lr"]) + 3) for point in played("tpe", 40)[20:]]
    blind = [abs(math.log10(point["optimizer.lr"]) + 3) for point in played("random", 40)[20:]]
    assert sorted(late)[10] < sorted(blind)[10]


def test_no_point_is_drawn_twice_and_a_small_space_comes_to_its_end():
    space = [Variable("strategy.last_k", 1, 3, 1, whole=True), Variable("scheduler", values=("a", "b"))]
    for method in ("random", "qmc", "tpe"):
        points = played(method, 10, space=space)
        assert len(points) == 6
        assert len({repr(sorted(point.items())) for point in points}) == 6


def test_what_is_drawn_before_a_model_knows_anything_lies_around_the_default():
    defaults = {"optimizer.lr": 1e-2, "head.hidden": 1000, "head.dropout": 0.5, "scheduler": "cosine"}
    rate, hidden, _, name = (
        [Draws(SPACE, "tpe", "0/cell", True, defaults).next(n, [])[one.key] for n in range(1, 11)] for one in SPACE
    )
    shares = [SPACE[0].share(value) for value in rate]  # the default's is 0.75
    assert 0.55 < sum(shares) / 10 < 0.8  # cut off at 1, so a little below
    assert all(0.1 < share < 1 for share in shares)
    assert min(hidden) < 8 < 32 < max(hidden)  # a default that the range does not hold
    assert {"cosine", "constant"} == set(name)
    evenly = [Draws(SPACE, "qmc", "0/cell", True, defaults).next(n, [])["optimizer.lr"] for n in range(1, 11)]
    assert min(SPACE[0].share(value) for value in evenly) < 0.2


def test_a_draw_among_a_thousand_is_quick():
    import time

    draws = Draws(SPACE, "tpe", "0/cell", maximize=True)
    tried = [Tried(Draws(SPACE, "random", "k", True).next(n, []) or {}, float(n % 17)) for n in range(1, 1000)]
    draws.next(1000, tried[:-1])  # the study is built
    began = time.perf_counter()
    draws.next(1001, tried)
    assert time.perf_counter() - began < 1.0  # some 15 to 30 ms on a machine of its own


def test_a_value_near_the_end_of_its_range_is_told():
    rate = Variable("optimizer.lr", 1e-5, 1e-1, log=True)
    assert rate.is_at_bound(8e-2)
    assert rate.is_at_bound(1e-5)
    assert not rate.is_at_bound(1e-3)
