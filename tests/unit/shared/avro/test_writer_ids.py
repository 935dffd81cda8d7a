"""One writer for a whole batch, told from several."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.shared.avro.writer_ids import only_writer, repeated_writer


def test_one_writer_for_all_is_an_array_like_any_other_but_not_to_be_written_to() -> None:
    writers = repeated_writer(7, 1_000)
    assert writers.dtype == np.int64 and writers.shape == (1_000,) and writers.tolist() == [7] * 1_000
    assert np.concatenate([writers[:2], writers[[3]]]).tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="read-only"):
        writers[0] = 8


@pytest.mark.parametrize(
    ("writers", "only"),
    [
        (repeated_writer(-3, 5), -3),
        (repeated_writer(7, 5)[2:], 7),
        (repeated_writer(7, 0), None),
        (np.array([7, 7], np.int64), 7),
        (np.array([7, 7, 8], np.int64), None),
        (np.array([7, 8, 7], np.int64)[::2], 7),
    ],
)
def test_the_only_writer_is_found_however_it_is_held(writers: NDArray[np.int64], only: int | None) -> None:
    assert only_writer(writers) == only
