"""A training set as the learning code takes it."""

import numpy as np
import pyarrow as pa

from tidemill.services.retraining.domain.examples import Examples
from tidemill.shared.application.plan import ModelPlan
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


def _plain(column: pa.ChunkedArray) -> pa.Array:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
    # Models read 32 bits.
    cast = column.cast(pa.string() if text else pa.float32())
    return pa.concat_arrays(cast.chunks) if cast.num_chunks else pa.array([], cast.type)
