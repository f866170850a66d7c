import pytest

OWN = ("weight", "bias", "norm", "norm_bias")


@pytest.fixture
def kinds():
    """The kinds of parameters in each depth group of a small CNN."""
    names = ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "tail"]
    return {name: ("weight", "norm", "norm_bias") if name != "blocks.3" else OWN for name in names}
