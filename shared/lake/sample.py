"""A sample of archived vectors: the same one for the same seed, whatever files the table has."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from tidemill.shared.lake.journal import OFFSET, PARTITION, TIME, UnfitArchiveError
from tidemill.shared.lake.names import VECTORS
from tidemill.shared.lake.tables import Lake, instant, milliseconds
from tidemill.shared.statistics.splitmix import splitmix64


def sample_vectors(
    lake: Lake,
    columns: list[str],
    size: int,
    seed: int,
    from_ms: int | None = None,
    to_ms: int | None = None,
    begins: Mapping[int, int] | None = None,
) -> pa.Table:
    """Return up to `size` served vectors of a range of journal time, evenly chosen, sorted by partition and offset; times as int64 ms.

    Memory is the sample's: places are read first, and the rows of those chosen after.

    Parameters
    ----------
    begins
        Journal offset by partition below which none is taken.

    Raises
    ------
    UnfitArchiveError
        No vectors, or a column they were not served with.
    """
    if not lake.exists(VECTORS):
        raise UnfitArchiveError(f"expected archived vectors in {lake.uri(VECTORS)}, found none; the archive service writes them; see --run, --lake")
    table = lake.dataset(VECTORS, lake.version(VECTORS))
    if unknown := [name for name in columns if name not in table.schema.names]:
        raise UnfitArchiveError(
            f"expected served vectors with {', '.join(unknown)} in {lake.uri(VECTORS)}, which has {', '.join(table.schema.names)}; "
            "they were served by another version of the application: compare with that version"
        )
    inside = ds.scalar(True)
    if from_ms is not None:
        inside &= ds.field(TIME) >= instant(from_ms)
    if to_ms is not None:
        inside &= ds.field(TIME) < instant(to_ms)
    for partition, begin in (begins or {}).items():
        inside &= (ds.field(PARTITION) != partition) | (ds.field(OFFSET) >= begin)
    best = np.empty((0, 3), np.uint64)
    for batch in table.to_batches(columns=[PARTITION, OFFSET], filter=inside):
        partitions, offsets = (np.asarray(batch.column(i).to_numpy(zero_copy_only=False)).astype(np.uint64) for i in range(2))
        best = np.concatenate([best, np.column_stack([_mixed(partitions, offsets, seed), partitions, offsets])])
        if len(best) > size:
            best = best[np.argpartition(best[:, 0], size - 1)[:size]]
    samples = []
    for partition in np.unique(best[:, 1]).tolist():
        offsets = best[best[:, 1] == partition, 2].astype(np.int64)
        wanted = (ds.field(PARTITION) == partition) & ds.field(OFFSET).isin(pa.array(offsets)) & inside
        samples.append(table.to_table(columns=[PARTITION, OFFSET, TIME, *columns], filter=wanted))
    rows = pa.concat_tables(samples) if samples else table.schema.empty_table().select([PARTITION, OFFSET, TIME, *columns])
    return milliseconds(rows).sort_by([(PARTITION, "ascending"), (OFFSET, "ascending")]).combine_chunks()


def _mixed(partitions: NDArray[np.uint64], offsets: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return a hash of every place."""
    with np.errstate(over="ignore"):
        return splitmix64((partitions << np.uint64(48)) ^ offsets ^ (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)))
