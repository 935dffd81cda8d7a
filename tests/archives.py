"""Archives for tests: a journal and its vectors, written by the services' own code."""

from collections import Counter

import numpy as np
import pyarrow as pa

from tests.journals import cut
from tidemill.services.archive.task import ArchiveTask
from tidemill.services.features.task import FeaturesTask
from tidemill.shared.application.journal import TICK_SCHEMA, JournalBatch
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.schemas import entry_name
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import Records
from tidemill.shared.runner.task import StepContext


def journal_records(plan: Plan, registry: MemorySchemaRegistry, batch: JournalBatch, partition: int) -> Records:
    """Return a journal as ingestion writes it, with a tick behind every tenth record (their offsets are even)."""
    values: dict[int, bytes] = {}
    times = dict(zip(batch.offsets.tolist(), batch.journal_time_ms.tolist(), strict=True))
    for name, group in batch.groups.items():
        encoder = ColumnEncoder(registry, f"{plan.topics.journal}-{entry_name(name)}", plan.streams[name].entry_schema)
        values |= dict(zip(batch.offsets[group.rows].tolist(), encoder.encode(group.columns), strict=True))
    ticks = ColumnEncoder(registry, f"{plan.topics.journal}-tidemill.Tick", TICK_SCHEMA)
    for offset in batch.offsets[::10].tolist():
        row = pa.array([times[offset]]).cast(ticks.arrow.field(0).type)
        unmarked = [pa.nulls(1, field.type) for field in list(ticks.arrow)[1:]]
        values[offset + 1] = ticks.encode(pa.RecordBatch.from_arrays([row, *unmarked], schema=ticks.arrow))[0]
        times[offset + 1] = times[offset]
    places = np.array(sorted(values), np.int64)
    stamps = np.array([times[offset] for offset in places.tolist()], np.int64)
    return Records(plan.topics.journal, partition, places, stamps, [b""] * len(places), [values[offset] for offset in places.tolist()])


def archive_journal(plan: Plan, lake: Lake, partition: int, batch: JournalBatch, pieces: int = 5) -> None:
    """Run features over a journal and archive both, in so many appends."""
    registry = MemorySchemaRegistry()
    features = FeaturesTask(plan, registry, partition)
    archive = ArchiveTask(plan, registry, lake, partition, flush_rows=1)
    features.take_over({})
    written: Counter[str] = Counter()
    for begin, end in zip(*(np.linspace(0, len(batch), pieces + 1).astype(int)[part].tolist() for part in (slice(-1), slice(1, None))), strict=True):
        records = journal_records(plan, registry, cut(batch, begin, end), partition)
        step = features.process([records], StepContext(now_ms=0))
        inputs = [records]
        for made in step.emissions:
            offsets = np.arange(written[made.topic], written[made.topic] + len(made.values), dtype=np.int64)
            written[made.topic] += len(made.values)
            inputs.append(Records(made.topic, partition, offsets, offsets, made.keys, made.values))
        features.committed()
        archive.process(inputs, StepContext(now_ms=0))
