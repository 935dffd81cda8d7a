"""Drift as a task: requests, answers, outcomes, changes of schemas and ends of streams in; findings, incidents, trials and health records out."""

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from tidemill.services.drift.domain.findings import Finding, HealthRecord
from tidemill.services.drift.domain.fold import DriftFold, DriftRecord
from tidemill.services.drift.domain.incident import IncidentUpdate
from tidemill.services.drift.domain.intervals import Revision
from tidemill.services.drift.domain.loss_verdict import LossSettings
from tidemill.services.drift.domain.recent_labels import MetricBound
from tidemill.services.drift.domain.rows import LATENCY, MergedCoordinates, gathered, journal_columns, outcome_rows, prediction_rows, vector_rows
from tidemill.services.drift.domain.schema_changes import schema_news
from tidemill.services.drift.domain.stream_ends import end_news
from tidemill.services.drift.domain.trial import ContestBlock
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.services.drift.state_text import compressed
from tidemill.shared.application.drift_policy import DriftPolicy
from tidemill.shared.application.lineage import Lineage, lineage_of
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_decoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Checkpoint, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask, decoded
from tidemill.shared.runner.task import StepContext, TaskInputs
from tidemill.shared.short_text import LONGEST_TEXT

_UPSTREAM = ("features", "scoring", "outcomes", "ingestion")
_FOLD_VERSION = "drift-36"
# Of each so many bytes of the last snapshot: one of a day's labels takes seconds to write, and a stage that writes nothing else falls behind.
_SNAPSHOT_ROWS, _SNAPSHOT_BYTES = 50_000, 400_000
_MERGE_KEY = b"merge"


def task_inputs(plan: Plan) -> TaskInputs:
    """Where drift's records come from: one task reads every partition, and the progress of the stages before it."""
    topics = plan.topics
    read = (topics.vectors, topics.predictions, topics.outcomes, topics.schema_changes, topics.stream_ends, *map(topics.progress, _UPSTREAM))
    return TaskInputs(read, gathered=True, other_outputs=(topics.drift, topics.found_incidents, topics.revisions, topics.health, topics.trials))


def watch_settings(model: ModelPlan, lineage: Mapping[str, Lineage] | None = None, columns: Collection[str] = ()) -> WatchSettings:
    """What is watched of a model, from the application file; of its slices those that are columns of the vectors."""
    own = model.settings
    return WatchSettings(
        model=model.name,
        ask=model.ask,
        features=model.features,
        kind=model.kind,
        bootstrap_labels=own.retraining.bootstrap_labels,
        labels=own.retraining.labels,
        loss=LossSettings(
            kind=model.kind,
            max_delay_ms=own.label.max_delay,
            silence_is_a_label=own.label.on_timeout != "unlabelled",
            corrections=own.label.corrections == "last",
            detectors=own.detectors,
            clusters=own.drift.clusters,
            false_alarm_days=own.drift.false_alarm_days,
            tolerance=own.drift.tolerance,
        ),
        psi=own.drift.psi,
        missing_shift=own.drift.missing_shift,
        bounds_of_metrics=metric_bounds(own.drift),
        label_stream=own.label.stream,
        shown_only=frozenset(name for name, one in (lineage or {}).items() if one.behaviour != "window"),
        dates=frozenset(name for name, one in (lineage or {}).items() if one.is_date),
        shared=frozenset(name for name, one in (lineage or {}).items() if one.view or one.is_reference),
        block_ms=own.gate.block,
        slices=tuple(name for name in own.slices if name in columns),
        labels_of_class=own.training.min_positives,
    )


def metric_bounds(policy: DriftPolicy) -> tuple[MetricBound, ...]:
    """Bounds on what is served, by metric."""
    floors = tuple(MetricBound(name, bound, is_floor=True) for name, bound in policy.all_floors.items())
    return floors + tuple(MetricBound(name, bound, is_floor=False) for name, bound in policy.ceilings.items())


class DriftTask(MergingTask):
    """The one task of the stage.

    Its state goes out as a whole every 50,000 rows (only entries that changed are written), with the positions of that moment as marker:
    a restart loads the last one, replays what had been released since in merge order, and closes the windows that had been covered.

    Parameters
    ----------
    revises
        Whether revisions are written; a run that is given again has its own.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, *, revises: bool = True) -> None:
        topics = plan.topics
        self._plan = plan
        self._revises = revises
        lineage, types = lineage_of(plan), {one.name: one.type for one in plan.features}
        partitions = tuple(range(plan.application.partitions))
        told_by = {stream.name: 1 if stream.is_reference else len(partitions) for stream in plan.streams.values()}
        self._fold = DriftFold([watch_settings(model, lineage, types) for model in plan.models.values()], types, lineage, told_by)
        self._stages = {
            topics.vectors: "features",
            topics.predictions: "scoring",
            topics.outcomes: "outcomes",
            topics.schema_changes: "ingestion",
            topics.stream_ends: "ingestion",
        }
        inputs = [MergeInput(topic, rank, partitions, stage) for rank, (topic, stage) in enumerate(self._stages.items())]
        super().__init__(inputs, {topic: message_codec(registry, topic, "progress") for topic in map(topics.progress, _UPSTREAM)})
        self._decoders = {
            topics.vectors: ColumnDecoder(registry, plan.vector_schema),
            topics.predictions: message_decoder(registry, "prediction"),
            topics.outcomes: message_decoder(registry, "outcome"),
            topics.schema_changes: message_decoder(registry, "schema-change"),
            topics.stream_ends: message_decoder(registry, "stream-end"),
        }
        self._drift = message_codec(registry, topics.drift, "drift", LONGEST_TEXT)
        self._incident = message_codec(registry, topics.found_incidents, "incident", LONGEST_TEXT)
        self._revision = message_codec(registry, topics.revisions, "revision")
        self._trial = message_codec(registry, topics.trials, "trial")
        self._health = message_codec(registry, topics.health, "health", LONGEST_TEXT)
        self._rows_since_snapshot, self._snapshot_bytes = _SNAPSHOT_ROWS, 0
        self._marker: dict[TopicPartition, int] = {}
        self._written: dict[bytes, bytes] = {}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the last snapshot."""
        state = {}
        for entry in entries:
            if entry.value is None:
                continue
            self._written[entry.key] = hashlib.sha256(entry.value).digest()
            self._snapshot_bytes += len(entry.value)
            if entry.key == _MERGE_KEY:
                self.merge.restore(entry.value)
            else:
                state[entry.key.decode()] = json.loads(zlib.decompress(entry.value))
        if state:
            self._fold.load(state)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        # Also without records to replay the windows that had been covered are to be closed.
        self.replaying = True

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Fold what the merge lets go, and close the windows it has passed."""
        self.finish_replay()
        self.read(inputs)
        said = self._absorb(self.merge.release())
        self.cover()
        said += self._fold.advance(self.coverage.time_ms)
        return Step(self._emissions(said), self.merge.positions(), self.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write the changed entries of the whole state when rows enough for its size have been folded since the last time, else the old marker."""
        self.finish_replay()
        if self._rows_since_snapshot < _SNAPSHOT_ROWS * max(1, self._snapshot_bytes // _SNAPSHOT_BYTES):
            return Checkpoint((), self._marker)
        self._rows_since_snapshot = 0
        state = self._fold.snapshot()
        # What is compressed is let go at once.
        blobs = {name.encode(): compressed(state.pop(name)) for name in list(state)}
        blobs[_MERGE_KEY] = self.merge.state()
        self._snapshot_bytes = sum(map(len, blobs.values()))
        digests = {key: hashlib.sha256(blob).digest() for key, blob in blobs.items()}
        entries = [StateEntry(key, blob) for key, blob in blobs.items() if self._written.get(key) != digests[key]]
        entries += [StateEntry(key, None) for key in self._written if key not in blobs]
        self._written = digests
        self._marker = self.merge.positions()
        return Checkpoint(entries, self._marker)

    def versions(self) -> Mapping[str, str]:
        """Version of the fold (raise it when the fold changes: state is then rebuilt) and of the application."""
        return {"code": _FOLD_VERSION, "application": self._plan.application_hash}

    def refold(self, released: Released) -> None:
        """Fold what had been released since the snapshot, and close the windows that had been covered."""
        self._absorb(released)
        self._fold.advance(self.coverage.time_ms)

    def take(self, records: Records) -> None:
        """Add rows of one topic, with their journal coordinates."""
        batch = decoded(self._decoders[records.topic], records, self._stages[records.topic])
        columns = journal_columns(batch, "_" if records.topic == self._plan.topics.vectors else "")
        if records.topic == self._plan.topics.predictions:
            batch = batch.append_column(LATENCY, pa.array(records.timestamps_ms - columns["journal_time"]))
        self.merge.add(records.topic, records.partition, offsets=records.offsets, payload=batch, **columns)

    def _absorb(self, released: Released) -> list[DriftRecord]:
        if not len(released):
            return []
        self._rows_since_snapshot += len(released)
        places = np.arange(len(released), dtype=np.int64)
        at = MergedCoordinates(places, released.journal_time, released.journal_partition, released.journal_offset)
        parts: dict[str, tuple[MergedCoordinates, pa.RecordBatch]] = {}
        for topic in self._stages:
            sources = []
            for number, (name, _, batch) in enumerate(released.sources):
                if name == topic:
                    chosen = np.flatnonzero(released.source == number)
                    sources.append((batch, released.rows[chosen], places[chosen]))
            if sources:
                batch, own = gathered(sources)
                parts[topic] = (MergedCoordinates(own, at.time_ms[own], at.partition[own], at.offset[own]), batch)
        topics = self._plan.topics
        vectors = vector_rows(*parts[topics.vectors]) if topics.vectors in parts else None
        predictions = prediction_rows(*parts[topics.predictions]) if topics.predictions in parts else None
        outcomes = outcome_rows(*parts[topics.outcomes]) if topics.outcomes in parts else None
        changes, ends = parts.get(topics.schema_changes), parts.get(topics.stream_ends)
        schemas = [] if changes is None else schema_news(changes[0].place.tolist(), changes[1])
        ended = [] if ends is None else end_news(ends[0].place.tolist(), ends[1])
        return self._fold.absorb(at, vectors, predictions, outcomes, schemas, ended)

    def _emissions(self, said: Sequence[DriftRecord]) -> list[Emission]:
        topics = self._plan.topics
        kinds = (
            (topics.drift, self._drift, Finding),
            (topics.found_incidents, self._incident, IncidentUpdate),
            (topics.revisions, self._revision, Revision),
            (topics.health, self._health, HealthRecord),
            (topics.trials, self._trial, ContestBlock),
        )
        emissions = []
        for topic, codec, kind in kinds:
            chosen = [one for one in said if isinstance(one, kind) and (self._revises or not isinstance(one, Revision))]
            if chosen:
                times = np.array([one.at.time_ms for one in chosen], dtype=np.int64)
                keys = [one.model.encode() for one in chosen]
                emissions.append(Emission(topic, 0, keys, [codec.encode(one.record()) for one in chosen], times))
        return emissions
