"""The columns that drift detection reads of its three inputs, in merge order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.chosen_rows import chosen_rows, together
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import class_scores
from tidemill.shared.statistics.propensity import label_weights

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
LATENCY = "_latency_ms"


def floats(column: pa.Array) -> Float64:
    """Numbers with NaN for null."""
    numbers = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MergedCoordinates:
    """Journal coordinates of rows and their places in the merged order, shape (n,) each."""

    place: Int64
    time_ms: Int64
    partition: Int64
    offset: Int64


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Feature vectors: the asking stream of each, the batch with the feature columns, and the time from event to journal."""

    at: MergedCoordinates
    ask: NDArray[np.object_]
    batch: pa.RecordBatch
    lag_ms: Float64


@dataclass(frozen=True, slots=True)
class PredictionRows:
    """Answers as served; `latency_ms` from the request's availability to the answer, as the log's timestamps say.

    `scores` are the probabilities by class of models that have several, as Arrow has them; `lower` and `upper` the ends of the interval,
    `expected_error` and `expected_squared_error` what a regression's error model says, or NaN.
    """

    at: MergedCoordinates
    model: NDArray[np.object_]
    version: NDArray[np.object_]
    variant: NDArray[np.object_]
    sequence: Int64
    score: Float64
    predicted: Int64
    latency_ms: Int64
    scores: pa.Array
    lower: Float64
    upper: Float64
    expected_error: Float64
    expected_squared_error: Float64

    def scores_of(self, kind: Kind, chosen: NDArray[np.bool_]) -> Float64:
        """Return the scores of some rows as their model's kind has them: shape (n,), or (n, K)."""
        return _scores_of(kind, self.score, self.scores, chosen)


@dataclass(frozen=True, slots=True)
class PairRows:
    """What the other one of champion and challenger said, shape (n,) each; `sequence` is -1 where nobody was tried.

    `served_sequence` is of the one that answered; `score` is NaN and `predicted` -1 where the other one has none; `slices` are texts
    ``column=value`` as a JSON list, empty where there are none; `draw` is NaN in shadow.
    """

    served_sequence: Int64
    version: NDArray[np.object_]
    sequence: Int64
    score: Float64
    predicted: Int64
    scores: pa.Array
    slices: NDArray[np.object_]
    share: Float64
    stage: NDArray[np.object_]
    draw: Float64

    def part(self, chosen: slice) -> "PairRows":
        """Return those of some rows."""
        return PairRows(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    def scores_of(self, kind: Kind, chosen: NDArray[np.bool_]) -> Float64:
        """Return the scores of some rows as their model's kind has them: shape (n,), or (n, K)."""
        return _scores_of(kind, self.score, self.scores, chosen)


@dataclass(frozen=True, slots=True)
class OutcomeRows:
    """Answers joined with their labels; NaN is an unknown label or delay.

    `request` is the journal offset of the request, in the same partition, and `request_ms` its journal time. `lower` and `upper` are the ends of the
    prediction interval, NaN where there was none; `scores` as in `PredictionRows`. `weight` is how many requests a label stands for: 0 where the
    answer has hidden its label, and 1 without a control share.
    `label_class` is the name of the true class of models that have several. `pairs` are None where nobody was tried for any row.
    """

    at: MergedCoordinates
    request: Int64
    request_ms: Int64
    model: NDArray[np.object_]
    version: NDArray[np.object_]
    variant: NDArray[np.object_]
    status: NDArray[np.object_]
    revision: Int64
    score: Float64
    predicted: Int64
    label: Float64
    delay_ms: Float64
    scores: pa.Array
    lower: Float64
    upper: Float64
    weight: Float64
    label_class: pa.Array
    pairs: PairRows | None = None

    def scores_of(self, kind: Kind, chosen: NDArray[np.bool_]) -> Float64:
        """Return the scores of some rows as their model's kind has them: shape (n,), or (n, K)."""
        return _scores_of(kind, self.score, self.scores, chosen)

    def labelled_as(self, kind: Kind) -> "OutcomeRows":
        """Return the rows with labels as a kind numbers its classes; where they are learned, -1 stands for one that it does not know."""
        if not kind.is_learned:
            return self
        places = pc.index_in(self.label_class, pa.array(kind.classes, pa.string())).fill_null(-1)
        return replace(self, label=floats(pc.if_else(self.label_class.is_valid(), places, None)))

    def part(self, chosen: slice) -> "OutcomeRows":
        """Return those of some rows."""
        at = MergedCoordinates(self.at.place[chosen], self.at.time_ms[chosen], self.at.partition[chosen], self.at.offset[chosen])
        pairs = None if self.pairs is None else self.pairs.part(chosen)
        columns = {name: getattr(self, name)[chosen] for name in self.__slots__ if name not in ("at", "pairs")}
        return OutcomeRows(at=at, pairs=pairs, **columns)


def _scores_of(kind: Kind, score: Float64, scores: pa.Array, chosen: NDArray[np.bool_]) -> Float64:
    if not kind.has_classes:
        return score[chosen]
    return class_scores(scores.take(pa.array(np.flatnonzero(chosen))), kind)


def _texts(column: pa.Array) -> NDArray[np.object_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.object_)


def _integers(column: pa.Array) -> Int64:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def journal_columns(batch: pa.RecordBatch, prefix: str = "") -> Mapping[str, Int64]:
    """Journal coordinates of a batch as `Merge.add` takes them."""
    return {
        "journal_time": int64_ms(batch.column(f"{prefix}journal_time")),
        "journal_partition": _integers(batch.column(f"{prefix}journal_partition")),
        "journal_offset": _integers(batch.column(f"{prefix}journal_offset")),
    }


def vector_rows(at: MergedCoordinates, batch: pa.RecordBatch) -> VectorRows:
    """Read vectors."""
    return VectorRows(at, _texts(batch.column("_ask")), batch, (at.time_ms - int64_ms(batch.column("_event_time"))).astype(np.float64))


def prediction_rows(at: MergedCoordinates, batch: pa.RecordBatch) -> PredictionRows:
    """Read predictions."""
    model, version, variant = (_texts(batch.column(name)) for name in ("model", "model_version", "variant"))
    sequence, predicted, latency = (_integers(batch.column(name)) for name in ("deployment_sequence", "predicted", LATENCY))
    score, lower, upper = (floats(batch.column(name)) for name in ("score", "lower", "upper"))
    expected = (floats(batch.column(name)) for name in ("expected_error", "expected_squared_error"))
    return PredictionRows(at, model, version, variant, sequence, score, predicted, latency, batch.column("scores"), lower, upper, *expected)


def outcome_rows(at: MergedCoordinates, batch: pa.RecordBatch) -> OutcomeRows:
    """Read outcomes."""
    model, version, variant, status = (_texts(batch.column(name)) for name in ("model", "model_version", "variant", "status"))
    request, revision, predicted = (_integers(batch.column(name)) for name in ("request_journal_offset", "revision", "predicted"))
    score, label, delay, lower, upper = (floats(batch.column(name)) for name in ("score", "label", "delay_ms", "lower", "upper"))
    asked, scores = int64_ms(batch.column("request_journal_time")), batch.column("scores")
    weight = label_weights(floats(batch.column("control")), floats(batch.column("propensity")))
    classes = batch.column("label_class")
    return OutcomeRows(
        at, request, asked, model, version, variant, status, revision, score, predicted, label, delay, scores, lower, upper, weight, classes,
        _pairs(batch),
    )  # fmt: skip


def _pairs(batch: pa.RecordBatch) -> PairRows | None:
    """Read what the other one said; None where all are null, as nearly always."""
    sequence = batch.column("other_sequence")
    if sequence.null_count == batch.num_rows:
        return None
    texts = [_slices_text(tuple(one)) if one else "" for one in batch.column("slices").to_pylist()]
    return PairRows(
        _integers(batch.column("deployment_sequence")),
        _texts(batch.column("other_version")),
        _integers(sequence.fill_null(-1)),
        floats(batch.column("other_score")),
        _integers(batch.column("other_predicted").fill_null(-1)),
        batch.column("other_scores"),
        np.array(texts, dtype=np.object_),
        floats(batch.column("share")),
        _texts(batch.column("stage")),
        floats(batch.column("draw")),
    )


@lru_cache(maxsize=256)
def _slices_text(slices: tuple[tuple[str, str], ...]) -> str:
    """Return the values of slices as JSON: any character may stand in one, a separator too."""
    return json.dumps([f"{name}={value}" for name, value in slices])


def gathered(sources: Sequence[tuple[pa.RecordBatch, Int64, Int64]]) -> tuple[pa.RecordBatch, Int64]:
    """One batch of (batch, rows, places), ordered by place."""
    parts = [chosen_rows(batch, rows) for batch, rows, _ in sources]
    places = np.concatenate([places for _, _, places in sources])
    batch = together(parts)
    order = np.argsort(places, kind="stable")
    return chosen_rows(batch, order), places[order]
