"""Recomputes a run from its journal in one process, with the same cores, and compares bit for bit."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.audit.answer_queue import AnswerQueue
from tidemill.audit.comparison import RequestCounts, ScoreComparison
from tidemill.audit.history import prediction_schema, shadow_score_schema
from tidemill.audit.run_log import RunLog, without
from tidemill.audit.served import served_states
from tidemill.services.features.task import FeaturesTask
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.packed import taken
from tidemill.shared.log.records import Records
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.runner.task import StepContext

_EXAMPLES = 10
_END = int(np.iinfo(np.int64).max)
_COUNTS = (
    "vectors_compared", "vector_mismatches", "predictions_compared", "prediction_mismatches", "switches_back", "shadow_scores_compared",
    "shadow_score_mismatches",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What was compared.

    Attributes
    ----------
    switches_back
        Predictions and shadow scores that follow an older deployment than the one before them.
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
    shadow_scores_compared: int = 0
    shadow_score_mismatches: int = 0

    @property
    def clean(self) -> bool:
        """True when everything was recomputed and nothing differs."""
        mismatches = self.vector_mismatches + self.prediction_mismatches + self.shadow_score_mismatches
        return self.vectors_compared > 0 and not (mismatches or self.switches_back)


@dataclass(frozen=True, slots=True)
class Extent:
    """What of a partition is audited.

    Attributes
    ----------
    features, scoring
        Journal offsets below which vectors and predictions must be complete; what lies beyond is not looked at.
    quarantined_journal, quarantined_vectors
        Offsets of records that a stage has put aside for good after crashes.
    shadow_scores
        How many shadow scores there must be, as scoring's progress says; None: it is not known.
    begin
        Journal offset from which on the application is the audited one; vectors and predictions of requests before it are another's.
    """

    features: int = _END
    scoring: int = _END
    quarantined_journal: frozenset[int] = frozenset()
    quarantined_vectors: frozenset[int] = frozenset()
    shadow_scores: int | None = None
    begin: int = 0


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
    comparisons: Mapping[str, ScoreComparison]
    vectors: _Count = field(default_factory=_Count)
    predictions: _Count = field(default_factory=_Count)
    shadows: _Count = field(default_factory=_Count)
    examples: list[str] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)

    def partition(self, partition: int, extent: Extent) -> None:
        self._vectors(partition, extent)
        self._predictions(partition, extent)

    def _vectors(self, partition: int, extent: Extent) -> None:
        expected = self._recomputed(partition, extent)
        decoded = self._decoded_vectors(partition, extent.begin, extent.features, frozenset())
        values = (value for records, *_ in decoded for value in records.values)
        for i, (first, second) in enumerate(zip_longest(expected, values)):
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
                    # The state is a fold over the whole journal; what was answered before the application was this one is not its own.
                    if not isinstance(emission.columns, pa.RecordBatch):
                        raise TypeError("expected vectors in columns, as features hands them on")
                    places = int64_ms(emission.columns.column("_journal_offset"))
                    yield from emission.values[int(np.searchsorted(places, extent.begin)) :]

    def _decoded_vectors(
        self, partition: int, begin: int, end: int, quarantined: frozenset[int]
    ) -> Iterator[tuple[Records, pa.RecordBatch, Sequence[bytes | None]]]:
        """Vectors as they stand in the topic, those of them that can be read, and their keys."""
        decoder = ColumnDecoder(self.registry, self.plan.vector_schema)
        for records in self.log.vectors(partition):
            kept = without(records, quarantined)
            decoded = decoder.decode(kept.values)
            # One that cannot be read has no offset: it belongs to those around it, and differs from whatever was expected there.
            places = int64_ms(decoded.batch.column("_journal_offset"))
            first, last = (_first_from(places, decoded.rows, offset, len(kept)) for offset in (begin, end))
            if first < last:
                skipped, readable = (int((decoded.rows < row).sum()) for row in (first, last))
                yield kept[first:last], decoded.batch.slice(skipped, readable - skipped), taken(kept.keys, decoded.rows[skipped:readable])

    def _predictions(self, partition: int, extent: Extent) -> None:
        span = range(extent.begin, extent.scoring)
        answered = AnswerQueue(
            self.log.predictions(partition), ColumnDecoder(self.registry, prediction_schema()), span, ("deployment_sequence", "revision")
        )
        shadows = AnswerQueue(
            self.log.shadow_scores(partition), ColumnDecoder(self.registry, shadow_score_schema()), span,
            ("champion_sequence", "challenger_sequence"),
        )  # fmt: skip
        missing = 0
        for comparison in self.comparisons.values():
            comparison.begin()
        for _, batch, keys in self._decoded_vectors(partition, extent.begin, extent.scoring, extent.quarantined_vectors):
            for name, model in self.plan.models.items():
                rows = np.flatnonzero(pc.equal(batch.column("_ask"), model.ask).to_numpy(zero_copy_only=False))
                if not len(rows):
                    continue
                asked = batch.take(pa.array(rows))
                last = int(asked.column("_journal_offset")[-1].as_py())
                compared = self.comparisons[name].compare(asked, taken(keys, rows), answered.take(name, last), shadows.take(name, last))
                self._add(compared)
                missing += compared.shadow_scores_left_out
        self._rest(answered, self.predictions, f"predictions of partition {partition} answer no request")
        self._rest(shadows, self.shadows, f"shadow scores of partition {partition} are of no request")
        if extent.shadow_scores is not None:
            missing = max(missing, extent.shadow_scores - shadows.read)
        self.shadows.compared += missing
        self.shadows.wrong += missing
        if missing:
            self._example(f"{missing} shadow scores of partition {partition} are missing")

    def _add(self, part: RequestCounts) -> None:
        for count, compared, wrong in (
            (self.predictions, part.predictions, part.prediction_mismatches),
            (self.shadows, part.shadow_scores, part.shadow_score_mismatches),
        ):
            count.compared += compared
            count.wrong += wrong
        self.predictions.back += part.switches_back
        self.degraded.update(part.degraded)
        for text in part.examples:
            self._example(text)

    def _rest(self, queue: AnswerQueue, count: _Count, what: str) -> None:
        for name, left in queue.rest().items():
            count.compared += left
            count.wrong += left
            self._example(f"{name}: {left} {what}")

    def _example(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


def audit(plan: Plan, registry: SchemaRegistry, artifacts: ArtifactStore, log: RunLog, extents: Mapping[int, Extent] | None = None) -> AuditResult:
    """Recompute every vector, every prediction and every shadow score; so also who answers, of champion and canary.

    One that is missing, or that nothing explains, counts as a mismatch. Missing shadow scores are found between others of the same challenger, and
    at the ends of its stage by the count in scoring's progress.

    Parameters
    ----------
    extents
        By partition; by default all that there is.
    """
    deployments = log.deployments()
    revisions = {(str(record["model"]), int(record["sequence"])): record for record in log.revisions()}
    encoders = {
        "prediction": ColumnEncoder(registry, f"{plan.topics.predictions}-tidemill.Prediction", prediction_schema()),
        "shadow-score": ColumnEncoder(registry, f"{plan.topics.shadow_scores}-tidemill.ShadowScore", shadow_score_schema()),
    }
    comparisons = {
        name: ScoreComparison(
            name, ScoringCore(plan, [name]), encoders["prediction"], encoders["shadow-score"],
            served_states(plan, artifacts, name, [event for event in deployments if event["model"] == name]), revisions,
        )
        for name in plan.models
    }  # fmt: skip
    state = _Audit(plan, registry, log, comparisons)
    for partition, extent in (dict.fromkeys(range(plan.application.partitions), Extent()) if extents is None else extents).items():
        state.partition(partition, extent)
    vectors, predictions, shadows = state.vectors, state.predictions, state.shadows
    counts = (vectors.compared, vectors.wrong, predictions.compared, predictions.wrong, predictions.back)
    degraded = {reason: count for reason, count in state.degraded.items() if count}
    return AuditResult(*counts, tuple(state.examples), degraded, shadows.compared, shadows.wrong)


def combined(results: Sequence[AuditResult]) -> AuditResult:
    """Return the result of several audits, of one run's applications one after the other."""
    counts = {name: sum(getattr(one, name) for one in results) for name in _COUNTS}
    examples = [example for one in results for example in one.examples]
    degraded = sum((Counter(one.degraded) for one in results), Counter[str]())
    return AuditResult(**counts, examples=tuple(examples[:_EXAMPLES]), degraded=dict(degraded))


def _first_from(places: NDArray[np.int64], rows: NDArray[np.int64], offset: int, count: int) -> int:
    """Return the first record whose journal offset is not before one; `rows` are the records that could be decoded."""
    later = np.flatnonzero(places >= offset) if offset > 0 else np.empty(0, np.int64)
    return 0 if offset <= 0 else int(rows[later[0]]) if len(later) else count
