from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.ingestion.domain.core import IngestionCore, RawChunk
from shared.application.planning import load_plan
from shared.avro.columns import ColumnDecoder, ColumnEncoder, DecodedColumns
from shared.avro.registry import MemorySchemaRegistry

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "flights")
Raw = dict[str, tuple[list[bytes | None], NDArray[np.int64], ColumnDecoder]]


def raw_topics(rng: np.random.Generator, n: int) -> Raw:
    """Three raw topics with ties, duplicates, late and broken records, each ended by a heartbeat of one common time."""
    registry = MemorySchemaRegistry()
    topics: Raw = {}
    for stream in PLAN.streams.values():
        encoder = ColumnEncoder(registry, stream.topic, stream.user_schema)
        times = np.cumsum(rng.integers(0, 3, n) * 1000).astype(np.int64)
        columns = []
        for field in encoder.arrow:
            if pa.types.is_timestamp(field.type):
                columns.append(pa.array(times - rng.integers(0, 3 * 3_600_000, n) * (rng.random(n) < 0.05)).cast(field.type))
            elif field.type == pa.string():
                columns.append(pa.array([f"x{x}" for x in rng.integers(0, n, n)]))
            elif pa.types.is_floating(field.type):
                columns.append(pa.array(rng.normal(3000, 1500, n)).cast(field.type))
            else:
                columns.append(pa.array(rng.integers(0, 100, n)).cast(field.type))
        values: list[bytes | None] = list(encoder.encode(pa.RecordBatch.from_arrays(columns, schema=encoder.arrow)))
        values[5], values[9] = b"zz", (values[9] or b"")[:-3]
        topics[stream.name] = ([*values, None], times, ColumnDecoder(registry, stream.user_schema))
    end = max(int(times[-1]) for _, times, _ in topics.values()) + 1000
    return {name: (values, np.append(times, end), decoder) for name, (values, times, decoder) in topics.items()}


def ingest(topics: Raw, largest: int, rng: np.random.Generator) -> list[Any]:
    core = IngestionCore(PLAN, 0)
    at = dict.fromkeys(topics, 0)
    journal: list[Any] = []
    released = accepted = refused = dropped = 0
    names = list(PLAN.streams)
    while any(at[name] < len(topics[name][0]) for name in topics):
        name = str(rng.choice(list(topics)))
        values, times, decoder = topics[name]
        begin, end = at[name], min(len(values), at[name] + int(rng.integers(1, largest + 1)))
        if begin < end:
            part = values[begin:end]
            heartbeat = np.array([value is None for value in part])
            decoded = decoder.decode(part)
            decoded = DecodedColumns(decoded.batch, decoded.rows, [error for error in decoded.errors if part[error.index] is not None])
            core.add(name, RawChunk(0, np.arange(begin, end), times[begin:end], heartbeat, [b"k"] * (end - begin), part, decoded))
            at[name] = end
        step = core.release()
        released += sum(step.released.values())
        refused += len(step.rejections)
        dropped += sum(batch.num_rows for batch in step.duplicates.values())
        accepted += sum(batch.num_rows for batch in step.journal.entries.values())
        assert accepted + refused + dropped == released
        position = dict.fromkeys(step.journal.entries, 0)
        for source, time in zip(step.journal.source.tolist(), step.journal.time_ms.tolist(), strict=True):
            if source < 0:
                journal.append(("tick", time))
            else:
                stream = names[source]
                journal.append((stream, time, str(step.journal.entries[stream].slice(position[stream], 1).to_pylist())))
                position[stream] += 1
    assert released == sum(len(values) - 1 for values, _, _ in topics.values())
    assert not any(core.waiting(name) for name in topics)
    return journal


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_journal_does_not_depend_on_how_the_topics_were_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    topics = raw_topics(rng, 120)
    one_by_one = ingest(topics, 1, rng)
    assert one_by_one == ingest(topics, 13, rng) == ingest(topics, 1_000, rng)
    times = [record[1] for record in one_by_one]
    assert times == sorted(times)
    assert [record[0] for record in one_by_one].count("tick") == 1
