"""Explanations as a task: vectors and predictions in journal order in, one explanation for each prediction of a model that asks for them out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.explanations.domain.explaining import explain_predictions
from tidemill.services.explanations.explainers import Explainers
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_decoder, message_encoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import chained, taken
from tidemill.shared.log.records import Checkpoint, Emission, Records, StateEntry, Step
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask, decoded
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.runner.task import StepContext, TaskInputs

_CODE_VERSION = "explanations-2"
_MERGE_KEY, _VECTOR_KEY = b"merge", b"vector"
_VECTORS_OF, _PREDICTIONS_OF = "features", "scoring"


def task_inputs(plan: Plan) -> TaskInputs:
    """Where the records come from: vectors, predictions, and how far the stages that write them have come."""
    topics = plan.topics
    read = (topics.vectors, topics.predictions, topics.progress(_VECTORS_OF), topics.progress(_PREDICTIONS_OF))
    return TaskInputs(read, sole_outputs=(topics.explanations,))


class ExplanationsTask(MergingTask):
    """Explains one partition's predictions.

    A prediction comes right behind its vector, but the step that reads the one need not have read the other: the last vector that was passed is kept,
    as state. Everything else follows from the records and from the versions that they name.

    Parameters
    ----------
    artifacts
        Where the versions are.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, artifacts: ArtifactStore, partition: int) -> None:
        topics = plan.topics
        inputs = [MergeInput(topics.vectors, 0, (partition,), _VECTORS_OF), MergeInput(topics.predictions, 1, (partition,), _PREDICTIONS_OF)]
        told = map(topics.progress, (_VECTORS_OF, _PREDICTIONS_OF))
        super().__init__(inputs, {topic: message_codec(registry, topic, "progress") for topic in told})
        self._plan, self._partition = plan, partition
        self._top = {name: model.settings.explain.top for name, model in plan.models.items() if model.settings.explain is not None}
        self._vectors = ColumnDecoder(registry, plan.vector_schema)
        self._predictions = message_decoder(registry, "prediction")
        self._explanations = message_encoder(registry, topics.explanations, "explanation")
        self._explainers = Explainers(artifacts, len(self._top))
        self._last = self._no_vector = _no_rows(plan.vector_arrow)
        self._written: dict[bytes, bytes] = {}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load the counts of the merge and the last vector."""
        self._written = {entry.key: entry.value for entry in entries if entry.value is not None}
        if _MERGE_KEY in self._written:
            self.merge.restore(self._written[_MERGE_KEY])
        if _VECTOR_KEY in self._written:
            self._last = _as_now(pa.ipc.open_stream(self._written[_VECTOR_KEY]).read_next_batch(), self._plan.vector_arrow)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Explain what the merge lets go."""
        self.finish_replay()
        self.read(inputs)
        released = self.merge.release()
        vectors = self._passed(released)
        emissions = self._explained(released, vectors, context.elapsed_ms)
        self.cover()
        return Step(emissions, self.merge.positions(), self.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write the counts and the last vector, if they have changed."""
        self.finish_replay()
        now = {_MERGE_KEY: self.merge.state()}
        if self._last.num_rows:
            now[_VECTOR_KEY] = _as_bytes(self._last)
        changed = [StateEntry(key, value) for key, value in now.items() if self._written.get(key) != value]
        self._written = now
        return Checkpoint(changed, self.merge.positions())

    def versions(self) -> Mapping[str, str]:
        """Code; what an application changes is not part of the state."""
        return {"code": _CODE_VERSION}

    def refold(self, released: Released) -> None:
        """Keep the last vector; what was explained is out already."""
        self._passed(released)

    def take(self, records: Records) -> None:
        """Add vectors or predictions."""
        is_vectors = records.topic == self._plan.topics.vectors
        batch = decoded(*((self._vectors, records, _VECTORS_OF) if is_vectors else (self._predictions, records, _PREDICTIONS_OF)))
        prefix = "_" if is_vectors else ""
        self.merge.add(
            records.topic,
            records.partition,
            offsets=records.offsets,
            journal_time=int64_ms(batch.column(f"{prefix}journal_time")),
            journal_offset=int64_ms(batch.column(f"{prefix}journal_offset")),
            payload=(batch, records.keys),
        )

    def _passed(self, released: Released) -> pa.RecordBatch:
        """Return the vectors that predictions of a step can be of, in order, and keep the last."""
        parts = [batch.take(pa.array(rows)) for batch, _, rows in _of_topic(released, self._plan.topics.vectors)]
        vectors = pa.concat_batches([self._last, *parts])
        self._last = vectors.slice(max(0, vectors.num_rows - 1))
        return vectors

    def _explained(self, released: Released, vectors: pa.RecordBatch, elapsed_ms: int) -> list[Emission]:
        explanations, keys = [], []
        for batch, own_keys, rows in _of_topic(released, self._plan.topics.predictions):
            models = np.asarray(batch.column("model").to_pylist(), object)[rows]
            rows = rows[np.isin(models, list(self._top))]
            if len(rows):
                explanations.append(batch.take(pa.array(rows)))
                keys.append(taken(own_keys, rows))
        if not explanations:
            return []
        predictions = pa.concat_batches(explanations)
        offsets, wanted = (int64_ms(column) for column in (vectors.column("_journal_offset"), predictions.column("journal_offset")))
        places = np.minimum(np.searchsorted(offsets, wanted), max(0, len(offsets) - 1))
        has_vector = offsets[places] == wanted if len(offsets) else np.zeros(len(wanted), np.bool_)
        parts, order = [], []
        for name, version, rows in _versions(predictions):
            explainer = None if version == "default" else self._explainers.of(name, version, elapsed_ms)
            own = vectors.take(pa.array(np.where(has_vector, places, 0)[rows])) if len(offsets) else self._no_vector
            parts.append(explain_predictions(predictions.take(pa.array(rows)), own, has_vector[rows], explainer, self._top[name]))
            order.append(rows)
        batch = pa.concat_batches(parts).take(pa.array(np.argsort(np.concatenate(order))))
        return [Emission(self._plan.topics.explanations, self._partition, chained(keys), self._explanations.encode(batch))]


def _of_topic(released: Released, topic: str) -> list[tuple[pa.RecordBatch, Sequence[bytes | None], NDArray[np.int64]]]:
    """Return a topic's batches in the order in which they were read, with their keys and the rows that are let go."""
    chosen = [(number, payload) for number, (name, _, payload) in enumerate(released.sources) if name == topic]
    return [(*payload, released.rows[released.source == number]) for number, payload in chosen]


def _versions(predictions: pa.RecordBatch) -> list[tuple[str, str, NDArray[np.int64]]]:
    """Return rows by model and version, in the order in which they first come."""
    names: dict[tuple[str, str], list[int]] = {}
    pairs = zip(predictions.column("model").to_pylist(), predictions.column("model_version").to_pylist(), strict=True)
    for row, pair in enumerate(pairs):
        names.setdefault(pair, []).append(row)
    return [(*pair, np.array(rows, np.int64)) for pair, rows in names.items()]


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _as_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        # A slice would be written with all that lies around it.
        writer.write_batch(pa.concat_batches([batch.take(pa.array([0]))]))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _as_now(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a vector of the application as it was with the columns it has now; what it had not is missing."""
    had = {field.name: field.type for field in batch.schema}
    columns = [batch.column(field.name) if had.get(field.name) == field.type else pa.nulls(batch.num_rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
