"""What was answered, beside the rows that a model learns from."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import class_scores, classes_answered
from tidemill.shared.lake.names import OUTCOMES
from tidemill.shared.lake.tables import Lake

_CHAMPION = "champion"
_COLUMNS = ["journal_partition", "request_journal_offset", "journal_time", "model", "variant", "score"]


def served_scores(lake: Lake, model: str, kind: Kind, places: pa.Table, before_ms: int, version: int) -> NDArray[np.float64]:
    """Return what the champion of the time answered to each request, shape (n,) or (n, K); NaN where the fallback did.

    An answer is given before its request's label is known, so these scores judge how a model was served, refits and all.

    Parameters
    ----------
    places
        `_journal_partition` and `_journal_offset` of n requests.
    before_ms, version
        The cut, and the version of the table of outcomes, as of the training set.
    """
    wide = kind.has_classes
    table = lake.read(OUTCOMES, [*_COLUMNS, *(["scores"] if wide else [])], before_ms, "journal_time", version)
    table = table.filter(pc.and_(pc.equal(table.column("model"), model), pc.equal(table.column("variant"), _CHAMPION)))
    frame = pl.DataFrame({"p": table.column("journal_partition").to_numpy(), "o": table.column("request_journal_offset").to_numpy()})
    frame = frame.with_row_index("row").unique(["p", "o"], keep="first", maintain_order=True)
    asked = pl.DataFrame({"p": places.column("_journal_partition").to_numpy(), "o": places.column("_journal_offset").to_numpy()})
    joined = asked.with_columns(pl.col("p").cast(pl.Int64), pl.col("o").cast(pl.Int64)).join(
        frame.with_columns(pl.col("p").cast(pl.Int64), pl.col("o").cast(pl.Int64)), on=["p", "o"], how="left", maintain_order="left"
    )
    rows = pa.array(joined["row"].cast(pl.Int64).to_arrow())
    if not wide:
        return np.asarray(table.column("score").take(rows).to_numpy(zero_copy_only=False), np.float64)
    return class_scores(table.column("scores").take(rows).combine_chunks(), kind)


def classes_of_answers(lake: Lake, model: str, version: int | None = None) -> tuple[str, ...]:
    """Return the classes that the versions of a model have answered with, in the order in which all have them; empty where none has.

    Parameters
    ----------
    version
        Of the table of outcomes; the latest when None.
    """
    table = lake.dataset(OUTCOMES, lake.version(OUTCOMES) if version is None else version).to_table(
        columns=["scores"], filter=ds.field("model") == model
    )
    return tuple(classes_answered(table.column("scores").combine_chunks()))
