"""Pictures of plans: what is drawn where, how wide, and that a paper's reader can tell frozen from slow."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from headstart.strategies import drawing
from headstart.strategies.schedule import Constant, Cosine
from headstart.strategies.strategy import Strategy
from headstart.strategies.unfreeze import AtStart, Gradual, HeadFirst, OnPlateau

SVG = "{http://www.w3.org/2000/svg}"


def drawn(plan, schedule=None, **options):
    return ElementTree.fromstring(drawing.svg(plan, schedule or Constant(), **options))


def test_rates_are_schedule_times_multiplier_times_warmup(kinds):
    plan = Strategy(lr=0.1, layer_decay=0.5).plan(kinds, Gradual(every=1, num_groups=3, warmup_epochs=2.0), 5)
    table = drawing.rates(plan, Constant())
    assert table["head"] == [1.0] * 5
    assert table["tail"] == pytest.approx([0, 0.25, 0.5, 0.5, 0.5])
    assert table["stem"] == pytest.approx([0, 0, 0.5**7, 0.5**6, 0.5**6])


def test_a_schedule_that_restarts_is_drawn_anew_in_each_phase(kinds):
    plan = Strategy(lr=0.1).plan(kinds, HeadFirst(epochs=3, rate=0.1, restart=True), 6)
    rates = drawing.rates(plan, Cosine(warmup=0.0))
    assert rates["tail"][3:] == pytest.approx([0.1 * rate for rate in rates["head"][:3]])


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("max_epochs", [7, 30, 200])
def test_the_terminals_picture_keeps_to_its_width(kinds, width, max_epochs):
    plan = Strategy(lr=0.1).plan(kinds, Gradual(), max_epochs)
    lines = drawing.text(plan, Cosine(), width, 1e-3).splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[2:9]] == ["head", *reversed(list(kinds))]


def test_the_terminals_picture_shows_when_groups_thaw(kinds):
    plan = Strategy(lr=0.1).plan(kinds, Gradual(every=2, num_groups=3), 6)
    rows = dict(re.findall(r"^ *(\S+)  ([█▓▒░·]+)  ", drawing.text(plan, Constant(), 64), re.M))
    per_epoch = len(rows["head"]) // 6
    assert rows["head"] == "█" * per_epoch * 6
    assert rows["tail"] == "·" * per_epoch * 2 + "█" * per_epoch * 4
    assert rows["stem"] == "·" * per_epoch * 4 + "█" * per_epoch * 2


def test_the_terminals_picture_names_rates_and_partial_training(kinds):
    plan = Strategy(lr=0.1, kinds=["bias", "norm_bias"]).plan(kinds, AtStart(), 3)
    lines = drawing.text(plan, Constant(), 80, 3e-4).splitlines()
    assert lines[2].endswith("3.0e-4")
    assert lines[3].endswith("3.0e-4  bias, norm_bias")


def test_the_svg_hatches_what_is_frozen_and_shades_what_trains(kinds):
    plan = Strategy(lr=0.1, layer_decay=0.1).plan(kinds, Gradual(num_groups=3), 3)
    said = {}
    for cell in drawn(plan, base_rate=0.1).iter(f"{SVG}rect"):
        if (title := cell.find(f"{SVG}title")) is not None:
            said[title.text] = cell.get("fill")
    assert said["head, epochs 0 to 2: rate 0.1"] == "#08306b"
    assert said["stem, epochs 0 to 1: frozen"] == "url(#frozen)"
    assert said["tail, epochs 1 to 2: rate 0.01"] not in ("#08306b", "url(#frozen)", "white")


def test_the_svg_marks_phases_and_dashes_those_that_wait_for_a_plateau(kinds):
    calendar = drawn(Strategy(lr=0.1).plan(kinds, Gradual(), 9))
    plateau = drawn(Strategy(lr=0.1).plan(kinds, OnPlateau(num_groups=3), 9))
    marks = [
        [line for line in svg.iter(f"{SVG}line") if line.get("stroke") == "#d95f02"] for svg in (calendar, plateau)
    ]
    assert [len(lines) for lines in marks] == [6, 2]
    assert [line.get("stroke-dasharray") is not None for line in marks[0] + marks[1]] == [False] * 6 + [True] * 2


@pytest.mark.parametrize(("num_groups", "max_epochs"), [(3, 1), (25, 30), (60, 300)])
def test_everything_in_the_svg_lies_within_it(num_groups, max_epochs):
    kinds = {f"block.{n}": ("weight",) for n in range(num_groups)}
    svg = drawn(Strategy(lr=0.1).plan(kinds, AtStart(), max_epochs))
    _, _, width, height = map(float, svg.get("viewBox").split())
    assert width < 640
    for item in svg.iter():
        if item.get("x") and item.tag.endswith(("text", "rect")):
            x, y = float(item.get("x")), float(item.get("y"))
            assert 0 <= x <= width
            assert 0 <= y <= height
    labels = [item for item in svg.iter(f"{SVG}text") if (item.text or "").startswith("block.")]
    assert len(labels) == num_groups
    rows = sorted(float(label.get("y")) for label in labels)
    assert min(b - a for a, b in pairwise(rows)) >= float(labels[0].get("font-size"))
