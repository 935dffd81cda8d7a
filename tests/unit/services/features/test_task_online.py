"""The features task and the online store: what is in it after steps, commits, idle steps and aborted steps."""

import numpy as np
import pyarrow as pa
import pytest

from tests.journals import cut, random_journal
from tests.online_features import FLIGHTS
from tests.unit.services.features.test_online import AtOnce
from tidemill.services.features.online import OnlineWriter
from tidemill.services.features.task import FeaturesTask
from tidemill.shared.application.journal import TICK, TICK_SCHEMA, JournalBatch
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.online_store.memory_store import MemoryOnlineStore
from tidemill.shared.runner.task import StepContext

PLAN = load_plan(FLIGHTS)
CONTEXT = StepContext(0)
LATER_MS = 10**15


class Journal:
    """A random journal as the records that ingestion would have written."""

    def __init__(self, registry: MemorySchemaRegistry) -> None:
        self.batch = random_journal(PLAN, 400, np.random.default_rng(4), step_ms=60_000)
        self._encoders = {name: ColumnEncoder(registry, f"j-{name}", stream.entry_schema) for name, stream in PLAN.streams.items()}
        self._ticks = ColumnEncoder(registry, "j-tick", TICK_SCHEMA)

    def records(self, begin: int, end: int) -> Records:
        part = cut(self.batch, begin, end)
        values: list[bytes] = [b""] * len(part)
        for name, group in part.groups.items():
            stamped = group.columns.set_column(0, "_journal_time", pa.array(part.journal_time_ms[group.rows]).cast(pa.timestamp("ms")))
            for row, value in zip(group.rows.tolist(), self._encoders[name].encode(stamped.cast(self._encoders[name].arrow)), strict=True):
                values[row] = value
        ticks = np.flatnonzero(part.stream_index == TICK)
        times = pa.array(part.journal_time_ms[ticks]).cast(self._ticks.arrow.field(0).type)
        unmarked = [pa.nulls(len(ticks), field.type) for field in list(self._ticks.arrow)[1:]]
        encoded = self._ticks.encode(pa.RecordBatch.from_arrays([times, *unmarked], schema=self._ticks.arrow))
        for row, value in zip(ticks.tolist(), encoded, strict=True):
            values[row] = value
        return Records(PLAN.topics.journal, 0, part.offsets, part.journal_time_ms, [b"k"] * len(part), values)


@pytest.fixture
def store() -> MemoryOnlineStore:
    return MemoryOnlineStore(PLAN, clock_ms=lambda: LATER_MS)


def asked(batch: JournalBatch, entity: str) -> list[str]:
    column = next(view for view in PLAN.views if view.entity == entity).entity_columns["departures"]
    return sorted({key for key in batch.groups["departures"].columns.column(column).to_pylist() if key is not None})


def test_every_entity_is_in_the_store_as_of_what_is_committed(store: MemoryOnlineStore) -> None:
    registry = MemorySchemaRegistry()
    journal = Journal(registry)
    writer = OnlineWriter(store, 0, AtOnce())
    task = FeaturesTask(PLAN, registry, 0, writer)
    task.resume({}, {}, 0, -1)
    for begin in range(0, 400, 100):
        task.process([journal.records(begin, begin + 100)], CONTEXT)
        task.committed()
    while writer.waiting:
        task.process([], CONTEXT)
    for entity in store.layouts:
        keys = asked(journal.batch, entity)
        rows = store.read_features(entity, keys)
        assert len(keys) > 5 and set(rows.status) == {"found"}
        assert int(rows.journal_offset.max()) == int(journal.batch.offsets[-1]) + 1
        assert int(rows.journal_time_ms.max()) == int(journal.batch.journal_time_ms[-1])
    whole = store.layouts["carrier"].features.index("carrier_late__mean_all")
    assert not np.isnan(store.read_features("carrier", asked(journal.batch, "carrier")).values[:, whole]).all()


def test_what_is_not_committed_is_never_in_the_store(store: MemoryOnlineStore) -> None:
    registry = MemorySchemaRegistry()
    journal = Journal(registry)
    task = FeaturesTask(PLAN, registry, 0, OnlineWriter(store, 0, AtOnce()))
    task.process([journal.records(0, 100)], CONTEXT)
    task.process([journal.records(100, 200)], CONTEXT)
    assert all(set(store.read_features(entity, asked(journal.batch, entity)).status) == {"missing"} for entity in store.layouts)


def test_an_update_that_nobody_asked_for_is_in_the_store(store: MemoryOnlineStore) -> None:
    registry = MemorySchemaRegistry()
    journal = Journal(registry)
    writer = OnlineWriter(store, 0, AtOnce())
    task = FeaturesTask(PLAN, registry, 0, writer)
    arrivals = journal.batch.groups["arrivals"]
    entries = arrivals.columns.to_pylist()
    first = next(i for i, entry in enumerate(entries) if entry["dest"] is not None and not entry["_late"])
    row = int(arrivals.rows[first])
    assert task.process([journal.records(row, row + 1)], CONTEXT).emissions == []
    task.committed()
    for _ in range(5):
        task.process([], CONTEXT)
    rows = store.read_features("dest", [entries[first]["dest"]])
    whole = rows.names.index("dest_late__mean_all")
    assert rows.status == ("found",) and writer.waiting == 0
    assert rows.values[0, whole] == entries[first]["late"]
