from pathlib import Path
from typing import Any

import pytest

import tiny_models as made
from tiny_runs import make_places


@pytest.fixture(scope="session")
def tiny_models() -> Any:
    """Tiny random models of many families, saved as the hub has them."""
    return made


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models in the hub's layout by family, a table of sentences, and a folder of sounds."""
    return make_places(tmp_path_factory.mktemp("transformers"))
