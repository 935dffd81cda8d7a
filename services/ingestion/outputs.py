"""What a step of ingestion becomes on its topics."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.ingestion_step import IngestionStep
from tidemill.services.ingestion.domain.journal_run import JournalRun
from tidemill.services.ingestion.letters import LetterWriter
from tidemill.services.ingestion.sizes import Quarantine
from tidemill.shared.application.journal import TICK, TICK_SCHEMA, JournalColumns
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.messages import message_encoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Emission
from tidemill.shared.runner.letter_size import DEFAULT_LIMIT_BYTES


class IngestionOutputs:
    """Encodes a step: journal, dead letters, duplicates, late copies. All schemas are registered at construction."""

    def __init__(
        self, plan: Plan, registry: SchemaRegistry, partition: int, letter_bytes: int = DEFAULT_LIMIT_BYTES, quarantine: Quarantine | None = None
    ) -> None:
        self._plan = plan
        self._partition = partition
        topics = plan.topics
        self._entries = {
            stream.name: ColumnEncoder(registry, f"{topics.journal}-{_full_name(stream)}", stream.entry_schema) for stream in plan.streams.values()
        }
        self._ticks = ColumnEncoder(registry, f"{topics.journal}-tidemill.Tick", TICK_SCHEMA)
        self._letters = LetterWriter(plan, registry, partition, letter_bytes, quarantine)
        self._duplicates = message_encoder(registry, topics.duplicates, "duplicate")
        self._late = message_encoder(registry, topics.late, "late")

    def emissions(self, step: IngestionStep) -> list[Emission]:
        """Encode a step, the journal first."""
        topics, p = self._plan.topics, self._partition
        emissions = []
        run = step.journal
        if len(run.source):
            columns = JournalColumns(
                run.source.astype(np.int16), run.time_ms, {self._plan.streams[name].index: batch for name, batch in run.entries.items()}
            )
            emissions.append(Emission(topics.journal, p, *self._journal(run), run.time_ms, columns=columns))
        if len(step.rejections):
            emissions.append(self._letters.emission(step.rejections))
        for batch in step.duplicates.values():
            emissions.append(Emission(topics.duplicates, p, _ids(batch), self._duplicates.encode(batch)))
        for batch in step.late.values():
            emissions.append(Emission(topics.late, p, _ids(batch), self._late.encode(batch)))
        return emissions

    def _journal(self, run: JournalRun) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Keys and values in order; entries of one stream are so already."""
        n = len(run.source)
        if len(run.entries) == 1 and not run.marks:
            ((name, batch),) = run.entries.items()
            if batch.num_rows == n:
                return _bytes(run.keys[name]), self._entries[name].encode(batch)
        keys: list[bytes | None] = [b"tick"] * n
        values: list[bytes | None] = [None] * n
        ticks = np.flatnonzero(run.source == TICK)
        if len(ticks):
            marks = [run.marks.get(row) for row in ticks.tolist()]
            columns = [
                pa.array(run.time_ms[ticks]).cast(pa.timestamp("ms")),
                pa.array([mark.stream if mark is not None and mark.paused else None for mark in marks], pa.string()),
                pa.array([mark.stream if mark is not None and not mark.paused else None for mark in marks], pa.string()),
            ]
            _place(values, ticks, self._ticks.encode(pa.RecordBatch.from_arrays(columns, names=["_journal_time", "_paused", "_resumed"])))
        for name, batch in run.entries.items():
            rows = np.flatnonzero(run.source == self._plan.streams[name].index)
            _place(values, rows, self._entries[name].encode(batch))
            _place(keys, rows, _bytes(run.keys[name]))
        return keys, values


def _ids(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    return _bytes(batch.column("event_id"))


def _bytes(column: pa.Array) -> Sequence[bytes | None]:
    """Return texts in UTF-8."""
    packed = Packed.of_column(column)
    return column.cast(pa.binary()).to_pylist() if packed is None else packed


def _place(target: list[bytes | None], rows: NDArray[np.int64], values: Sequence[bytes | None]) -> None:
    for row, value in zip(rows.tolist(), values, strict=True):
        target[row] = value


def _full_name(stream: StreamPlan) -> str:
    schema = json.loads(stream.entry_schema)
    return f"{schema['namespace']}.{schema['name']}"
