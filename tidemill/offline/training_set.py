"""Training sets as files: what a model may learn from, as it was known at an instant."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.shared.application.plan import Plan
from tidemill.shared.application.view_version import feature_versions
from tidemill.shared.lake.journal import UnfitArchiveError
from tidemill.shared.lake.names import OUTCOMES, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.lake.training_set import TrainingSet, training_set


def read_training_set(plan: Plan, model: str, lake: Lake, before_ms: int | None = None) -> TrainingSet:
    """Join a model's archived vectors and outcomes as of an instant; `rows` is an Arrow table (`rows.to_pandas()` a frame).

    Parameters
    ----------
    before_ms
        Journal time before which everything counts; the end of the model's archived outcomes when None. The dataset's version has it.

    Vectors served while one of the model's columns was defined otherwise are left out; `version` counts them.

    Raises
    ------
    UnfitArchiveError
        No such model, or the lake has no vectors, no outcomes, or not this model's features.
    """
    if model not in plan.models:
        raise UnfitArchiveError(f"expected one of the application's models {', '.join(plan.models)}, got {model}")
    for table, written in ((VECTORS, "served"), (OUTCOMES, "resolved")):
        if not lake.exists(table):
            raise UnfitArchiveError(
                f"expected archived {table} in {lake.uri(table)}, found none; nothing was {written} yet, or look at --run and --lake"
            )
    have = lake.dataset(VECTORS).schema.names
    if unknown := [name for name in plan.models[model].features if name not in have]:
        raise UnfitArchiveError(
            f"expected served vectors with {', '.join(unknown)} in {lake.uri(VECTORS)}, which has {', '.join(have)}; backfill them"
        )
    return training_set(lake, plan.models[model], _known_until_ms(lake, model) if before_ms is None else before_ms, feature_versions(plan))


def _known_until_ms(lake: Lake, model: str) -> int:
    """Return the instant after the last outcome of a model. Requests that came later, perhaps years after a replay, have told nothing yet."""
    dataset = lake.dataset(OUTCOMES)
    times = dataset.to_table(columns=["journal_time"], filter=pc.field("model") == model).column("journal_time")
    return int(pc.max(pc.cast(times, pa.timestamp("ms", "UTC"))).value or -1) + 1


def write_training_set(made: TrainingSet, path: Path) -> None:
    """Write a Parquet file with the dataset's version in its metadata; it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(made.rows.replace_schema_metadata(made.version), part, compression="zstd")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
