"""The labelled requests of a run that a trained model answered, and what any version would have answered them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import served_scores
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.intervals import interval_figures
from tidemill.shared.statistics.propensity import Weights, label_weights, of_rows

_WEIGHT = "_weight"
_RANKING = ("auc", "average_precision")


@dataclass(frozen=True, slots=True)
class JudgedScores:
    """Scores, classes and ends of the prediction intervals, of the same rows.

    Attributes
    ----------
    scores : float64 array, shape (n,) or (n, K)
        As the kind has them.
    predicted : int64 array, shape (n,)
        Index of the class; 0 for regression.
    lower, upper : float64 arrays, shape (n,)
        NaN where there is no interval.
    """

    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def figures(self, kind: Kind, labels: NDArray[np.float64], weights: Weights, rows: NDArray[np.bool_] | slice, least: int = 0) -> dict[str, float]:
        """Return the kind's metrics over some rows; ranking metrics need `least` rows."""
        figures = kind.figures(labels[rows], self.scores[rows], self.predicted[rows], of_rows(weights, rows))
        figures |= interval_figures(labels[rows], self.lower[rows], self.upper[rows])
        return figures if len(labels[rows]) >= least else {name: value for name, value in figures.items() if name not in _RANKING}

    @staticmethod
    def by_turns(count: int, parts: Sequence[tuple[NDArray[np.bool_], "JudgedScores"]]) -> "JudgedScores":
        """Put the answers of several versions together, each of its own rows."""
        width = parts[0][1].scores.shape[1:]
        whole = JudgedScores(np.empty((count, *width)), np.empty(count, np.int64), np.empty(count), np.empty(count))
        for rows, own in parts:
            whole.scores[rows], whole.predicted[rows], whole.lower[rows], whole.upper[rows] = own.scores, own.predicted, own.lower, own.upper
        return whole


@dataclass(frozen=True, slots=True)
class JudgedRequests:
    """Requests with the last label they got, in the order in which they came.

    Attributes
    ----------
    rows
        Their outcomes.
    vectors
        What a model reads of each, in the same order, whatever order the archive has them in.
    labels, times_ms, sequences : shape (n,)
        Label (float64), journal time of the request in milliseconds, and deployment sequence of the answer (int64).
    weights : float64 array, shape (n,), or None
        Of a model with a control share: how many requests each stands for.
    """

    kind: Kind
    rows: pl.DataFrame
    vectors: pa.RecordBatch
    labels: NDArray[np.float64]
    times_ms: NDArray[np.int64]
    sequences: NDArray[np.int64]
    weights: Weights

    def __len__(self) -> int:
        return len(self.rows)

    def served(self) -> JudgedScores:
        """Return what was answered."""
        names = (name for name in ("score", "scores", "predicted", "lower", "upper") if name in self.rows.columns)
        table = self.rows.select(names).to_arrow().combine_chunks()
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        lower, upper = (
            np.asarray(columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64) if name in columns else np.full(len(self), np.nan)
            for name in ("lower", "upper")
        )
        scores = served_scores(self.kind, columns["score"], columns.get("scores"))
        return JudgedScores(scores, self.rows["predicted"].cast(pl.Int64).to_numpy(), lower, upper)

    def answers(self, artifacts: ArtifactStore, event: Mapping[str, Any], rows: NDArray[np.bool_] | None = None) -> JudgedScores:
        """Return what the version of a lifecycle event would have answered, on all requests or on those of a mask of shape (n,)."""
        batch = self.vectors if rows is None else self.vectors.filter(pa.array(rows))
        scorer = OnnxScorer(Artifact.from_bytes(artifacts.get(event["artifact_sha256"])))
        scores = scorer.score(batch)
        if self.kind.is_learned:
            # What it did not know it would not have answered.
            scores = np.column_stack([scores, np.zeros((len(scores), self.kind.width - scores.shape[1]))])
        low, high = scorer.signature.interval or (np.nan, np.nan)
        line = scores if not self.kind.has_classes else np.full(len(scores), np.nan)
        return JudgedScores(scores, self.kind.decide(scores, event["threshold"]).astype(np.int64), line + low, line + high)


def judged_requests(outcomes: pa.Table, vectors: pa.Table, model: str, kind: Kind, sequence: int) -> JudgedRequests | None:
    """Return a model's labelled requests that were answered in the state of a deployment sequence or a later one; None without any."""
    answered = labelled(outcomes, model, kind).filter(pl.col("deployment_sequence") >= sequence)
    places = _frame(vectors).with_row_index("_row").select("_row", "_journal_partition", "_journal_offset")
    rows = answered.join(
        places, left_on=["journal_partition", "request_journal_offset"], right_on=["_journal_partition", "_journal_offset"], how="inner"
    ).sort("request_journal_time", "journal_partition", "request_journal_offset")
    if not len(rows):
        return None
    asked = vectors.take(pa.array(rows["_row"].to_numpy().astype(np.int64))).combine_chunks()
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in asked.columns], names=asked.column_names)
    return JudgedRequests(
        kind,
        rows,
        batch,
        rows["label"].to_numpy(),
        rows["request_journal_time"].cast(pl.Int64).to_numpy(),
        rows["deployment_sequence"].to_numpy(),
        rows[_WEIGHT].to_numpy() if _WEIGHT in rows.columns else None,
    )


def labelled(outcomes: pa.Table, model: str, kind: Kind) -> pl.DataFrame:
    """Return one row per request whose truth is known, with the last label it got: by silence or by a correction as well.

    Of a model with a control share the column `_weight` says how many requests each stands for; those whose answer hides the label are left out.
    """
    rows = _frame(outcomes).with_columns(_label(kind))
    is_label = pl.Series(kind.is_label(rows["label"].fill_null(np.nan).to_numpy()))
    known = (
        rows.filter((pl.col("model") == model) & (pl.col("status") != "unmatched") & is_label)
        .sort("revision", maintain_order=True)
        .unique(["journal_partition", "request_journal_offset"], keep="last", maintain_order=True)
    )
    if "propensity" not in known.columns or known["propensity"].null_count() == len(known):
        return known
    control, propensity = (known[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("control", "propensity"))
    return known.with_columns(pl.Series(_WEIGHT, label_weights(control, propensity))).filter(pl.col(_WEIGHT) > 0)


def _label(kind: Kind) -> pl.Expr:
    """Return the label as the kind numbers it: of learned classes by name, null for one that no version knows."""
    if not kind.is_learned:
        return pl.col("label").cast(pl.Float64)
    numbers = [float(i) for i in range(kind.width)]
    return pl.col("label_class").cast(pl.String).replace_strict(list(kind.classes), numbers, default=None, return_dtype=pl.Float64).alias("label")


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
