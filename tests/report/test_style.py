"""Figures in the page: places are rounded, words are not."""

import re

from headstart.report.style import STRATEGIES, draw


def test_what_is_written_in_a_figure_keeps_its_digits():
    words = "optimizer.lr=0.00031 on data v1.2345, 3.14159 points"
    picture = draw("x", "A title", words, "x", 1.0, lambda figure: figure.text(0.1234567, 0.5, words))
    assert f">{words}</text>" in picture.inline
    assert f'aria-label="{words}"' in picture.inline

    assert "0.1234" not in picture.inline
    assert max(len(digits) for digits in re.findall(r'd="[^"]*\.(\d+)', picture.inline)) <= 2


def test_every_strategy_has_a_look_of_its_own():
    looks = list(STRATEGIES.values())
    for kind in zip(*looks, strict=True):
        assert len(set(kind)) == len(STRATEGIES)
