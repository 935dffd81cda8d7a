"""A training set, and requests labelled or not, as the learning code takes them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples
from tidemill.shared.application.plan import ModelPlan
from tidemill.shared.lake.names import VECTORS
from tidemill.shared.lake.tables import Lake, instant, milliseconds
from tidemill.shared.lake.training_set import WEIGHT, TrainingSet


def examples_of(training_set: TrainingSet, model: ModelPlan) -> Examples:
    """Return the rows with features in the types that models read: 32-bit numbers and texts."""
    rows = training_set.rows.combine_chunks()
    columns = [_plain(rows.column(name)) for name in model.features]
    times = (rows.column(name).to_numpy().astype(np.int64) for name in ("_request_time", "_label_time"))
    request_ms, label_ms = times
    features = pa.RecordBatch.from_arrays(columns, names=list(model.features))
    weights = rows.column(WEIGHT).to_numpy().astype(np.float64) if WEIGHT in rows.column_names else None
    return Examples(features, request_ms, label_ms, rows.column("_label").to_numpy().astype(np.float64), weights)


def requests_between(lake: Lake, model: ModelPlan, since_ms: int, before_ms: int, version: int) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """Return the requests of a stretch, labelled or not, in the order of time, with their times."""
    between = (pc.field("_journal_time") >= instant(since_ms)) & (pc.field("_journal_time") < instant(before_ms)) & (pc.field("_ask") == model.ask)
    table = lake.dataset(VECTORS, version).to_table(columns=["_journal_time", *model.features], filter=between)
    rows = milliseconds(table).sort_by("_journal_time").combine_chunks()
    features = pa.RecordBatch.from_arrays([_plain(rows.column(name)) for name in model.features], names=list(model.features))
    return features, rows.column("_journal_time").to_numpy().astype(np.int64)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
    # Models read 32 bits.
    cast = column.cast(pa.string() if text else pa.float32())
    return pa.concat_arrays(cast.chunks) if cast.num_chunks else pa.array([], cast.type)
