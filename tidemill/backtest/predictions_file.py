"""What a backtest answered, and why, as Parquet files."""

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.backtest.growing_parquet import GrowingParquet

_NAMES = {"request_id": "event_id", "event_time": "event_time", "score": "score"}
# What models of other kinds answer besides: columns of their own once predictions have them.
_BY_KIND = ("scores", "predicted_label", "lower", "upper", "expected_error", "expected_squared_error")
_SERVED = ("predicted", "model_version", "variant")
_OF_THE_ANSWER = ("request_id", "event_time", "model", "model_version", "variant", "score", "predicted", "predicted_label")
_WHY = ("not_explained", "method", "link", "base", "contributions", "rest", "rest_features")


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
        self._file = GrowingParquet(path, "predictions")
        self.rows = self.degraded = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.__exit__(kind, error, trace)

    def write(self, predictions: pa.RecordBatch) -> None:
        """Take predictions in the columns of their Avro schema."""
        degraded = pc.is_valid(predictions.column("reason"))
        self.rows += predictions.num_rows
        self.degraded += pc.sum(degraded).as_py() or 0
        own = predictions.schema.names
        columns = {new: predictions.column(old) for old, new in _NAMES.items()}
        columns |= {name: predictions.column(name) for name in (*_BY_KIND, *_SERVED) if name in own}
        columns |= {"degraded": degraded, "model": predictions.column("model"), "reason": predictions.column("reason")}
        self._file.write(pa.RecordBatch.from_pydict(columns))

    def close(self) -> None:
        """Write what waits and give the file its name."""
        self._file.close()


class ExplanationsFile:
    """One row per request and model that declares `explain`: what the largest features added to the score, or why that is not said.

    Columns: ``event_id``, the answer's as in `PredictionsFile`, and those of `schemas/explanation.avsc`; ``contributions`` is a list of structs.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = GrowingParquet(path, "explanations")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.__exit__(kind, error, trace)

    def write(self, explanations: pa.RecordBatch) -> None:
        """Take explanations in the columns of their Avro schema."""
        columns = {_NAMES.get(name, name): explanations.column(name) for name in (*_OF_THE_ANSWER, *_WHY)}
        self._file.write(pa.RecordBatch.from_pydict(columns))
