"""The predictions of a backtest as a Parquet file, written as they come, there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.replay.file_rows import DataSetError

_GROUP_ROWS = 50_000
_NAMES = {"request_id": "event_id", "event_time": "event_time", "score": "score"}
# What models of other kinds answer besides: columns of their own once predictions have them.
_BY_KIND = ("scores", "predicted_label", "lower", "upper", "expected_error", "expected_squared_error")
_SERVED = ("predicted", "model_version", "variant")


class PredictionsFile:
    """One row per request and model: slice by slice, in each partition in the order of the journal.

    Columns: ``event_id``, ``event_time``, ``score``, what the kinds add, ``predicted``, ``model_version``, ``variant``, ``degraded`` (whether the
    fallback answered), ``model``, ``reason`` (why it did).

    Parameters
    ----------
    path
        Where it goes; a part file stands beside it until `close`. None: nowhere, the rows are only counted.

    Attributes
    ----------
    rows, degraded
        How many were written, and how many of them the fallback answered.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._part = None if path is None else path.with_name(f"{path.name}.part")
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._held = 0
        self.rows = self.degraded = 0

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

    def write(self, predictions: pa.RecordBatch) -> None:
        """Take predictions in the columns of their Avro schema."""
        degraded = pc.is_valid(predictions.column("reason"))
        self.rows += predictions.num_rows
        self.degraded += pc.sum(degraded).as_py() or 0
        if self._path is None:
            return
        own = predictions.schema.names
        columns = {new: predictions.column(old) for old, new in _NAMES.items()}
        columns |= {name: predictions.column(name) for name in (*_BY_KIND, *_SERVED) if name in own}
        columns |= {"degraded": degraded, "model": predictions.column("model"), "reason": predictions.column("reason")}
        self._waiting.append(pa.RecordBatch.from_pydict(columns))
        self._held += predictions.num_rows
        if self._held >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and give the file its name."""
        if self._path is None or self._part is None:
            return
        self._flush()
        if self._writer is None:
            raise DataSetError(f"expected predictions to write to {self._path}, there are none: no request was answered")
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
