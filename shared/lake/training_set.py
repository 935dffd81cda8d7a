"""Training examples: a point-in-time join of archived vectors and outcomes, never a copy."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.switches import of_the_same_meaning, view_switches
from tidemill.shared.lake.tables import Lake
from tidemill.shared.statistics.propensity import label_weights

PLACE = ["_journal_partition", "_journal_offset"]
WEIGHT = "_weight"
_CONTROL = ["control", "propensity"]
_OUTCOME_COLUMNS = ["journal_partition", "request_journal_offset", "journal_time", "model", "status", "label", "revision"]
_NAMED = "label_class"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Labelled vectors as they were known at an instant.

    Attributes
    ----------
    rows
        The model's features, then `_request_time` and `_label_time` (int64 milliseconds: availability of the request and of its
        first label, which a correction may have replaced since) and `_label`, sorted by journal partition and offset. Of a model with a control
        share also `_weight`, how many requests each row stands for (`label_weights`); rows that stand for none are left out. Of a model that learns
        its classes and whose plan has none yet, `_label` is the class's name (`numbered`).
    version
        What reproduces it: table versions, cut-off, range of its requests and the content's SHA-256.
    """

    rows: pa.Table
    version: dict[str, str]


def training_set(
    lake: Lake, model: ModelPlan, before_ms: int, definitions: Mapping[str, str] | None = None, versions: Mapping[str, int] | None = None
) -> TrainingSet:
    """Join what was available before an instant; of corrected labels the last revision known then.

    The vector is the one that was served from, so no value in it is from its request's future.

    Parameters
    ----------
    definitions
        Digest of each column's present definition (`feature_versions`): vectors served while one of the model's columns meant something else are left
        out, and counted in the version. None takes all, whatever they mean.
    versions
        Of the tables of vectors and outcomes; the latest when None.
    """
    versions = versions or {VECTORS: lake.version(VECTORS), OUTCOMES: lake.version(OUTCOMES)}
    asked = lake.read(VECTORS, [*PLACE, "_journal_time", *model.features, "_ask"], before_ms, "_journal_time", versions[VECTORS])
    weighted = model.control is not None and set(_CONTROL) <= set(lake.dataset(OUTCOMES, versions[OUTCOMES]).schema.names)
    outcome_columns = [*_OUTCOME_COLUMNS, *(_CONTROL if weighted else []), *([_NAMED] if model.learns_classes else [])]
    known = lake.read(OUTCOMES, outcome_columns, before_ms, "journal_time", versions[OUTCOMES])
    vectors = _frame(asked).filter(pl.col("_ask") == model.ask).drop("_ask").rename({"_journal_time": "_request_time"})
    outcomes = _frame(known)
    if model.learns_classes:
        # Its number depends on the version that answered.
        outcomes = outcomes.with_columns(pl.col(_NAMED).alias("label"))
    labels = _last_labels(outcomes, model.name, _CONTROL if weighted else [])
    joined = vectors.join(labels, on=PLACE, how="inner").sort(PLACE)
    known_labels = joined.height
    # A lake may hold labels from before they were judged at their join: one of another kind must not end every training.
    if not model.learns_classes:
        joined = joined.filter(pl.Series(model.kind.is_label(joined["_label"].to_numpy()), dtype=pl.Boolean))
    valid = joined.height
    if weighted:
        control, propensity = (joined[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in _CONTROL)
        joined = joined.with_columns(pl.Series(WEIGHT, label_weights(control, propensity))).filter(pl.col(WEIGHT) > 0)
    labelled = joined.height
    if definitions is not None:
        read = {name: definitions[name] for name in model.features}
        places = [joined[name].cast(pl.Int64).to_numpy() for name in PLACE]
        joined = joined.filter(pl.Series(of_the_same_meaning(view_switches(lake), read, *places), dtype=pl.Boolean))
    columns = [*PLACE, "_request_time", "_label_time", "_label", *([WEIGHT] if weighted else []), *model.features]
    rows = joined.select(columns).to_arrow().combine_chunks()
    names = {f"{table}_version": str(version) for table, version in versions.items()}
    named = TrainingSet(
        rows,
        {
            **names,
            "before_ms": str(before_ms),
            "rows": str(rows.num_rows),
            **_range(rows),
            "rows_of_other_views": str(labelled - rows.num_rows),
            "rows_of_invalid_labels": str(known_labels - valid),
            **({"rows_without_weight": str(valid - labelled)} if weighted else {}),
            "sha256": content_hash(rows),
        },
    )
    return numbered(named, model.learned) if model.learned else named


def numbered(named: TrainingSet, classes: Sequence[str]) -> TrainingSet:
    """Return the rows whose label is one of some classes, each with the class's number as its label.

    Parameters
    ----------
    named
        With the names of classes as labels.
    classes
        In their order.
    """
    place = named.rows.schema.get_field_index("_label")
    numbers = pc.index_in(named.rows.column(place), pa.array(classes, named.rows.schema.field(place).type)).cast(pa.float64())
    rows = named.rows.set_column(place, "_label", numbers).filter(numbers.is_valid()).combine_chunks()
    others = int(named.version["rows_of_invalid_labels"]) + named.rows.num_rows - rows.num_rows
    about = {"rows": str(rows.num_rows), "rows_of_invalid_labels": str(others), "sha256": content_hash(rows), "classes": json.dumps(list(classes))}
    return TrainingSet(rows, {**named.version, **_range(rows), **about})


def _last_labels(outcomes: pl.DataFrame, model: str, more: Sequence[str]) -> pl.DataFrame:
    """Return the last revision of each request's label, when its first one came, and some more columns of the last."""
    return (
        outcomes.filter((pl.col("model") == model) & pl.col("label").is_not_null() & (pl.col("status") != "unmatched"))
        .sort("revision")
        .group_by("journal_partition", "request_journal_offset", maintain_order=True)
        .agg(pl.col("journal_time").first(), pl.col("label", *more).last())
        .select(
            pl.col("journal_partition").alias(PLACE[0]),
            pl.col("request_journal_offset").alias(PLACE[1]),
            pl.col("journal_time").alias("_label_time"),
            pl.col("label").alias("_label"),
            *more,
        )
    )


def _range(rows: pa.Table) -> dict[str, str]:
    """Return the instants of the first and the last request; nothing of no rows."""
    if not rows.num_rows:
        return {}
    ends = pc.min_max(rows.column("_request_time"))
    return {"requests_from_ms": str(ends["min"].as_py()), "requests_until_ms": str(ends["max"].as_py())}


def content_hash(rows: pa.Table) -> str:
    """Return the SHA-256 of rows in their order, whatever files they came from."""
    digest = hashlib.sha256()
    frame = _frame(rows)
    for name in frame.columns:
        digest.update(name.encode() + b"\0")
        digest.update(_text(frame[name]) if frame.schema[name] == pl.String else _numbers(frame[name]))
    return digest.hexdigest()


def _text(column: pl.Series) -> bytes:
    lengths = column.str.len_bytes().fill_null(2**32 - 1).to_numpy().tobytes()
    return lengths + "".join(column.fill_null("")).encode()


def _numbers(column: pl.Series) -> bytes:
    missing = column.is_null().to_numpy().tobytes()
    return missing + column.fill_null(0).to_numpy().tobytes()


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(frame).__name__}")
    return frame
