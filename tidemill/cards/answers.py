"""What a version answered and what came of it, read from the archive."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.kinds.served_scores import served_scores
from tidemill.shared.lake.names import OUTCOMES, PREDICTIONS, VECTORS
from tidemill.shared.lake.tables import Lake, milliseconds
from tidemill.shared.statistics.propensity import Weights, label_weights

_PLACE = ["journal_partition", "request_journal_offset"]


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of answering, and over what time.

    Attributes
    ----------
    variant
        ``champion`` or ``canary``.
    """

    variant: str
    first_ms: int
    last_ms: int
    answers: int


@dataclass(frozen=True, slots=True)
class LabelledAnswers:
    """Labelled answers of a version, n rows in the order of their requests; of a corrected label the last one.

    Attributes
    ----------
    labels, predicted, request_ms : shape (n,)
    scores : shape (n,) or (n, K)
    columns
        Values of columns of the vector, by name.
    weights
        How many requests each stands for.
    """

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    predicted: NDArray[np.float64]
    request_ms: NDArray[np.int64]
    columns: pl.DataFrame
    weights: Weights

    def __len__(self) -> int:
        return len(self.labels)


def services(lake: Lake, model: str, version: str) -> list[Service]:
    """Return how a version answered, in the order of time; nothing of one that never did."""
    frame = _read(lake, PREDICTIONS, ["journal_time", "variant"], model, version)
    if frame is None or not frame.height:
        return []
    grouped = frame.group_by("variant").agg(
        pl.col("journal_time").min().alias("first"), pl.col("journal_time").max().alias("last"), pl.len().alias("answers")
    )
    return [Service(row["variant"], row["first"], row["last"], row["answers"]) for row in grouped.sort("first").to_dicts()]


def labelled(lake: Lake, model: ModelPlan, version: str, columns: list[str]) -> LabelledAnswers:
    """Return a version's labelled answers with some columns of their vectors."""
    wanted = [*_PLACE, "request_journal_time", "score", "scores", "predicted", "label", "revision"]
    have = lake.dataset(OUTCOMES).schema.names if lake.exists(OUTCOMES) else []
    more = [name for name in ("control", "propensity") if name in have]
    frame = _read(lake, OUTCOMES, [*wanted, *more], model.name, version)
    empty = np.empty(0)
    if frame is None:
        return LabelledAnswers(empty, empty, empty, np.empty(0, np.int64), pl.DataFrame(), None)
    frame = frame.filter(pl.col("label").is_not_null()).sort("revision").group_by(_PLACE, maintain_order=True).last().sort("request_journal_time")
    frame = frame.filter(pl.Series(model.kind.is_label(frame["label"].to_numpy()), dtype=pl.Boolean))
    table = frame.select("score", "scores").to_arrow().combine_chunks()
    scores = served_scores(model.kind, table.column("score").combine_chunks(), table.column("scores").combine_chunks())
    weights = None
    if more and frame["propensity"].drop_nulls().len():
        weights = label_weights(
            frame["control"].cast(pl.Float64).fill_null(float("nan")).to_numpy(), frame["propensity"].fill_null(float("nan")).to_numpy()
        )
    shown = _vectors(lake, frame, columns)
    return LabelledAnswers(
        frame["label"].to_numpy().astype(np.float64), scores, frame["predicted"].to_numpy().astype(np.float64),
        frame["request_journal_time"].to_numpy().astype(np.int64), shown, weights,
    )  # fmt: skip


def _vectors(lake: Lake, frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    known = [name for name in columns if lake.exists(VECTORS) and name in lake.dataset(VECTORS).schema.names]
    if not known or not frame.height:
        return pl.DataFrame()
    places = ["_journal_partition", "_journal_offset"]
    rows = _frame(lake.dataset(VECTORS).to_table(columns=[*places, *known])).with_columns(pl.col(places[0]).cast(pl.Int64))
    keys = frame.select(pl.col(_PLACE[0]).cast(pl.Int64).alias(places[0]), pl.col(_PLACE[1]).alias(places[1]))
    return keys.join(rows.unique(places, maintain_order=True), on=places, how="left", maintain_order="left").select(known)


def _read(lake: Lake, table: str, columns: list[str], model: str, version: str) -> pl.DataFrame | None:
    if not lake.exists(table):
        return None
    wanted = (ds.field("model") == model) & (ds.field("model_version") == version)
    return _frame(lake.dataset(table).to_table(columns=columns, filter=wanted))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(milliseconds(table))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
