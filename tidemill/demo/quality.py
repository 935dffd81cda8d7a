"""How well a run served, against the first model kept as it was and against every candidate put into service, on the same requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.audit.history import RunHistory
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import served_scores
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.statistics.bootstrap import Interval
from tidemill.shared.statistics.intervals import interval_figures
from tidemill.shared.statistics.propensity import Weights, label_weights, of_rows

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_LEAST_ROWS = 50
_WEIGHT = "_weight"
_RANKING = ("auc", "average_precision")


@dataclass(frozen=True, slots=True)
class Block:
    """Figures over one stretch of time, as in `Quality`; ranking metrics need 50 rows.

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
        Metrics of the model's kind by name (undefined ones are left out), of regression those of the prediction intervals as well: of what was
        served, of the first model kept as it was, and of every candidate put into service at once.
    headline
        Name of the metric that `gap` and `refit_gap` are of.
    gap, refit_gap
        Served minus static, and minus always-refit, with the paired 95 % interval over day blocks.
    blocks
        Those with rows, in order of time; a week each by default.
    """

    rows: int
    served: Mapping[str, float]
    static: Mapping[str, float]
    refit: Mapping[str, float]
    headline: str
    gap: Interval
    refit_gap: Interval
    blocks: Sequence[Block] = ()

    @property
    def begins_ms(self) -> NDArray[np.float64]:
        """Begin of each block, shape (blocks,)."""
        return np.array([block.begin_ms for block in self.blocks], np.float64)

    def curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the headline metric of each block, shape (blocks,), of served, static and always-refit; NaN where it is undefined."""
        served, static, refit = (
            np.array([figures.get(self.headline, np.nan) for figures in of_one], np.float64)
            for of_one in ([b.served for b in self.blocks], [b.static for b in self.blocks], [b.refit for b in self.blocks])
        )
        return served, static, refit


@dataclass(frozen=True, slots=True)
class _Answers:
    """Scores, classes and ends of the intervals, of the same rows."""

    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def figures(self, kind: Kind, labels: NDArray[np.float64], weights: Weights, rows: NDArray[np.bool_] | slice, least: int = 0) -> dict[str, float]:
        found = kind.figures(labels[rows], self.scores[rows], self.predicted[rows], of_rows(weights, rows))
        found |= interval_figures(labels[rows], self.lower[rows], self.upper[rows])
        return found if len(labels[rows]) >= least else {name: value for name, value in found.items() if name not in _RANKING}


def measure(history: RunHistory, vectors: pa.Table, artifacts: ArtifactStore, model: str, kind: Kind) -> Quality | None:
    """Compare; None when no model was ever promoted or no label came after that."""
    return compare(history.deployments, history.outcomes, vectors, artifacts, model, kind)


def compare(
    deployments: Sequence[Mapping[str, Any]],
    outcomes: pa.Table,
    vectors: pa.Table,
    artifacts: ArtifactStore,
    model: str,
    kind: Kind,
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
    answered = labelled(outcomes, model, kind).filter(pl.col("deployment_sequence") >= first["sequence"])
    rows = _frame(vectors).with_row_index("_row").select("_row", "_journal_partition", "_journal_offset")
    joined = answered.join(
        rows, left_on=["journal_partition", "request_journal_offset"], right_on=["_journal_partition", "_journal_offset"], how="inner"
    ).sort("_row")
    if not len(joined):
        return None
    asked = vectors.take(pa.array(joined["_row"].to_numpy().astype(np.int64))).combine_chunks()
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in asked.columns], names=asked.column_names)
    labels, times = joined["label"].to_numpy(), joined["request_journal_time"].cast(pl.Int64).to_numpy()
    weights = joined[_WEIGHT].to_numpy() if _WEIGHT in joined.columns else None
    served = _served(joined, kind)
    static = _answers(artifacts, first, batch, kind)
    candidates, in_service = refits_in_service(mine, times, joined["deployment_sequence"].to_numpy())
    refit = _by_turns(
        len(joined),
        [(in_service == number, _answers(artifacts, candidates[number], batch.filter(pa.array(in_service == number)), kind))
         for number in np.unique(in_service).tolist()],
    )  # fmt: skip
    days = times // min(DAY_MS, block_ms)
    blocks = []
    for block in np.unique(times // block_ms).tolist():
        own = times // block_ms == block
        blocks.append(
            Block(block * block_ms, int(own.sum()), *(one.figures(kind, labels, weights, own, _LEAST_ROWS) for one in (served, static, refit)))
        )
    everything = slice(None)
    return Quality(
        len(joined),
        served.figures(kind, labels, weights, everything),
        static.figures(kind, labels, weights, everything),
        refit.figures(kind, labels, weights, everything),
        kind.headline,
        kind.lead(labels, served.scores, static.scores, days, weights),
        kind.lead(labels, served.scores, refit.scores, days, weights),
        blocks,
    )


def _served(rows: pl.DataFrame, kind: Kind) -> _Answers:
    table = rows.select(name for name in ("score", "scores", "predicted", "lower", "upper") if name in rows.columns).to_arrow().combine_chunks()
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    lower, upper = (
        np.asarray(columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64) if name in columns else np.full(len(rows), np.nan)
        for name in ("lower", "upper")
    )
    return _Answers(served_scores(kind, columns["score"], columns.get("scores")), rows["predicted"].cast(pl.Int64).to_numpy(), lower, upper)


def _answers(artifacts: ArtifactStore, event: Mapping[str, Any], batch: pa.RecordBatch, kind: Kind) -> _Answers:
    """What a version would have answered."""
    scorer = OnnxScorer(Artifact.from_bytes(artifacts.get(event["artifact_sha256"])))
    scores = scorer.score(batch)
    low, high = scorer.signature.interval or (np.nan, np.nan)
    line = scores if not kind.classes else np.full(len(scores), np.nan)
    return _Answers(scores, kind.decide(scores, event["threshold"]).astype(np.int64), line + low, line + high)


def _by_turns(count: int, parts: Sequence[tuple[NDArray[np.bool_], _Answers]]) -> _Answers:
    """Put the answers of several versions together, each of its own rows."""
    found = _Answers(np.empty((count, *parts[0][1].scores.shape[1:])), np.empty(count, np.int64), np.empty(count), np.empty(count))
    for rows, own in parts:
        found.scores[rows], found.predicted[rows], found.lower[rows], found.upper[rows] = own.scores, own.predicted, own.lower, own.upper
    return found


def refits_in_service(
    events: Sequence[Mapping[str, Any]], times: NDArray[np.int64], sequences: NDArray[np.int64]
) -> tuple[list[Mapping[str, Any]], NDArray[np.int64]]:
    """Return every candidate from the first promoted one on, and which of them would have answered each request if none were ever refused.

    A candidate that its training promoted answers from its first real answer on; one that was refused, or had to go through stages first, from the
    instant that its training was asked for.

    Parameters
    ----------
    events
        Lifecycle log of one model.
    times, sequences : shape (n,)
        Journal time and deployment sequence of the requests, in order.
    """
    promotions = [event for event in events if event["event"] == "promoted"]
    registered = [event for event in events if event["event"] == "registered"]
    begin = next(i for i, event in enumerate(registered) if event["version"] in {one["version"] for one in promotions})
    asked = {event["version"]: event.get("decision_id") for event in registered}
    promoted = {one["version"]: one["sequence"] for one in promotions if one.get("decision_id") == asked[one["version"]]}
    candidates, found = registered[begin:], np.zeros(len(times), np.int64)
    for number, event in enumerate(candidates[1:], start=1):
        later = sequences >= promoted[event["version"]] if event["version"] in promoted else times > _milliseconds(event["journal_time"])
        found[later] = number
    return candidates, found


def _milliseconds(time: Any) -> int:  # noqa: ANN401, RUF100 - milliseconds, or a datetime
    return round(time.timestamp() * 1000) if hasattr(time, "timestamp") else int(time)


def labelled(outcomes: pa.Table, model: str, kind: Kind) -> pl.DataFrame:
    """Return one row per request whose truth is known, with the last label it got: by silence or by a correction as well.

    Of a model with a control share the column `_weight` says how many requests each stands for; those whose answer hides the label are left out.
    """
    rows = _frame(outcomes).with_columns(pl.col("label").cast(pl.Float64))
    is_label = pl.Series(kind.is_label(rows["label"].fill_null(np.nan).to_numpy()))
    found = (
        rows.filter((pl.col("model") == model) & (pl.col("status") != "unmatched") & is_label)
        .sort("revision", maintain_order=True)
        .unique(["journal_partition", "request_journal_offset"], keep="last", maintain_order=True)
    )
    if "propensity" not in found.columns or found["propensity"].null_count() == len(found):
        return found
    control, propensity = (found[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("control", "propensity"))
    return found.with_columns(pl.Series(_WEIGHT, label_weights(control, propensity))).filter(pl.col(_WEIGHT) > 0)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
