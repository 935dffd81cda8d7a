"""Ingestion as a task: raw records in; journal, dead letters, duplicates and late copies out."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from tidemill.services.ingestion.domain.core import FARTHEST_AHEAD_MS, IngestionCore
from tidemill.services.ingestion.domain.debezium import Unwrapper
from tidemill.services.ingestion.domain.entry_proof import EntryProof
from tidemill.services.ingestion.domain.fresh_look import FreshLook
from tidemill.services.ingestion.domain.identity_hash import KEY_BYTES
from tidemill.services.ingestion.domain.journal_run import PauseMark
from tidemill.services.ingestion.domain.raw import ENDS, CleanRows, RawChunk
from tidemill.services.ingestion.domain.stream_flows import Resume, StreamFlows
from tidemill.services.ingestion.end_records import EndRecords
from tidemill.services.ingestion.operator_commands import OperatorCommands
from tidemill.services.ingestion.outputs import IngestionOutputs
from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.services.ingestion.sizes import Quarantine, TopicSizes
from tidemill.services.ingestion.step_report import StepReport
from tidemill.services.ingestion.writer_schemas import WriterSchemas
from tidemill.shared.application.journal import TICK, JournalDecoder
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.arrow_types import int64_ms, leaves
from tidemill.shared.avro.record_reader import RecordReader
from tidemill.shared.avro.record_writer import RecordWriter
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.avro.schema_tree import AvroType, parse_record
from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.heartbeat import END_OF_STREAM_KEY, is_heartbeat
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Checkpoint, Coverage, Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.clock_steps import HostClock
from tidemill.shared.runner.task import StepContext, Task, TaskInputs
from tidemill.shared.version import CODE_VERSION

_LOG = logging.getLogger(__name__)
# Changes with the layout of the checkpoint: what an older one wrote is not read but made again from the whole journal.
STATE_VERSION = "1"
# Types whose columns hold nothing that cannot be encoded and read again; the logical types among them that are narrower than their columns.
_HOLD_ANYTHING = frozenset({"boolean", "int", "long", "float", "double", "bytes", "string"})
_HOLD_SOME = frozenset({"date", "time-millis", "time-micros", "uuid", "decimal"})


def task_inputs(plan: Plan) -> TaskInputs:
    """Where ingestion's records come from."""
    events = tuple(stream.topic for stream in plan.streams.values() if not stream.is_reference)
    references = tuple(stream.topic for stream in plan.reference_streams)
    if any(stream.pauses_on_flood for stream in plan.streams.values()):
        # Whoever can be paused has to hear that he may go on.
        references += (plan.topics.commands,)
    journal = (plan.topics.journal,)
    return TaskInputs(
        events, references, restores_from_outputs=journal, sole_outputs=journal,
        other_outputs=(plan.topics.duplicates, plan.topics.late, plan.topics.schema_changes, plan.topics.stream_ends),
    )  # fmt: skip


class IngestionTask(Task):
    """The only writer of one journal partition.

    Parameters
    ----------
    clock
        ``live``: a topic whose end is reached does not hold the merge back, and idle time becomes ticks. ``replay``: heartbeats alone bound
        the merge and make the ticks; no wall clock enters.
    tick_ms
        Live: how often an idle journal is moved on, milliseconds.
    reference_partitions
        Partitions of the reference topics; every task reads all of them.
    clock_step_ms
        Live: a larger step of the host's clock is noticed and does not simply enter the journal.
    spill_folder
        Where tables of ids lie that may outgrow memory.
    floods
        Beyond which the refused records of a stream are a flood.
    commands
        Reads operators' commands; None: streams that are paused stay so.
    identity_key
        What ids are hashed with, `KEY_BYTES` long; drawn at random by default, so that nobody can make ids that collide. A checkpoint has its own.
    """

    def __init__(
        self,
        plan: Plan,
        registry: SchemaRegistry,
        partition: int,
        clock: Literal["live", "replay"],
        tick_ms: int = 1_000,
        reference_partitions: Mapping[str, int] | None = None,
        clock_step_ms: int = 10_000,
        spill_folder: Path | None = None,
        sizes: TopicSizes | None = None,
        quarantine: Quarantine | None = None,
        identity_key: bytes | None = None,
        floods: FloodLimits | None = None,
        commands: OperatorCommands | None = None,
    ) -> None:
        self._plan = plan
        self._flows = StreamFlows(plan.streams.values(), floods or FloodLimits())
        self._operators, self._commands = commands, TopicPartition(plan.topics.commands, 0)
        self._partition = partition
        self._clock = clock
        self._tick_ms = tick_ms
        self._host_clock = HostClock(clock_step_ms)
        self._look = FreshLook()
        self._core = IngestionCore(plan, partition, reference_partitions, identity_key or secrets.token_bytes(KEY_BYTES), spill_folder)
        self._streams = {stream.topic: stream for stream in plan.streams.values()}
        streams = plan.streams.values()
        self._decoders = {
            stream.topic: RawDecoder(registry, stream.user_schema, stream.times, stream.event_time, stream.envelope) for stream in streams
        }
        self._writers = WriterSchemas(plan, registry, partition, self._decoders)
        self._ends = EndRecords(plan, registry, partition, reference_partitions or {})
        self._unwrappers = {stream.topic: Unwrapper(stream, stream.envelope) for stream in streams if stream.envelope is not None}
        sizes = sizes or TopicSizes(plan, None)
        self._outputs = IngestionOutputs(plan, registry, partition, sizes.letter, quarantine)
        self._proofs = {stream.name: _proof(stream, sizes.entry(stream), _names(plan, stream), sizes.name) for stream in plan.streams.values()}
        self._journal = JournalDecoder(plan, registry)
        self._journal_partition = TopicPartition(plan.topics.journal, partition)
        self._journal_end: int | None = None
        self._resumed: dict[TopicPartition, int] = {}
        self._report = StepReport(plan)

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the ids of accepted events, event times and the clock, as of the journal's end that the checkpoint's marker names."""
        self._core.restore(entries)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Take up the positions of the last progress record."""
        self._resumed = dict(positions)

    def take_flows(self, flows: Mapping[str, Flow]) -> None:
        """Take up what was refused of each stream, which are paused, how their records are written, and which have ended."""
        self._flows.load(flows)
        self._writers.load(flows)
        self._ends.load(flows)

    def replay(self, inputs: Sequence[Records]) -> None:
        """Learn from the journal behind the marker which events are known and how far event time, journal time and ticks have come."""
        for records in inputs:
            self._journal_end = int(records.offsets[-1]) + 1 if len(records) else self._journal_end
            batch = self._journal.decode(records)
            if len(batch):
                ticks = batch.journal_time_ms[batch.stream_index == TICK]
                self._core.remember_time(int(batch.journal_time_ms[-1]), int(ticks[-1]) if len(ticks) else None)
            for name, group in batch.groups.items():
                ids, times = group.columns.column("_event_id"), group.columns.column("_event_time")
                self._core.remember(name, ids, int64_ms(times), batch.journal_time_ms[group.rows])

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Sequence what is certain. Nothing changes before everything is decoded, so a step that meets an unreachable registry can be retried."""
        self._journal_end = context.output_ends.get(self._journal_partition, self._journal_end)
        raw = [records for records in inputs if len(records) and records.topic != self._commands.topic]
        taken = [(self._streams[records.topic].name, records.partition, self._clean(records)) for records in raw]
        self._writers.learn(taken)
        live = self._clock == "live"
        now_ms = self._now_ms(context, taken) if live else context.now_ms
        # Live, a producer whose clock runs ahead must not take the journal there: what has been read is available now.
        latest_ms = now_ms if live else None
        # A replay keeps its own time. Only what lies years ahead of the host's clock is no data of it.
        farthest_ms = now_ms + FARTHEST_AHEAD_MS if context.steady_ms is not None else None
        for stream, partition, rows in taken:
            self._core.add(stream, partition, rows, latest_ms, farthest_ms)
        resumed = [PauseMark(stream, paused=False) for stream in self._followed(inputs, now_ms)]
        resumed_ms = self._core.mark_ms() if resumed else 0
        held = self._flows.paused
        idle: set[tuple[str, int]] = set()
        tick = None
        if live:
            caught_up = {(name, p) for name, p in self._core.inputs if TopicPartition(self._plan.streams[name].topic, p) in context.caught_up}
            stale = self._look.stale(now_ms if context.steady_ms is None else context.elapsed_ms, reads=bool(taken))
            idle = (set() if stale else caught_up) | {(name, p) for name, p in self._core.inputs if name in held}
            if not taken and len(idle) == len(self._core.inputs) and now_ms - self._core.journal_time_ms >= self._tick_ms:
                tick = now_ms
        step = self._core.release(idle, tick, held)
        paused = [PauseMark(stream, paused=True) for stream in self._flows.count(step.released, step.rejections.counts(), now_ms)]
        if resumed or paused:
            run = step.journal.begun_with(resumed, resumed_ms).ended_with(paused, self._core.mark_ms() if paused else 0)
            step = replace(step, journal=run)
        self._report.tell(step)
        changes = [*self._writers.absorb(step, self._core.covered_ms), *self._ends.absorb(step)]
        read = {TopicPartition(self._plan.streams[name].topic, p): offset for (name, p), offset in self._core.positions().items()}
        return Step(
            [*self._outputs.emissions(step), *changes], {**self._resumed, **read}, Coverage(0, self._core.covered_ms), flagged=step.flagged,
            flows=self._ends.into(self._writers.into(self._flows.snapshot())),
        )  # fmt: skip

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write what is new, small as it is, and the end of the journal before this step: what is behind it is read again."""
        if self._journal_end is None:
            return Checkpoint()
        entries = self._core.take_dirty()
        return Checkpoint(entries, {self._journal_partition: self._journal_end} if entries else {})

    def versions(self) -> Mapping[str, str]:
        """Code and form of the state. Ids are kept by stream, so another application version goes on with them."""
        return {"code": CODE_VERSION, "state": STATE_VERSION}

    def _followed(self, inputs: Sequence[Records], now_ms: int) -> list[str]:
        """Return the streams that go on."""
        followed = self._flows.resume(self._heard(inputs), now_ms)
        for word, obstacle in followed.refused:
            _LOG.warning("a command to resume %s is not followed: %s", word.stream, obstacle, extra={"command_id": word.command_id})
        return followed.resumed

    def _heard(self, inputs: Sequence[Records]) -> list[Resume]:
        """Return what operators say, and note how far it is read."""
        heard: list[Resume] = []
        for records in inputs:
            if records.topic == self._commands.topic and len(records):
                self._resumed[self._commands] = int(records.offsets[-1]) + 1
                heard += self._operators.read(records) if self._operators is not None else []
        return heard

    def _clean(self, records: Records) -> CleanRows:
        heartbeat, ends = np.zeros(len(records), np.bool_), dict[int, int]()
        if None in records.values:
            for row in [row for row, value in enumerate(records.values) if value is None]:
                heartbeat[row] = is_heartbeat(records.keys[row], None)
            ends = {row: ENDS for row in np.flatnonzero(heartbeat).tolist() if records.keys[row] == END_OF_STREAM_KEY}
        offsets, times = np.asarray(records.offsets, np.int64), np.asarray(records.timestamps_ms, np.int64)
        decoded = self._decoders[records.topic].decode(records.values)
        chunk = RawChunk(records.partition, offsets, times, heartbeat, records.keys, records.values, decoded, flags=ends)
        if records.topic in self._unwrappers:
            empty = np.array([value is None for value in records.values], np.bool_) & ~heartbeat
            changes = self._unwrappers[records.topic].unwrap(decoded, empty)
            chunk = replace(chunk, decoded=changes.decoded, deletes=changes.deletes, flags={**ends, **changes.flags})
        name = self._streams[records.topic].name
        return self._proofs[name].prove(self._core.clean(name, chunk))

    def _now_ms(self, context: StepContext, taken: Sequence[tuple[str, int, CleanRows]]) -> int:
        """Return the host's time without its steps; what is noticed of them is said."""
        stamps = np.concatenate([np.empty(0, np.int64), *(rows.timestamps_ms for _, _, rows in taken)])
        now_ms, step = self._host_clock.read(context.now_ms, context.steady_ms, stamps)
        if step is not None:
            (_LOG.warning if step.followed else _LOG.error)("partition %d: %s", self._partition, step)
        return now_ms


def _names(plan: Plan, stream: StreamPlan) -> list[str]:
    """Return the columns of texts that name state: entities of views, the key of a reference stream."""
    named = {view.entity_columns.get(stream.name) for view in plan.views} | {stream.key if stream.is_reference else None}
    return [field.name for field in stream.entry_arrow if field.name in named and pa.types.is_string(field.type)]


def _proof(stream: StreamPlan, limit_bytes: int, names: Sequence[str], name_bytes: int) -> EntryProof:
    """Return what judges a stream's entries, envelope aside, by encoding them and reading them again."""
    writer, reader, risky = _entry_codec(stream.entry_schema)

    def refused(entries: Packed) -> Mapping[int, tuple[str, str]]:
        return reader.read(entries.content, entries.stops[:-1], entries.stops[1:])[1]

    return EntryProof(writer.encode, refused, limit_bytes, risky, names, name_bytes)


@lru_cache(maxsize=64)
def _entry_codec(schema: str) -> tuple[RecordWriter, RecordReader, bool]:
    """Return what writes and reads a stream's entries, envelope aside, and whether an entry may hold what its type does not."""
    whole = parse_record(schema)
    record = AvroType("record", name=whole.name, fields=[field for field in whole.fields if not field.name.startswith("_")])
    risky = any(column.type.kind not in _HOLD_ANYTHING or column.type.logical in _HOLD_SOME for column in leaves(record))
    return RecordWriter(record, b""), RecordReader(record, record), risky
