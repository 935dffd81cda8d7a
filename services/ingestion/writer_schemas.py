"""Watches with which schemas the records of every stream are written, and tells on `<app>-schema-changes` what changes."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

import numpy as np

from tidemill.services.ingestion.domain.ingestion_step import IngestionStep
from tidemill.services.ingestion.domain.raw import CleanRows
from tidemill.services.ingestion.domain.stream_writers import DAY_MS, NAMES_BYTES, SchemaChange, StreamWriters
from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.connect_types import with_logical_types
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaNotFound, SchemaRegistry
from tidemill.shared.avro.schema_fields import SchemaField, columns_by_name, schema_fields
from tidemill.shared.avro.schema_tree import UnreadableSchema, parse_record
from tidemill.shared.avro.writer_ids import only_writer
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.records import Emission
from tidemill.shared.short_text import LONGEST_TEXT, with_short_texts

_ROW = "after."
# What names and types of all changes of a day together may have: as many bytes four times over, and a digest for each that is cut, fit a record.
_CHARACTERS = 100_000


class WriterSchemas:
    """The writers of the streams that a task tells of. What it knows is in the progress record, so that a restart is no restart.

    Parameters
    ----------
    partition
        Reference streams, which every task reads in full, are told by the task of partition 0.
    decoders
        By topic.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, partition: int, decoders: Mapping[str, RawDecoder]) -> None:
        self._plan, self._registry, self._partition = plan, registry, partition
        self._topic = plan.topics.schema_changes
        self._codec = message_codec(registry, self._topic, "schema-change", LONGEST_TEXT)
        told = [stream for stream in plan.streams.values() if not stream.is_reference or partition == 0]
        room = NAMES_BYTES // max(1, len(told))
        self._writers = {stream.name: StreamWriters(stream.name, _columns(stream), name_bytes=room) for stream in told}
        self._names = {stream.name: decoders[stream.topic].names for stream in told}
        self._schemas: dict[str, dict[int, Mapping[str, SchemaField]]] = {stream.name: {} for stream in told}
        # Writers of a progress record are looked up once; all others when their records come.
        self._loaded = False

    def load(self, flows: Mapping[str, Flow]) -> None:
        """Take up what the last progress record says, by topic."""
        for name, writers in self._writers.items():
            flow = flows.get(self._plan.streams[name].topic)
            if flow is not None and flow.writers:
                writers.load(flow.writers)
                self._loaded = True

    def learn(self, taken: Iterable[tuple[str, int, CleanRows]]) -> None:
        """Look up the schemas that a change is told by, before anything of a step is folded; raises TransientError."""
        for name, _, rows in taken:
            if name in self._writers and len(rows.writers):
                only = only_writer(rows.writers)
                self._look_up(name, {only} if only is not None else set(np.unique(rows.writers).tolist()))
        if self._loaded:
            for name, writers in self._writers.items():
                self._look_up(name, writers.needed() | {writers.usual})
            self._loaded = False

    def absorb(self, step: IngestionStep, covered_ms: int) -> list[Emission]:
        """Count what a step has released; returns what is told of the days that are over."""
        said: list[SchemaChange] = []
        day = (covered_ms + 1) // DAY_MS
        for name, writers in self._writers.items():
            schemas = partial(_known, self._schemas[name])
            if name in step.written:
                said += writers.absorb(step.written[name], self._names[name], schemas)
            said += writers.close(day, schemas)
        said.sort(key=lambda one: (one.day, one.stream, one.schema_id))
        if not said:
            return []
        times = np.array([one.time_ms for one in said], np.int64)
        return [Emission(self._topic, self._partition, [one.stream.encode() for one in said], [self._encoded(one) for one in said], times)]

    def into(self, flows: Mapping[str, Flow]) -> dict[str, Flow]:
        """Return what the progress record is to say of the inputs, with what is known of their writers."""
        merged = dict(flows)
        for name, writers in self._writers.items():
            text, topic = writers.snapshot(), self._plan.streams[name].topic
            if text:
                merged[topic] = replace(merged.get(topic, Flow()), writers=text)
        return merged

    def _look_up(self, stream: str, ids: Set[int]) -> None:
        for one in sorted(ids - self._schemas[stream].keys()):
            if one > 0:
                self._schemas[stream][one] = _fields(self._plan.streams[stream], self._registry, one)

    def _encoded(self, change: SchemaChange) -> bytes:
        # Whoever registers a schema names its fields: the more differ, the less is said of each.
        longest = min(LONGEST_TEXT, _CHARACTERS // (3 * max(1, len(change.changes))))
        return self._codec.encode(
            {
                "stream": change.stream,
                "journal_partition": self._partition,
                "journal_offset": 0,
                "journal_time": change.time_ms,
                "schema_id": change.schema_id,
                "previous_id": change.previous_id,
                "first_seen": change.first_ms,
                "source_partition": change.source_partition,
                "source_offset": change.source_offset,
                "records": change.records,
                "refused": change.refused,
                "of": change.of,
                "changes": with_short_texts([{name: getattr(one, name) for name in one.__slots__} for one in change.changes], longest),
            }
        )


def _columns(stream: StreamPlan) -> dict[str, str]:
    return columns_by_name(schema_fields(parse_record(stream.user_schema)))


def _known(schemas: Mapping[int, Mapping[str, SchemaField]], schema_id: int) -> Mapping[str, SchemaField]:
    return schemas.get(schema_id, {})


def _fields(stream: StreamPlan, registry: SchemaRegistry, schema_id: int) -> Mapping[str, SchemaField]:
    """Return a writer's fields, of an envelope those of the row after the change; nothing where it is no schema that can be read."""
    try:
        text = registry.schema(schema_id)
        fields = schema_fields(parse_record(text if stream.envelope is None else with_logical_types(text)))
    except (SchemaNotFound, UnreadableSchema):
        return {}
    if stream.envelope is None:
        return fields
    own: Sequence[tuple[str, SchemaField]] = [(name, one) for name, one in fields.items() if name.startswith(_ROW)]
    return {name.removeprefix(_ROW): SchemaField(one.type, tuple(alias.removeprefix(_ROW) for alias in one.aliases)) for name, one in own}
