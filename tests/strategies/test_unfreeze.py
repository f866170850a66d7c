"""What each unfreeze schedule thaws when, and what it refuses."""

from itertools import pairwise

import pytest

from headstart.errors import InputError
from headstart.strategies.plan import Plateau
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart, Gradual, HeadFirst, Never, OnPlateau, Phases

GROUPS = ("stem", "a", "b", "c", "tail")


def seen(windows):
    return [(window.start, window.thawed) for window in windows]


def test_never_thaws_nothing():
    assert seen(Never().windows(GROUPS, 5)) == [(0, ())]


def test_at_start_thaws_everything_at_once():
    assert seen(AtStart().windows(GROUPS, 5)) == [(0, GROUPS)]


def test_gradual_thaws_from_the_head_down_until_all_are_thawed():
    assert seen(Gradual(every=1).windows(GROUPS, 6)) == [(n, GROUPS[5 - n :] if n else ()) for n in range(6)]


def test_gradual_takes_several_groups_at_a_time_and_the_rest_at_last():
    windows = Gradual(every=3, num_groups=2).windows(GROUPS, 20)
    assert seen(windows) == [(0, ()), (3, ("c", "tail")), (6, ("a", "b", "c", "tail")), (9, GROUPS)]


@pytest.mark.parametrize(("every", "max_epochs", "remedy"), [(1, 5, "num_groups=2"), (2, 7, "num_groups=2")])
def test_gradual_refuses_a_thaw_after_the_last_epoch_and_its_remedies_work(every, max_epochs, remedy):
    with pytest.raises(InputError) as caught:
        Gradual(every=every).windows(GROUPS, max_epochs)
    message = str(caught.value)
    assert remedy in message
    assert "stem, a, b, c, tail" in message
    assert f"max_epochs={5 * every + 1} or more" in message
    Gradual(every=every).windows(GROUPS, 5 * every + 1)
    Gradual(every=every, num_groups=2).windows(GROUPS, max_epochs)


def test_gradual_does_not_propose_more_groups_where_none_are_enough():
    with pytest.raises(InputError) as caught:
        Gradual(every=4).windows(GROUPS, 3)
    assert ", or unfreeze.num_groups=" not in str(caught.value)


@pytest.mark.parametrize("max_epochs", range(2, 40))
@pytest.mark.parametrize(
    ("num_groups", "count"), [(1, 1), (1, 2), (1, 5), (1, 13), (1, 26), (2, 2), (2, 13), (6, 13), (6, 26)]
)
def test_gradual_spreads_its_thaws_over_the_epochs_there_are(max_epochs, num_groups, count):
    groups = tuple(f"g{number}" for number in range(count))
    windows = Gradual(num_groups=num_groups).windows(groups, max_epochs)
    starts = [window.start for window in windows]
    assert starts[0] == 0
    assert windows[0].thawed == ()
    assert windows[-1].thawed == groups
    lengths = {after - before for before, after in pairwise([*starts, max_epochs])}
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1
    sizes = [len(after.thawed) - len(before.thawed) for before, after in pairwise(windows)]
    most = max(num_groups, -(-count // (max_epochs - 1)))
    assert all(size == most for size in sizes[:-1])
    assert 0 < sizes[-1] <= most


def test_gradual_needs_an_epoch_for_the_head_and_one_for_the_rest():
    with pytest.raises(InputError, match="must be 2 or more"):
        Gradual().windows(GROUPS, 1)


def test_gradual_says_how_it_spreads_its_thaws():
    groups = dict.fromkeys(GROUPS, ("weight",))
    strategy = Strategy(lr=0.1)
    assert Gradual().remark(strategy.plan(groups, Gradual(), 3)) == (
        "unfreeze.every=auto: 2 thaws, of at most 3 groups, are spread over 3 epochs."
    )
    assert Gradual(every=1).remark(strategy.plan(groups, Gradual(every=1), 9)) == ""


@pytest.mark.parametrize("schedule", [Gradual(every=1, num_groups=6), OnPlateau(num_groups=6)])
def test_more_groups_at_a_time_than_there_are_is_refused(schedule):
    with pytest.raises(InputError, match=r"at most the number of groups that train, 5, but is 6.*stem, a, b, c, tail"):
        schedule.windows(GROUPS, 50)


def test_on_plateau_waits_in_every_phase_but_the_last():
    windows = OnPlateau(patience=2, min_delta=0.1, num_groups=3, restore_best=True).windows(GROUPS, 20)
    waits = Plateau(2, 0.1, "val/loss", True)
    assert seen(windows) == [(0, ()), (None, ("b", "c", "tail")), (None, GROUPS)]
    assert [window.until for window in windows] == [waits, waits, None]


def test_on_plateau_refuses_where_not_even_the_quickest_plateaus_fit():
    OnPlateau(patience=1).windows(GROUPS, 11)  # each phase takes a best epoch and one without improvement
    with pytest.raises(InputError, match=r"max_epochs=10.*stem, a, b, c, tail.*max_epochs=11 or more"):
        OnPlateau(patience=1).windows(GROUPS, 10)


def test_head_first_scales_everything_in_the_second_phase():
    first, second = HeadFirst(epochs=2, rate=0.1).windows(GROUPS, 3)
    assert seen([first, second]) == [(0, ()), (2, GROUPS)]
    assert first.scale == {}
    assert second.scale == dict.fromkeys([*GROUPS, "head"], 0.1)


def test_head_first_refuses_when_no_epoch_is_left():
    with pytest.raises(InputError, match=r"stem, a, b, c, tail.*unfreeze.epochs=3.*max_epochs=3"):
        HeadFirst(epochs=3).windows(GROUPS, 3)


def test_phases_are_taken_as_listed():
    windows = Phases(
        [
            {"start": 0, "groups": []},
            {"start": 2, "groups": ["tail", "c"], "rate": 0.5, "rates": {"head": 0.1, "c": 2}},
            {"start": 5, "groups": ["[ab]"], "name": "middle"},
        ]
    ).windows(GROUPS, 6)
    assert seen(windows) == [(0, ()), (2, ("c", "tail")), (5, ("a", "b"))]
    assert windows[1].scale == {"stem": 0.5, "a": 0.5, "b": 0.5, "c": 1.0, "tail": 0.5, "head": 0.05}
    assert [window.name for window in windows] == ["head", "from c", "middle"]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "at least one phase"),
        ([{"start": 1, "groups": ["*"]}], "must start at epoch 0"),
        ([{"start": 0}, {"start": 0, "groups": ["*"]}], "rising order"),
        ([{"start": 0}, {"start": 6, "groups": ["*"]}], r"before trainer.max_epochs=6"),
        ([{"start": 0, "groups": ["block*"]}], r"\['block\*'\] match none. Groups: stem, a, b, c, tail"),
        ([{"start": 0, "groups": ["a"], "rates": {"b": 0.1}}], r"rates must name groups.*\['b'\] match none"),
        ([{"start": 0, "groups": ["*"], "rate": 0}], "rates must be above 0"),
        ([{"start": 0, "groups": ["*"], "rate": True}], "rates must be above 0"),
        ([{"start": -1, "groups": ["*"]}], "start must be an epoch from 0"),
        ([{"start": 0, "group": ["*"]}], r"unknown keys \['group'\]; it takes start, groups"),
    ],
)
def test_phases_that_cannot_be_carried_out_are_refused(phases, message):
    with pytest.raises(InputError, match=message):
        Phases(phases).windows(GROUPS, 6)


def test_phases_tell_all_mistakes_at_once():
    with pytest.raises(InputError) as caught:
        Phases([{"start": 0, "groups": ["x"]}, {"start": 1, "groups": ["y"]}]).windows(GROUPS, 6)
    assert len(caught.value.messages) == 2
