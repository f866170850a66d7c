"""Names, options and flags of a command are told apart."""

import pytest

from headstart.cli.options import given
from headstart.errors import InputError


def typed(*words: str):
    return given(words, ("--out", "--top"), ("--force",), "headstart x --out FILE")


def test_values_stand_behind_a_blank_or_an_equals_sign():
    for words in (["a", "--out", "b c", "-"], ["--out=b c", "a", "-"]):
        found = typed(*words, "--force")
        assert (found.names, found.values, found.flags) == (["a", "-"], {"--out": "b c"}, {"--force"})
    assert typed("--out=a=b", "--out=").values == {"--out": ""}
    assert typed("--", "--force", "-x").names == ["--force", "-x"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "--out"], "--out needs a value"),
        (["--out", "--force"], "--out needs a value"),
        (["--outt=a"], "--out"),
        (["-f"], "option"),
        (["--force=1"], "option"),
    ],
)
def test_what_is_no_option_or_lacks_its_value_is_refused(words: list[str], expected: str):
    with pytest.raises(InputError, match=expected):
        typed(*words)
