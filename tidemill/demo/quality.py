"""How well a run served, against the first model kept as it was and against every candidate put into service, on the same requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.audit.history import History
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.bootstrap import Interval, auc_difference_interval
from tidemill.shared.statistics.metrics import accuracy, kappa, log_loss, roc_auc

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_LEAST_ROWS = 50


@dataclass(frozen=True, slots=True)
class Block:
    """Figures over one stretch of time: AUC (NaN with fewer than 50 rows), kappa, log loss, accuracy, as in `Quality`.

    Attributes
    ----------
    begin_ms
        Journal time of its begin.
    """

    begin_ms: int
    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    refit: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality over the labelled requests that a trained model answered, beside what two simpler ways would have had on the same requests.

    Attributes
    ----------
    served, static, refit
        AUC, kappa, log loss, accuracy of what was served, of the first model kept as it was, and of every candidate put into service at once.
    gap, refit_gap
        Served minus static, and minus always-refit AUC, with the paired 95 % interval over day blocks.
    weeks_ms, served_auc, static_auc, refit_auc : shape (weeks,)
        By block, a week by default.
    blocks
        Those with rows, in order of time.
    """

    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    refit: Mapping[str, float]
    gap: Interval
    refit_gap: Interval
    weeks_ms: NDArray[np.float64]
    served_auc: NDArray[np.float64]
    static_auc: NDArray[np.float64]
    refit_auc: NDArray[np.float64]
    blocks: Sequence[Block] = ()


def measure(history: History, vectors: pa.Table, artifacts: ArtifactStore, model: str) -> Quality | None:
    """Compare; None when no model was ever promoted or no label came after that."""
    return compare(history.deployments, history.outcomes, vectors, artifacts, model)


def compare(
    deployments: Sequence[Mapping[str, Any]],
    outcomes: pa.Table,
    vectors: pa.Table,
    artifacts: ArtifactStore,
    model: str,
    block_ms: int = WEEK_MS,
) -> Quality | None:
    """Compare, by the lifecycle log, the outcomes and the vectors of a run; None as in `measure`.

    Parameters
    ----------
    block_ms
        Length of a block. Intervals are over days, or over blocks that are shorter.
    """
    mine = [event for event in deployments if event["model"] == model]
    first = next((event for event in mine if event["event"] == "promoted"), None)
    if first is None:
        return None
    answered = labelled(outcomes, model).filter(pl.col("deployment_sequence") >= first["sequence"])
    rows = _frame(vectors).with_row_index("_row").select("_row", "_journal_partition", "_journal_offset")
    joined = answered.join(
        rows, left_on=["journal_partition", "request_journal_offset"], right_on=["_journal_partition", "_journal_offset"], how="inner"
    ).sort("_row")
    if not len(joined):
        return None
    asked = vectors.take(pa.array(joined["_row"].to_numpy().astype(np.int64))).combine_chunks()
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in asked.columns], names=asked.column_names)
    labels, served = joined["label"].to_numpy(), joined["score"].to_numpy()
    times = joined["request_journal_time"].cast(pl.Int64).to_numpy()
    static = _scorer(artifacts, first).score(batch)
    refit, chosen = np.empty(len(labels)), np.empty(len(labels), np.int64)
    candidates, in_service = refits_in_service(mine, times, joined["deployment_sequence"].to_numpy())
    for number in np.unique(in_service).tolist():
        part = in_service == number
        refit[part] = _scorer(artifacts, candidates[number]).score(batch.filter(pa.array(part)))
        chosen[part] = refit[part] >= candidates[number]["threshold"]
    weeks = np.unique(times // block_ms)
    by_week = [times // block_ms == week for week in weeks]
    days = times // min(DAY_MS, block_ms)
    answers = ((served, joined["predicted"].to_numpy()), (static, (static >= first["threshold"]).astype(np.int64)), (refit, chosen))
    blocks = [
        Block(week * block_ms, int(rows.sum()), *(_figures(labels[rows], scores[rows], said[rows], _LEAST_ROWS) for scores, said in answers))
        for week, rows in zip(weeks.tolist(), by_week, strict=True)
    ]
    return Quality(
        len(joined),
        _figures(labels, served, joined["predicted"].to_numpy()),
        _figures(labels, static, (static >= first["threshold"]).astype(np.int64)),
        _figures(labels, refit, chosen),
        auc_difference_interval(labels, served, static, days),
        auc_difference_interval(labels, served, refit, days),
        weeks.astype(np.float64) * block_ms,
        np.array([block.served["auc"] for block in blocks]),
        np.array([block.static["auc"] for block in blocks]),
        np.array([block.refit["auc"] for block in blocks]),
        blocks,
    )


def refits_in_service(
    events: Sequence[Mapping[str, Any]], times: NDArray[np.int64], sequences: NDArray[np.int64]
) -> tuple[list[Mapping[str, Any]], NDArray[np.int64]]:
    """Return every candidate from the first promoted one on, and which of them would have answered each request if none were ever refused.

    A candidate that was promoted answers from its first real answer on, a refused one from the instant that its training was asked for.

    Parameters
    ----------
    events
        Lifecycle log of one model.
    times, sequences : shape (n,)
        Journal time and deployment sequence of the requests, in order.
    """
    promoted = {event["version"]: event["sequence"] for event in events if event["event"] == "promoted"}
    registered = [event for event in events if event["event"] == "registered"]
    begin = next(i for i, event in enumerate(registered) if event["version"] in promoted)
    candidates, found = registered[begin:], np.zeros(len(times), np.int64)
    for number, event in enumerate(candidates[1:], start=1):
        later = sequences >= promoted[event["version"]] if event["version"] in promoted else times > _milliseconds(event["journal_time"])
        found[later] = number
    return candidates, found


def _milliseconds(time: Any) -> int:  # noqa: ANN401, RUF100 - milliseconds, or a datetime
    return round(time.timestamp() * 1000) if hasattr(time, "timestamp") else int(time)


def _scorer(artifacts: ArtifactStore, event: Mapping[str, Any]) -> OnnxScorer:
    return OnnxScorer(Artifact.from_bytes(artifacts.get(event["artifact_sha256"])))


def labelled(outcomes: pa.Table, model: str) -> pl.DataFrame:
    """Return one row per request whose truth is known, with the last label it got: by silence or by a correction as well."""
    return (
        _frame(outcomes)
        .filter((pl.col("model") == model) & (pl.col("status") != "unmatched") & pl.col("label").is_in([0.0, 1.0]))
        .sort("revision", maintain_order=True)
        .unique(["journal_partition", "request_journal_offset"], keep="last", maintain_order=True)
    )


def _figures(labels: NDArray[np.float64], scores: NDArray[np.float64], predicted: NDArray[Any], least: int = 0) -> dict[str, float]:
    return {
        "auc": roc_auc(labels, scores) if len(labels) >= least else float("nan"),
        "kappa": kappa(labels, predicted),
        "log_loss": log_loss(labels, scores),
        "accuracy": accuracy(labels, predicted),
    }


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
