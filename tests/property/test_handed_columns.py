"""What a stage hands on beside its records is what they decode to, for any stretch of them; of another kind or schema it is not taken."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.property.fused_stages import NOON, PLAN, STREAMS, arrival, departure
from tidemill.services.features.task import FeaturesTask
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.journal import JournalBatch, JournalColumns, JournalDecoder
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission, Records
from tidemill.shared.merge.merging_task import decoded
from tidemill.shared.runner.task import StepContext

COUNT = 120


def read(emission: Emission) -> Records:
    n = len(emission)
    return Records(emission.topic, 0, np.arange(n), np.zeros(n, np.int64), emission.keys, emission.values, emission.columns)


@pytest.fixture(scope="module")
def registry() -> MemorySchemaRegistry:
    return MemorySchemaRegistry()


@pytest.fixture(scope="module")
def journal(registry: MemorySchemaRegistry) -> Records:
    rows: dict[str, list[tuple[int, bytes | None]]] = {stream: [] for stream in STREAMS}
    for i in range(COUNT):
        changes = {"tailnum": None} if i % 7 == 0 else {"plane_year": -0.0, "distance": 5e-324} if i % 5 == 0 else {}
        rows["departures"].append((NOON + i * 1_000, b"garbage" if i % 11 == 5 else departure(i, **changes)))
        if i % 2:
            rows["arrivals"].append((NOON + i * 1_000 + 500, arrival(i)))
    for stream in STREAMS:
        rows[stream] += [(NOON + COUNT * 1_000 + hour * 3_600_000, None) for hour in range(3)]
    inputs = []
    for stream, some in rows.items():
        keys = [HEARTBEAT_KEY if value is None else b"k" for _, value in some]
        times = np.array([time for time, _ in some], np.int64)
        inputs.append(Records(PLAN.streams[stream].topic, 0, np.arange(len(some)), times, keys, [value for _, value in some]))
    step = IngestionTask(PLAN, registry, 0, "replay").process(inputs, StepContext(NOON))
    return read(next(emission for emission in step.emissions if emission.topic == PLAN.topics.journal))


def stretches(n: int) -> Sequence[slice]:
    rng = np.random.default_rng(5)
    edges = [tuple(sorted(rng.integers(0, n + 1, 2).tolist())) for _ in range(60)]
    return [slice(0, n), *(slice(begin, end) for begin, end in edges if begin < end)]


def assert_same(one: JournalBatch, other: JournalBatch) -> None:
    assert list(one.groups) == list(other.groups)
    for name, group in one.groups.items():
        assert group.rows.tolist() == other.groups[name].rows.tolist()
        assert group.columns.equals(other.groups[name].columns)
    for column in ("offsets", "journal_time_ms", "stream_index"):
        assert getattr(one, column).dtype == getattr(other, column).dtype
        assert getattr(one, column).tolist() == getattr(other, column).tolist()


def test_any_stretch_of_the_journal(registry: MemorySchemaRegistry, journal: Records) -> None:
    assert isinstance(journal.columns, JournalColumns)
    assert {-1, 0, 1} <= set(journal.columns.stream_index.tolist()), "entries of two streams, and ticks"
    decoder, other = JournalDecoder(PLAN, registry), JournalDecoder(PLAN, registry)
    for rows in stretches(len(journal)):
        part = journal[rows]
        assert_same(decoder.decode(part), other.decode(replace(part, columns=None)))
    # What is handed on saves the decoder its work: bytes that nobody could read are not looked at.
    unreadable = replace(journal, values=[b"\xff"] * len(journal))
    assert_same(decoder.decode(unreadable), other.decode(replace(journal, columns=None)))


def test_any_stretch_of_the_vectors(registry: MemorySchemaRegistry, journal: Records) -> None:
    step = FeaturesTask(PLAN, registry, 0).process([journal], StepContext(NOON))
    vectors = read(next(emission for emission in step.emissions if emission.topic == PLAN.topics.vectors))
    assert isinstance(vectors.columns, pa.RecordBatch)
    decoder = ColumnDecoder(registry, PLAN.vector_schema)
    for rows in stretches(len(vectors)):
        part = vectors[rows]
        assert decoded(decoder, part, "features").equals(decoded(decoder, replace(part, columns=None), "features"))


def test_what_is_of_another_schema_is_decoded(registry: MemorySchemaRegistry, journal: Records) -> None:
    assert isinstance(journal.columns, JournalColumns)
    odd = {index: batch.rename_columns([f"{name}_" for name in batch.schema.names]) for index, batch in journal.columns.entries.items()}
    decoder = JournalDecoder(PLAN, registry)
    assert_same(decoder.decode(replace(journal, columns=replace(journal.columns, entries=odd))), decoder.decode(replace(journal, columns=None)))
    assert_same(decoder.decode(replace(journal, columns=pa.record_batch({"x": [1]}))), decoder.decode(replace(journal, columns=None)))
