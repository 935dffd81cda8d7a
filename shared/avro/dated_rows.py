"""Columns as rows with dates, whatever their times are."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.instant import FIRST_MS, LAST_MS

_PER_MS = {"s": 1e-3, "ms": 1, "us": 1_000}


def dated_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as dictionaries. A time that no date is becomes the nearest one (`instant.utc`); Arrow ends with an OverflowError.

    Examples
    --------
    >>> column = pa.array([0, 2**62, None], pa.timestamp("ms", "UTC"))
    >>> [row["at"].year if row["at"] else None for row in dated_rows(pa.record_batch({"at": column}))]
    [1970, 9999, None]
    """
    columns = [_within_dates(column).to_pylist() for column in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _within_dates(column: pa.Array) -> pa.Array:
    # Nanoseconds in 64 bits reach from 1677 to 2262.
    if not pa.types.is_timestamp(column.type) or column.type.unit not in _PER_MS:
        return column
    first, last = (pa.scalar(int(end * _PER_MS[column.type.unit]), pa.int64()) for end in (FIRST_MS, LAST_MS))
    within = pc.max_element_wise(pc.min_element_wise(column.cast(pa.int64()), last, skip_nulls=False), first, skip_nulls=False)
    return within.cast(column.type)
