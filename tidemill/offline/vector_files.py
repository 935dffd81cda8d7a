"""Where backfilled vectors go: a Parquet file or a Delta table, written in pieces, there whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from tidemill.shared.lake.tables import delta_ready


class OutputError(RuntimeError):
    """The output cannot be written there (crash)."""


def write_vectors(place: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], said: Mapping[str, str]) -> int:
    """Write vectors to a file that ends in ``.parquet``, else as a new Delta table in one commit; returns the rows.

    Parameters
    ----------
    said
        What the vectors are: in the Parquet file's metadata, or the Delta table's description.
    """
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield batch

    if place.endswith(".parquet"):
        _write_parquet(Path(place), schema.with_metadata(dict(said)), counted())
    else:
        _write_delta(place, schema, counted(), said)
    return rows


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"expected to write {path}: {error}") from error


def _write_delta(place: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], said: Mapping[str, str]) -> None:
    if DeltaTable.is_deltatable(place):
        raise OutputError(f"expected no table at {place}: vectors of several versions do not mix; choose another folder or delete it")
    target = delta_ready(schema.empty_table()).schema

    def ready() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from delta_ready(pa.Table.from_batches([batch])).to_batches()

    try:
        write_deltalake(
            place, pa.RecordBatchReader.from_batches(target, ready()), mode="error", description="; ".join(f"{k}={v}" for k, v in said.items())
        )
    except (DeltaError, OSError) as error:
        raise OutputError(f"expected to write {place}: {error}") from error
