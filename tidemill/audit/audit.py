"""Recomputes a run from its journal in one process, with the same cores, and compares bit for bit."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.audit.history import prediction_schema
from tidemill.audit.prediction_queue import Answers, PredictionQueue
from tidemill.audit.run_log import RunLog, without
from tidemill.services.features.task import FeaturesTask
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.serving import Serving
from tidemill.services.scoring.loading import TRANSIENT_REASONS, load_serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.deployments import Lifecycle
from tidemill.shared.runner.task import StepContext

_EXAMPLES = 10
_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What was compared.

    Attributes
    ----------
    switches_back
        Predictions that follow an older deployment than the one before them.
    degraded
        Predictions by the reason for which the fallback answered although the model could have: a wait or a store that did not answer leaves no
        trace in the journal, so that the reason is taken at its word. That the answer is the fallback's is checked.
    """

    vectors_compared: int
    vector_mismatches: int
    predictions_compared: int
    prediction_mismatches: int
    switches_back: int
    examples: tuple[str, ...] = ()
    degraded: Mapping[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """True when everything was recomputed and nothing differs."""
        return self.vectors_compared > 0 and not (self.vector_mismatches or self.prediction_mismatches or self.switches_back)


@dataclass(frozen=True, slots=True)
class Extent:
    """What of a partition is audited.

    Attributes
    ----------
    features, scoring
        Journal offsets below which vectors and predictions must be complete; what lies beyond is not looked at.
    quarantined_journal, quarantined_vectors
        Offsets of records that a stage has put aside for good after crashes.
    """

    features: int = _END
    scoring: int = _END
    quarantined_journal: frozenset[int] = frozenset()
    quarantined_vectors: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Count:
    compared: int = 0
    wrong: int = 0
    back: int = 0


@dataclass(slots=True)
class _Audit:
    plan: Plan
    registry: SchemaRegistry
    log: RunLog
    serving: Mapping[str, Mapping[int, Serving]]
    cores: Mapping[str, ScoringCore]
    revisions: Mapping[tuple[str, int], Mapping[str, Any]]
    vectors: _Count = field(default_factory=_Count)
    predictions: _Count = field(default_factory=_Count)
    examples: list[str] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)

    def partition(self, partition: int, extent: Extent) -> None:
        self._vectors(partition, extent)
        self._predictions(partition, extent)

    def _vectors(self, partition: int, extent: Extent) -> None:
        expected = self._recomputed(partition, extent)
        found = (value for records, _ in self._decoded_vectors(partition, extent.features, frozenset()) for value in records.values)
        for i, (first, second) in enumerate(zip_longest(expected, found)):
            self.vectors.compared += 1
            if first != second:
                self.vectors.wrong += 1
                what = "missing" if second is None else "nothing explains it" if first is None else "differs"
                self._example(f"vector {i} of partition {partition}: {what}")

    def _recomputed(self, partition: int, extent: Extent) -> Iterator[bytes | None]:
        task = FeaturesTask(self.plan, self.registry, partition)
        for records in self.log.journal(partition):
            own = without(records[: int((records.offsets < extent.features).sum())], extent.quarantined_journal)
            if len(own):
                for emission in task.process([own], StepContext(now_ms=0)).emissions:
                    yield from emission.values

    def _decoded_vectors(self, partition: int, end: int, quarantined: frozenset[int]) -> Iterator[tuple[Records, pa.RecordBatch]]:
        decoder = ColumnDecoder(self.registry, self.plan.vector_schema)
        for records in self.log.vectors(partition):
            kept = without(records, quarantined)
            decoded = decoder.decode(kept.values)
            # One that cannot be read has no offset: it belongs to those around it, and differs from whatever was expected there.
            beyond = np.flatnonzero(int64_ms(decoded.batch.column("_journal_offset")) >= end)
            count = int(decoded.rows[beyond[0]]) if len(beyond) else len(kept)
            if count:
                yield kept[:count], decoded.batch.slice(0, int((decoded.rows < count).sum()))

    def _predictions(self, partition: int, extent: Extent) -> None:
        queue = PredictionQueue(self.log.predictions(partition), ColumnDecoder(self.registry, prediction_schema()), extent.scoring)
        encoder = ColumnEncoder(self.registry, f"{self.plan.topics.predictions}-tidemill.Prediction", prediction_schema())
        latest = dict.fromkeys(self.plan.models, -1)
        for _, batch in self._decoded_vectors(partition, extent.scoring, extent.quarantined_vectors):
            for name, model in self.plan.models.items():
                asked = batch.filter(pc.equal(batch.column("_ask"), model.ask))
                if asked.num_rows:
                    answers = queue.take(name, int(asked.column("_journal_offset")[-1].as_py()))
                    latest[name] = self._compare(name, encoder, asked, answers, latest[name])
        for name, left in queue.rest().items():
            self.predictions.compared += left
            self.predictions.wrong += left
            self._example(f"{name}: {left} predictions of partition {partition} answer no request")

    def _compare(self, name: str, encoder: ColumnEncoder, asked: pa.RecordBatch, answers: Answers, latest: int) -> int:
        """Score requests again with what served; returns the last deployment followed."""
        offsets = int64_ms(asked.column("_journal_offset"))
        rows, places = _matched(offsets, answers.offsets)
        missing, extra = len(offsets) - len(rows), len(answers.offsets) - len(rows)
        if missing or extra:
            self._example(f"{name}: of {len(offsets)} requests from journal offset {offsets[0]} on, {missing} have no prediction; {extra} too many")
        sequences, revisions = answers.sequences[places], answers.revisions[places]
        self.predictions.back += int((np.diff(np.concatenate([[latest], sequences])) < 0).sum())
        self.predictions.compared += max(len(offsets), len(answers.offsets))
        self.predictions.wrong += missing + extra
        steps = [0, *(np.flatnonzero(np.diff(sequences) | np.diff(revisions)) + 1).tolist(), len(rows)]
        for begin, end in pairwise(steps):
            if begin == end:
                continue
            now = self._revised(name, self.serving[name].get(int(sequences[begin])), int(revisions[begin]))
            batch, found = asked.take(pa.array(rows[begin:end])), [answers.values[place] for place in places[begin:end].tolist()]
            differing = self._differing(name, encoder, batch, now, found)
            fallbacks = {} if now is None or now.scorer is None else {reason: now.without_model(reason) for reason in TRANSIENT_REASONS}
            for reason, fallback in fallbacks.items():
                asked_again = batch.take(pa.array(differing, pa.int64()))
                left = self._differing(name, encoder, asked_again, fallback, [found[i] for i in differing])
                self.degraded[reason] += len(differing) - len(left)
                differing = [differing[i] for i in left]
            self.predictions.wrong += len(differing)
            for i in differing:
                self._example(f"{name}: prediction at journal offset {answers.offsets[places[begin + i]]}, deployment {sequences[begin]}, differs")
        return int(sequences[-1]) if len(sequences) else latest

    def _revised(self, name: str, now: Serving | None, revision: int) -> Serving | None:
        """Return what served under a revision that a prediction names; one that is of another version, or unknown, changes nothing."""
        record = self.revisions.get((name, revision))
        if record is None or now is None or record["model_version"] != now.version:
            return now
        return replace(now, interval=(record["lower_offset"], record["upper_offset"]), revision=revision)

    def _differing(self, name: str, encoder: ColumnEncoder, asked: pa.RecordBatch, now: Serving | None, found: Sequence[bytes | None]) -> list[int]:
        """Score requests again; returns the rows whose answer is another one."""
        again = encoder.encode(self.cores[name].process(asked, {} if now is None else {name: now}).batch)
        return [i for i, (value, other) in enumerate(zip(again, found, strict=True)) if value != other]

    def _example(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


def audit(plan: Plan, registry: SchemaRegistry, artifacts: ArtifactStore, log: RunLog, extents: Mapping[int, Extent] | None = None) -> AuditResult:
    """Recompute every vector and every prediction.

    A vector or prediction that is missing, or that nothing explains, counts as a mismatch.

    Parameters
    ----------
    extents
        By partition; by default all that there is.
    """
    deployments = log.deployments()
    revisions = {(str(record["model"]), int(record["sequence"])): record for record in log.revisions()}
    serving = {name: _served(plan, artifacts, name, [event for event in deployments if event["model"] == name]) for name in plan.models}
    state = _Audit(plan, registry, log, serving, {name: ScoringCore(plan, [name]) for name in plan.models}, revisions)
    for partition in range(plan.application.partitions):
        state.partition(partition, Extent() if extents is None else extents[partition])
    vectors, predictions = state.vectors, state.predictions
    counts = (vectors.compared, vectors.wrong, predictions.compared, predictions.wrong, predictions.back)
    return AuditResult(*counts, tuple(state.examples), {reason: count for reason, count in state.degraded.items() if count})


def _matched(asked: NDArray[np.int64], answered: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of requests and of their (first) answers; offsets ascend in both."""
    found, first = np.unique(answered, return_index=True)
    _, rows, places = np.intersect1d(asked, found, assume_unique=True, return_indices=True)
    return rows.astype(np.int64), first[places].astype(np.int64)


def _served(plan: Plan, artifacts: ArtifactStore, model: str, events: Sequence[dict[str, Any]]) -> dict[int, Serving]:
    """Return what served from each deployment on."""
    lifecycle, served = Lifecycle(), dict[int, Serving]()
    for event in events:
        lifecycle = lifecycle.apply(event)
        champion = lifecycle.champion
        if champion is not None and champion.sequence not in served:
            served[champion.sequence] = load_serving(plan, artifacts, model, champion)
    return served
