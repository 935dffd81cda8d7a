"""The figures of a trial: the kind's metric and the mean loss of two applications on the same requests, with intervals over day blocks."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.backtest.figures import block_of
from tidemill.demo.judged_requests import labelled
from tidemill.demo.quality import DAY_MS
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.kinds.served_scores import classes_answered, served_scores
from tidemill.shared.lake.journal import OFFSET, PARTITION
from tidemill.shared.lake.names import journal_table
from tidemill.shared.lake.tables import Lake
from tidemill.shared.statistics.bootstrap import Interval, mean_difference_interval

_LEAST_ROWS, _LEAST_OF_A_SLICE, _MOST_SLICES = 50, 200, 10
_SCORES = pa.map_(pa.string(), pa.float64())
_PLACE = ["journal_partition", "request_journal_offset"]


def compared(model: ModelPlan, before: ModelPlan | None, running: pa.Table, changed: pa.Table, archive: Lake) -> Mapping[str, Any]:
    """Compare what two applications answered, on the labelled requests that a trained model of both answered.

    Parameters
    ----------
    model, before
        The model in the changed application and in the running one; None: it is new.
    running, changed
        Outcomes of both over the same journal.
    archive
        Where the columns of the slices lie.
    """
    nothing = {"rows": 0, "slices": []}
    if before is None:
        return {**nothing, "why": "it is new: nothing runs beside it"}
    if before.kind.name != model.kind.name:
        return {**nothing, "why": "it is of another kind"}
    if model.learns_classes:
        names = [name for table in (running, changed) for name in classes_answered(_scores_of(table, model.name))]
        model = model.with_classes(tuple(dict.fromkeys(names)))
    kind = model.kind
    old, new = (labelled(table, model.name, kind).filter(pl.col("deployment_sequence") >= 0) for table in (running, changed))
    both = old.join(new, on=_PLACE, how="inner", suffix="_changed").sort("request_journal_time", *_PLACE)
    if len(both) < _LEAST_ROWS:
        return {**nothing, "why": f"{len(both)} labelled requests were answered by a trained model of both, expected {_LEAST_ROWS}"}
    labels, times = both["label"].to_numpy(), both["request_journal_time"].cast(pl.Int64).to_numpy()
    table = both.to_arrow().combine_chunks()
    first, second = (
        served_scores(kind, table.column(f"score{tail}").combine_chunks(), table.column(f"scores{tail}").combine_chunks())
        for tail in ("_changed", "")
    )
    days = times // min(DAY_MS, block_of(int(times[-1] - times[0]) + 1, len(both)))
    losses = kind.losses(labels, first), kind.losses(labels, second)
    figures = [
        kind.figures(labels, scores, both[f"predicted{tail}"].cast(pl.Int64).to_numpy()).get(kind.headline, float("nan"))
        for scores, tail in ((first, "_changed"), (second, ""))
    ]
    return {
        "rows": len(both),
        "metric": kind.headline,
        "changed": figures[0],
        "running": figures[1],
        "gap": _interval(kind.lead(labels, first, second, days)),
        "loss": _interval(mean_difference_interval(*losses, days)),
        "slices": _slices(model, both, losses, days, archive),
    }


def _scores_of(outcomes: pa.Table, model: str) -> pa.Array:
    own = outcomes.filter(pc.equal(outcomes.column("model"), model))
    return own.column("scores").combine_chunks() if len(own) else pa.array([], _SCORES)


def _slices(
    model: ModelPlan, rows: pl.DataFrame, losses: tuple[NDArray[Any], NDArray[Any]], days: NDArray[Any], archive: Lake
) -> list[dict[str, Any]]:
    """Return the slices of a model with enough labels, the one whose mean loss rises most first."""
    table = journal_table(model.ask)
    known = [name for name in model.settings.slices if archive.exists(table) and name in archive.dataset(table).schema.names]
    if not known:
        return []
    columns = archive.dataset(table).to_table(columns=[PARTITION, OFFSET, *known])
    wide = pl.from_arrow(columns)
    if not isinstance(wide, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(wide).__name__}")
    asked = rows.select(_PLACE).with_row_index("_row").join(
        wide.with_columns(pl.col(PARTITION).cast(rows.schema[_PLACE[0]]), pl.col(OFFSET).cast(rows.schema[_PLACE[1]])),
        left_on=_PLACE, right_on=[PARTITION, OFFSET], how="inner",
    )  # fmt: skip
    slices: list[dict[str, Any]] = []
    for name in known:
        for (value, *_), group in asked.group_by([name], maintain_order=True):
            own = group["_row"].to_numpy()
            if len(own) >= _LEAST_OF_A_SLICE:
                loss = mean_difference_interval(losses[0][own], losses[1][own], days[own])
                slices.append({"slice": f"{name} = {value}", "rows": len(own), "loss": _interval(loss)})
    return sorted(slices, key=_rise, reverse=True)[:_MOST_SLICES]


def _rise(one: Mapping[str, Any]) -> float:
    return float(one["loss"]["estimate"])


def _interval(one: Interval) -> dict[str, float]:
    return {"estimate": one.estimate, "low": one.low, "high": one.high}
