"""A Parquet file that grows while a run goes on."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.replay.file_rows import DataSetError

_GROUP_ROWS = 50_000


class GrowingParquet:
    """Rows as they come, there whole or not at all: a part file stands beside the path until `close`.

    Parameters
    ----------
    path
        Where it goes. None: nowhere.
    what
        What the rows are, for messages.
    """

    def __init__(self, path: Path | None, what: str) -> None:
        self._path, self._what = path, what
        self._part = None if path is None else path.with_name(f"{path.name}.part")
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._part is not None:
            if self._writer is not None:
                with suppress(OSError, pa.ArrowException):
                    self._writer.close()
            self._part.unlink(missing_ok=True)

    def write(self, rows: pa.RecordBatch) -> None:
        """Take rows, all of the same columns; raises DataSetError when they cannot be written."""
        if self._path is None:
            return
        self._waiting.append(rows)
        self._held += rows.num_rows
        if self._held >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and give the file its name; raises DataSetError when there were no rows."""
        if self._path is None or self._part is None:
            return
        self._flush()
        if self._writer is None:
            raise DataSetError(f"expected {self._what} to write to {self._path}, there are none: no request was answered")
        self._writer.close()
        os.replace(self._part, self._path)

    def _flush(self) -> None:
        if not self._waiting or self._part is None:
            return
        table = pa.Table.from_batches(self._waiting).combine_chunks()
        self._waiting, self._held = [], 0
        try:
            if self._writer is None:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._part, table.schema, compression="zstd")
            self._writer.write_table(table)
        except OSError as error:
            raise DataSetError(f"expected to write {self._path}: {error}") from error
