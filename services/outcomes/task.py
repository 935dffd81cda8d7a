"""Outcomes as a task: predictions, shadow scores and the journal in journal order in, one outcome per request (and per correction) out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.bulk_join import BulkJoin
from tidemill.services.outcomes.domain.join import JoinPolicy, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.released_rows import InvalidLabel, JournalRows, PredictionRows, ShadowRows, batch_of, rows_by
from tidemill.services.outcomes.domain.request import LabelColumns, RequestColumns
from tidemill.services.outcomes.domain.served_numbers import ServedNumbers, count_of_numbers
from tidemill.services.outcomes.domain.served_pairs import ServedPairs
from tidemill.shared.application.journal import JournalBatch, JournalDecoder
from tidemill.shared.application.plan import LabelPlan, ModelPlan, Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.avro.messages import message_codec, message_decoder, message_encoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Checkpoint, Emission, Records, StateEntry, Step
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask, decoded
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.letter_size import DEFAULT_LIMIT_BYTES
from tidemill.shared.runner.task import StepContext, TaskInputs
from tidemill.shared.short_text import short_text

Int64 = NDArray[np.int64]
_UPSTREAM = "scoring"
_FOLD_VERSION = "outcomes-5"
_MERGE_KEY, _CLASSES_KEY = b"merge", b"classes"
_LONGEST_LABEL = 200


def task_inputs(plan: Plan) -> TaskInputs:
    """Where the records come from: the journal (labels, ticks), predictions and shadow scores, and how far scoring has come."""
    inputs = (plan.topics.journal, plan.topics.predictions, plan.topics.shadow_scores, plan.topics.progress(_UPSTREAM))
    return TaskInputs(inputs, sole_outputs=(plan.topics.outcomes,))


def join_policy(model: ModelPlan) -> JoinPolicy:
    """What the application file says about waiting for the truth."""
    label = model.label
    timeout = {"unlabelled": None, "negative": 0.0, "value": label.timeout_value}[label.on_timeout]
    controlled = model.control is not None
    numbers, corrected = count_of_numbers(model.kind, has_control_share=controlled), label.corrections == "last"
    return JoinPolicy(model.name, label.max_delay_ms, timeout, corrected, numbers, len(model.kind.classes), controlled)


class OutcomesTask(MergingTask):
    """One journal partition's requests and labels.

    Parameters
    ----------
    letter_bytes
        What the topic of dead letters takes.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, partition: int, letter_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        topics = plan.topics
        # A pair comes before the prediction of its request.
        derived = [MergeInput(topic, rank, (partition,), _UPSTREAM) for rank, topic in enumerate((topics.shadow_scores, topics.predictions), 1)]
        inputs = [MergeInput(topics.journal, 0, (partition,)), *derived]
        told = topics.progress(_UPSTREAM)
        super().__init__(inputs, {told: message_codec(registry, told, "progress")})
        self._plan = plan
        self._partition = partition
        self._journal = JournalDecoder(plan, registry)
        self._predictions = message_decoder(registry, "prediction")
        self._shadow_scores = message_decoder(registry, "shadow-score")
        self._outcomes = message_encoder(registry, topics.outcomes, "outcome")
        self._dead_letters = DeadLetters(topics.rejected, "outcomes", message_codec(registry, topics.rejected, "rejected").encode, letter_bytes)
        self._join = OutcomeJoin(join_policy(model) for model in plan.models.values())
        self._bulk = BulkJoin(self._join)
        self._classes = KnownClasses({name: model.kind for name, model in plan.models.items()})
        self._served = ServedNumbers(self._classes, [name for name, model in plan.models.items() if model.control is not None])
        self._pairs = ServedPairs(self._classes)
        self._labels: dict[str, list[tuple[str, LabelPlan]]] = {}
        for name, model in plan.models.items():
            self._labels.setdefault(model.label.stream, []).append((name, model.label))
        self._written: dict[bytes, bytes] = {}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the last checkpoint."""
        blobs = {entry.key: entry.value for entry in entries if entry.value is not None}
        self._written = {key: blobs.pop(key) for key in (_MERGE_KEY, _CLASSES_KEY) if key in blobs}
        if _MERGE_KEY in self._written:
            self.merge.restore(self._written[_MERGE_KEY])
        if _CLASSES_KEY in self._written:
            self._classes.load(self._written[_CLASSES_KEY])
        self._join.load({key.decode(): value for key, value in blobs.items()})

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Join what the merge lets go."""
        self.finish_replay()
        self.read(inputs)
        outcomes, letters = self._fold(self.merge.release())
        self.cover()
        return Step([*self._emissions(outcomes), *letters], self.merge.positions(), self.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write all that has changed since the last time, and the positions of this moment."""
        self.finish_replay()
        changed = [StateEntry(key.encode(), blob) for key, blob in self._join.snapshot().items()]
        own = {_MERGE_KEY: self.merge.state()} | ({_CLASSES_KEY: self._classes.snapshot()} if self._classes.learning else {})
        changed += [StateEntry(key, blob) for key, blob in own.items() if blob != self._written.get(key)]
        self._written = own
        return Checkpoint(changed, self.merge.positions())

    def versions(self) -> Mapping[str, str]:
        """Version of the fold and of the application."""
        return {"code": _FOLD_VERSION, "application": self._plan.application_hash}

    def refold(self, released: Released) -> None:
        """Join again what had been joined since the checkpoint."""
        self._fold(released)

    def take(self, records: Records) -> None:
        """Add labels and ticks of the journal, or requests."""
        if records.topic == self._plan.topics.predictions:
            self._take_predictions(records)
            return
        if records.topic == self._plan.topics.shadow_scores:
            self._take_shadow_scores(records)
            return
        batch = self._journal.decode(records)
        rows = self._judged(batch, records)
        self.merge.add(records.topic, self._partition, offsets=records.offsets, journal_time=batch.journal_time_ms, payload=rows)

    def _take_predictions(self, records: Records) -> None:
        batch = decoded(self._predictions, records, _UPSTREAM)
        models = batch.column("model").to_pylist()
        predicted, numbers = self._served.columns(models, batch)
        offsets, times, events = (int64_ms(batch.column(name)) for name in ("journal_offset", "journal_time", "event_time"))
        requests = RequestColumns(
            batch.column("request_id").to_pylist(),
            offsets,
            times,
            events,
            batch.column("score").to_numpy(),
            np.array(predicted, np.int64),
            list(zip(*(batch.column(name).to_pylist() for name in ("model_version", "deployment_sequence", "variant")), strict=True)),
            numbers,
        )
        self.merge.add(
            records.topic,
            self._partition,
            offsets=records.offsets,
            journal_time=times,
            journal_offset=offsets,
            payload=PredictionRows(requests, rows_by(models)),
        )

    def _take_shadow_scores(self, records: Records) -> None:
        batch = decoded(self._shadow_scores, records, _UPSTREAM)
        offsets = int64_ms(batch.column("journal_offset"))
        self.merge.add(
            records.topic,
            self._partition,
            offsets=records.offsets,
            journal_time=int64_ms(batch.column("journal_time")),
            journal_offset=offsets,
            payload=ShadowRows(batch.column("model").to_pylist(), offsets.tolist(), self._pairs.pairs(batch)),
        )

    def _judged(self, batch: JournalBatch, records: Records) -> JournalRows:
        """Sort labels out by row; what is no label of its model is set aside, once a record."""
        labels: dict[str, tuple[Int64, LabelColumns]] = {}
        invalid: dict[int, InvalidLabel] = {}
        for stream, models in self._labels.items():
            group = batch.groups.get(stream)
            if group is None:
                continue
            rows, times = group.rows, int64_ms(group.columns.column("_event_time"))
            for name, label in models:
                # As text by the rule that made the request's id text, or a number would never meet its request.
                identities = key_texts(group.columns.column(label.join))
                given, failed = label.value.attempt(group.columns)
                values, names, good = _labels(label, given, learned=name in self._classes.learning)
                # No value by failure is no label either, and is said; a null is a label that is not known yet.
                present = pc.and_(pc.is_valid(identities), pc.or_(pc.is_valid(given), pa.array(failed))).to_numpy(zero_copy_only=False)
                chosen = np.flatnonzero(present & good)
                texts = (column.take(pa.array(chosen)).to_pylist() for column in (identities, names))
                said = LabelColumns(next(texts), values[chosen], times[chosen], next(texts))
                labels[name] = rows[chosen], said
                for i in np.flatnonzero(present & ~good).tolist():
                    row, request = int(rows[i]), (name, identities[i].as_py())
                    came = f"a record for which {label.value.sql} has no value" if failed[i] else repr(given[i].as_py())
                    came = short_text(came, _LONGEST_LABEL)
                    detail = f"expected {label.expected} as the label of {name}, found {came}; the record is in the journal, without it"
                    known = invalid.setdefault(row, InvalidLabel(records[row : row + 1], detail, []))
                    known.requests.append(request)
        return JournalRows(labels, invalid)

    def _fold(self, released: Released) -> tuple[list[Outcome], list[Emission]]:
        batch, invalid = batch_of(released, self._partition, self._plan.models)
        letters = [
            self._dead_letters.emission(one.record, self._partition, "invalid_label", one.detail, batch.at(place).time_ms) for place, one in invalid
        ]
        return self._bulk.absorb(batch), letters

    def _emissions(self, outcomes: Sequence[Outcome]) -> list[Emission]:
        if not outcomes:
            return []
        models, places, requests, statuses, truths, delays, revisions = zip(*outcomes, strict=True)
        when, partitions, offsets = zip(*places, strict=True)
        names, asked_offsets, asked, happened, scores, predicted, versions, sequences, variants, *_ = zip(*requests, strict=True)
        times = pa.timestamp("ms")
        batch = pa.RecordBatch.from_pydict(
            {
                "request_id": pa.array(names, pa.string()),
                "model": pa.array(models, pa.string()),
                "journal_partition": pa.array(partitions, pa.int32()),
                "journal_offset": pa.array(offsets, pa.int64()),
                "journal_time": pa.array(when, pa.int64()).cast(times),
                "request_journal_offset": pa.array(asked_offsets, pa.int64()),
                "request_journal_time": pa.array(asked, pa.int64()).cast(times),
                "event_time": pa.array(happened, pa.int64()).cast(times),
                "score": pa.array(scores, pa.float64(), from_pandas=False),
                "predicted": pa.array(predicted, pa.int32()),
                "model_version": pa.array(versions, pa.string()),
                "deployment_sequence": pa.array(sequences, pa.int64()),
                "variant": pa.array(variants, pa.string()),
                "status": pa.array(statuses, pa.string()),
                "label": self._served.labels(outcomes),
                "label_event_time": pa.array([label.event_time_ms if label else None for label in truths], pa.int64()).cast(times),
                "delay_ms": pa.array(delays, pa.int64()),
                "revision": pa.array(revisions, pa.int32()),
                **self._served.outcome_columns(outcomes),
                **self._pairs.outcome_columns(outcomes),
            }
        )
        keys: list[bytes | None] = [name.encode() for name in names]
        conformed = self._outcomes.conform(batch)
        return [Emission(self._plan.topics.outcomes, self._partition, keys, self._outcomes.encode(conformed), columns=conformed)]


def _labels(label: LabelPlan, given: pa.Array, *, learned: bool) -> tuple[NDArray[np.float64], pa.Array, NDArray[np.bool_]]:
    """Return what values of a label's expression are as numbers and as names (of learned classes), and which are labels."""
    if learned:
        names = label.names(given)
        return np.full(len(given), np.nan), names, names.is_valid().to_numpy(zero_copy_only=False)
    values, good = label.labels(given)
    return values, pa.repeat("", len(given)), good
