"""Columns of unequal length are noticed, and no row is dropped in silence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tidemill.services.outcomes.domain.packed_rows import PackedRows
from tidemill.services.outcomes.domain.request import LabelColumns, Request
from tidemill.services.outcomes.domain.request_table import RequestTable


@pytest.mark.parametrize("column", [0, 1, 2, 4, 6])
def test_a_table_of_requests_notices_a_column_that_is_shorter(monkeypatch: pytest.MonkeyPatch, column: int) -> None:
    table = RequestTable()
    for row in range(3):
        table.add(Request(f"r{row}", row, row, row, 0.5, 1, "v", 0, "champion"), 0, 0)
    rows = np.arange(3)
    assert [request.request_id for request in table.get_all(rows)] == ["r0", "r1", "r2"]
    take = PackedRows.take

    def shorter(self: PackedRows, rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[Sequence[Any]]:
        return [values[:-1] if place == column else values for place, values in enumerate(take(self, rows))]

    monkeypatch.setattr(PackedRows, "take", shorter)
    with pytest.raises(ValueError, match=r"expected columns of one length, got .*2"):
        table.get_all(rows)


def test_labels_notice_a_column_that_is_shorter() -> None:
    labels = LabelColumns(("a", "b"), np.zeros(2), np.zeros(2, np.int64), ("x", "y"))
    assert len(list(labels.all())) == 2
    for some in (labels.value[:1], labels.event_time_ms), (labels.value, labels.event_time_ms[:1]):
        with pytest.raises(ValueError, match="expected columns of one length"):
            list(LabelColumns(("a", "b"), *some, ("x", "y")).all())
    with pytest.raises(ValueError, match="expected columns of one length"):
        list(LabelColumns(("a", "b"), labels.value, labels.event_time_ms, ("x",)).all())
