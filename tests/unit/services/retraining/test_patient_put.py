"""What a training has made is put again while its store does not answer, and no longer than about a minute."""

from collections.abc import Callable

import pytest

from tidemill.services.retraining.processes.patient_put import put_patiently
from tidemill.shared.log.errors import TransientError


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def put() -> str:
        if left:
            raise left.pop()
        return "address"

    return put


@pytest.mark.parametrize(("times", "waits"), [(0, []), (2, [1.0, 2.0]), (6, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0])])
def test_it_is_put_after_as_many_tries_as_it_takes_with_growing_waits(times: int, waits: list[float]) -> None:
    waited: list[float] = []
    assert put_patiently("model", failing(times, TransientError("no space left")), waited.append) == "address"
    assert waited == waits


def test_a_store_that_stays_away_ends_the_training_with_its_own_words() -> None:
    waited: list[float] = []
    with pytest.raises(TransientError, match="no space left"):
        put_patiently("model", failing(7, TransientError("no space left")), waited.append)
    assert sum(waited) == pytest.approx(61.0)


def test_what_does_not_pass_is_not_tried_again() -> None:
    waited: list[float] = []
    with pytest.raises(ValueError, match="no model"):
        put_patiently("model", failing(1, ValueError("no model")), waited.append)
    assert waited == []
