"""Random journals of the flights application, for tests of cores that fold over them."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import Plan


def _column(field: pa.Field, times: NDArray[np.int64], rng: np.random.Generator) -> pa.Array:
    n = len(times)
    if pa.types.is_timestamp(field.type):
        return pa.array(times).cast(field.type)
    if field.type == pa.string():
        return pa.array([None if field.nullable and x == 0 else f"v{x}" for x in rng.integers(0, 12, n)], pa.string())
    if field.type == pa.bool_():
        return pa.array(rng.random(n) < 0.05)
    if pa.types.is_floating(field.type):
        values = rng.normal(10, 20, n)
        return pa.array(values, mask=(rng.random(n) < 0.1) if field.nullable else None).cast(field.type)
    return pa.array(rng.integers(0, 1000, n)).cast(field.type)


def random_journal(plan: Plan, n: int, rng: np.random.Generator, step_ms: int = 600_000) -> JournalBatch:
    """Make n records: entries of every stream and ticks, some of them at equal times."""
    streams = list(plan.streams.values())
    kind = rng.integers(-1, len(streams), n).astype(np.int16)
    times = np.cumsum(rng.integers(0, 2, n) * rng.integers(0, step_ms, n)).astype(np.int64)
    groups = {}
    for stream in streams:
        rows = np.flatnonzero(kind == stream.index)
        if len(rows):
            columns = [_column(field, times[rows], rng) for field in stream.entry_arrow]
            groups[stream.name] = JournalGroup(rows, pa.RecordBatch.from_arrays(columns, schema=stream.entry_arrow))
    return JournalBatch(0, np.arange(n, dtype=np.int64) * 2, times, kind, [b""] * n, groups)


def cut(batch: JournalBatch, begin: int, end: int) -> JournalBatch:
    """Return records [begin, end) as a batch of their own."""
    groups = {}
    for name, group in batch.groups.items():
        inside = (group.rows >= begin) & (group.rows < end)
        if inside.any():
            groups[name] = JournalGroup(group.rows[inside] - begin, group.columns.filter(pa.array(inside)))
    span = slice(begin, end)
    return JournalBatch(0, batch.offsets[span], batch.journal_time_ms[span], batch.stream_index[span], batch.keys[span], groups)
