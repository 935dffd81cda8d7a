"""How well a run served, against the first model kept as it was, on the same requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from services.cli.history import History
from shared.models.artifacts import Artifact, ArtifactStore
from shared.models.onnx_scorer import OnnxScorer
from shared.statistics.bootstrap import Interval, auc_difference_interval
from shared.statistics.metrics import accuracy, kappa, log_loss, roc_auc

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Quality:
    """Served and static quality over the labelled requests that a trained model answered.

    Attributes
    ----------
    served, static
        AUC, kappa, log loss, accuracy.
    gap
        Served minus static AUC, with the paired 95 % interval over day blocks.
    weeks_ms, served_auc, static_auc : shape (weeks,)
    """

    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    gap: Interval
    weeks_ms: NDArray[np.float64]
    served_auc: NDArray[np.float64]
    static_auc: NDArray[np.float64]


def measure(history: History, vectors: pa.Table, artifacts: ArtifactStore, model: str) -> Quality | None:
    """Compare; None when no model was ever promoted or no label came after that."""
    first = next((event for event in history.deployments if event["model"] == model and event["event"] == "promoted"), None)
    if first is None:
        return None
    outcomes = labelled(history.outcomes, model).filter(pl.col("deployment_sequence") >= first["sequence"])
    rows = _frame(vectors).with_row_index("_row").select("_row", "_journal_partition", "_journal_offset")
    joined = outcomes.join(
        rows, left_on=["journal_partition", "request_journal_offset"], right_on=["_journal_partition", "_journal_offset"], how="inner"
    ).sort("_row")
    if not len(joined):
        return None
    scorer = OnnxScorer(Artifact.from_bytes(artifacts.get(first["artifact_sha256"])))
    asked = vectors.take(pa.array(joined["_row"].to_numpy().astype(np.int64))).combine_chunks()
    static = scorer.score(pa.RecordBatch.from_arrays([column.combine_chunks() for column in asked.columns], names=asked.column_names))
    labels, served = joined["label"].to_numpy(), joined["score"].to_numpy()
    times = joined["request_journal_time"].cast(pl.Int64).to_numpy()
    weeks = np.unique(times // WEEK_MS)
    chosen = [times // WEEK_MS == week for week in weeks]
    return Quality(
        len(joined),
        _figures(labels, served, joined["predicted"].to_numpy()),
        _figures(labels, static, (static >= first["threshold"]).astype(np.int64)),
        auc_difference_interval(labels, served, static, times // DAY_MS),
        weeks.astype(np.float64) * WEEK_MS,
        np.array([_auc(labels[rows], served[rows]) for rows in chosen]),
        np.array([_auc(labels[rows], static[rows]) for rows in chosen]),
    )


def labelled(outcomes: pa.Table, model: str) -> pl.DataFrame:
    """Return one row per request whose truth is known, with the last label it got: by silence or by a correction as well."""
    return (
        _frame(outcomes)
        .filter((pl.col("model") == model) & (pl.col("status") != "unmatched") & pl.col("label").is_in([0.0, 1.0]))
        .sort("revision", maintain_order=True)
        .unique(["journal_partition", "request_journal_offset"], keep="last", maintain_order=True)
    )


def _auc(labels: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    return roc_auc(labels, scores) if len(labels) >= _LEAST_ROWS else float("nan")


def _figures(labels: NDArray[np.float64], scores: NDArray[np.float64], predicted: NDArray[Any]) -> dict[str, float]:
    return {
        "auc": roc_auc(labels, scores),
        "kappa": kappa(labels, predicted),
        "log_loss": log_loss(labels, scores),
        "accuracy": accuracy(labels, predicted),
    }


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
