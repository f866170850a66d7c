"""What a failed run says of why."""

import pytest

from headstart.record.result import MOST_OF_MESSAGE, MOST_OF_TRACEBACK, failure
from headstart.training.module import DivergedError


def test_a_message_of_many_pages_keeps_its_beginning_and_its_end():
    found = failure(RuntimeError("begins" + "x" * 155_000 + "ends"))
    assert found.message.startswith("begins")
    assert found.message.endswith("ends")
    assert "characters are in the run's log alone" in found.message
    assert len(found.message) < MOST_OF_MESSAGE + 100
    assert len(found.traceback) < MOST_OF_TRACEBACK + 100
    assert failure(ValueError("short")).message == "short"


@pytest.mark.parametrize(("precision", "is_named"), [("32-true", False), ("64-true", False), ("bf16-mixed", True)])
def test_a_remedy_is_not_what_is_set(precision, is_named):
    assert ("32-true" in str(DivergedError(3, 7, precision))) == is_named
