from typing import Any

import pytest

import tiny_models as made


@pytest.fixture(scope="session")
def tiny_models() -> Any:
    """Tiny random models of many families, saved as the hub has them."""
    return made
