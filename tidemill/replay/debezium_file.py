"""Files of Debezium's messages, as `kcat` or Kafka's console consumer write a topic down: published as they are, line by line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.replay.feed import StreamTable
from tidemill.replay.file_columns import time_column
from tidemill.replay.file_rows import DataSetError, not_utf8
from tidemill.replay.json_file import lines_of
from tidemill.shared.application.connect_json import DebeziumJsonDecoder
from tidemill.shared.application.debezium import SOURCE_TS, TS, EnvelopePlan
from tidemill.shared.application.debezium_rows import ChangedRows
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.times import CellError

_TIME = pa.timestamp("ms")


def read_debezium(
    stream: StreamPlan, envelope: EnvelopePlan, files: list[tuple[Path, str | None]], available: str, available_format: str | None
) -> StreamTable:
    """Read one message a line, JSON, with or without Kafka Connect's `schema` and `payload`; ``null`` is a tombstone, an empty line nothing.

    A message became known when the column `available` beside its fields says so, else when its event happened, else when the database or the
    connector says; a tombstone with the message before it.

    Raises
    ------
    DataSetError
        Names file and line, what was expected, what came.
    """
    decoder = DebeziumJsonDecoder(envelope, stream.times, stream.event_time)
    rows: list[dict[str, Any]] = []
    messages: list[bytes | None] = []
    places: list[str] = []
    known: list[Any] = []
    for file, kind in files:
        if kind != "JSON lines":
            raise DataSetError(f"{file}: expected JSON lines, one Debezium message each (stream {stream.name} is envelope: debezium), found {kind}")
        for number, content in enumerate(lines_of(file), 1):
            if not content.strip():
                continue
            place = f"{file}:{number}"
            try:
                parsed = decoder.parse(content)
                known.append(parsed.pop(available, None) if isinstance(parsed, dict) else None)
                rows.append(dict.fromkeys(decoder.arrow.names) if parsed is None else decoder.row(parsed))
            except UnicodeDecodeError as error:
                raise not_utf8(file) or error from error
            except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
                raise DataSetError(f"{place}: expected a Debezium message as the stream {stream.name} has them: {error}") from error
            messages.append(None if parsed is None else content)
            places.append(place)
    nullable = pa.schema([field.with_nullable(True) for field in decoder.arrow])
    columns, _ = ChangedRows(stream.user_arrow, envelope).columns(pa.RecordBatch.from_pylist(rows, schema=nullable))
    table = pa.table([columns[field.name] for field in stream.user_arrow], names=stream.user_arrow.names)
    times = _available(stream, table, known, available_format, places, available)
    return StreamTable(table, times, lambda row: places[row], messages)


def _available(
    stream: StreamPlan, table: pa.Table, known: list[Any], written: str | None, places: list[str], name: str
) -> NDArray[np.int64]:  # fmt: skip
    texts = [None if item is None else str(item) for item in known]
    try:
        said = time_column(pa.chunked_array([pa.array(texts, pa.string())]), written)
    except CellError as error:
        raise DataSetError(f"{places[error.row]}: {name}: {error}") from error
    batch = table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], schema=table.schema)
    for column, expression in stream.derivations if stream.event_time not in table.column_names else ():
        batch = batch.append_column(column, expression.evaluate(batch))
    own = [batch.column(column).cast(_TIME, safe=False) for column in (stream.event_time, SOURCE_TS, TS)]
    times = pc.fill_null_forward(pc.coalesce(said, *own))
    if times.null_count:
        place = places[pc.index(times.is_null(), True).as_py()]
        raise DataSetError(f"{place}: expected a time in {name}, {stream.event_time}, {SOURCE_TS} or {TS}, when the message became known, found none")
    return int64_ms(times)
