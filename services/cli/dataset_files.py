"""A user's own data set: a folder with Parquet, CSV or JSON lines for each stream."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from services.cli.feed import StreamTable, derive
from shared.application.plan import Plan, StreamPlan
from shared.avro.arrow_types import int64_ms

FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".csv.gz": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".jsonl.gz": "JSON lines"}
_TIME = pa.timestamp("ms")


class DataSetError(ValueError):
    """A data set does not fit the application: says which file, row and column, what was expected, what came."""


def read_folder(plan: Plan, folder: Path, available: str) -> dict[str, StreamTable]:
    """Read ``<stream>.<format>`` or every file in ``<stream>/`` for each stream; a stream without files has no rows.

    Columns are those of the stream's Avro schema; one that is missing takes its default. Times are milliseconds since the epoch, ISO 8601 text
    (without an offset: UTC) or, in Parquet, timestamps.

    Parameters
    ----------
    available
        The column that says when a row became known; where a file has none, the event time says it.

    Raises
    ------
    DataSetError
        Names file and row, what was expected, what came.
    """
    files = {name: _files(folder, name) for name in plan.streams}
    known = {path for paths in files.values() for path in paths} | {folder / name for name in plan.streams}
    strange = [path for path in sorted(folder.iterdir()) if path not in known and (path.is_dir() or _format(path))]
    if strange:
        raise DataSetError(f"{strange[0]}: expected files named after the streams {', '.join(plan.streams)}")
    if not any(files.values()):
        raise DataSetError(f"{folder}: expected files named after the streams {', '.join(plan.streams)}, ending in {', '.join(FORMATS)}; found none")
    return {name: _stream(plan.streams[name], paths, available) for name, paths in files.items() if paths}


def _files(folder: Path, name: str) -> list[Path]:
    single = [folder / f"{name}{ending}" for ending in FORMATS if (folder / f"{name}{ending}").is_file()]
    inner = sorted(path for path in (folder / name).iterdir() if _format(path)) if (folder / name).is_dir() else []
    if len(single) + bool(inner) > 1:
        raise DataSetError(f"{folder}: expected one source for the stream {name}, found {', '.join(path.name for path in [*single, *inner])}")
    return single or inner


def _format(path: Path) -> str | None:
    return next((kind for ending, kind in FORMATS.items() if path.name.endswith(ending)), None)


def _stream(stream: StreamPlan, files: list[Path], available: str) -> StreamTable:
    tables, times = [], []
    for file in files:
        found = _read(stream, file, available)
        columns = _columns(stream, file, found, available)
        tables.append(columns)
        times.append(_available(stream, file, columns, found, available))
    return StreamTable(pa.concat_tables(tables).combine_chunks(), np.concatenate(times))


def _read(stream: StreamPlan, file: Path, available: str) -> pa.Table:
    as_text = {field.name: pa.string() for field in stream.user_arrow if pa.types.is_temporal(field.type)} | {available: pa.string()}
    plain = {field.name: field.type for field in stream.user_arrow if field.name not in as_text}
    try:
        if _format(file) == "Parquet":
            return pyarrow.parquet.read_table(file)
        with pa.input_stream(str(file), compression="gzip" if file.name.endswith(".gz") else None) as source:
            if _format(file) == "CSV":
                options = pyarrow.csv.ConvertOptions(column_types={**plain, **as_text}, strings_can_be_null=True, quoted_strings_can_be_null=False)
                return pyarrow.csv.read_csv(source, convert_options=options)
            content = source.read()
    except (pa.ArrowException, OSError) as error:
        raise DataSetError(f"{file}: expected {_format(file)} with the columns of the stream {stream.name}: {error}") from error
    return _read_json(stream, file, content, pa.schema(plain))


def _read_json(stream: StreamPlan, file: Path, content: bytes, plain: pa.Schema) -> pa.Table:
    options = pyarrow.json.ParseOptions(explicit_schema=plain)
    try:
        return pyarrow.json.read_json(io.BytesIO(content), parse_options=options)
    except pa.ArrowException as error:
        # The reader counts rows within a block: find the line itself.
        for number, line in enumerate(content.splitlines(), 1):
            try:
                pyarrow.json.read_json(io.BytesIO(line), parse_options=options)
            except pa.ArrowException as cause:
                raise DataSetError(f"{file}:{number}: expected a JSON object as the stream {stream.name} has them: {cause}") from error
        raise DataSetError(f"{file}: expected JSON objects, one a line, of one shape: {error}") from error


def _columns(stream: StreamPlan, file: Path, found: pa.Table, available: str) -> pa.Table:
    names = stream.user_arrow.names
    if unknown := [name for name in found.column_names if name not in names and name != available]:
        raise DataSetError(f"{file}: expected columns among {', '.join(names)} (and {available}), found {unknown[0]}")
    defaults = {field["name"]: field["default"] for field in json.loads(stream.user_schema)["fields"] if "default" in field}
    arrays = []
    for field in stream.user_arrow:
        if field.name in found.column_names:
            column = _typed(file, field.name, found.column(field.name), field.type)
        elif field.name in defaults:
            column = _constant(field, defaults[field.name], found.num_rows)
        else:
            raise DataSetError(f"{file}: expected a column {field.name}, which has no default in {stream.name}'s schema; found {found.column_names}")
        if not field.nullable and column.null_count:
            row = pc.index(column.is_null(), True).as_py() + 1
            raise DataSetError(f"{file}: row {row}: expected a value in {field.name}, found none")
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=stream.user_arrow)


def _constant(field: pa.Field, value: Any, count: int) -> pa.ChunkedArray:  # noqa: ANN401, RUF100 - whatever the schema's default is
    array = pa.nulls(count, field.type) if value is None else pa.array([value] * count).cast(field.type)
    return pa.chunked_array([array])


def _typed(file: Path, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return _times(column, kind) if pa.types.is_timestamp(kind) else column.cast(kind)
    except (pa.ArrowException, ValueError) as error:
        raise DataSetError(f"{file}: {name}: expected {kind}, found {column.type}: {error}") from error


def _times(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return times in UTC without a zone; whole numbers are milliseconds since the epoch."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        numbers = pc.fill_null(pc.match_substring_regex(column, r"^-?\d+$"), True)
        if pc.all(numbers).as_py():
            return _times(column.cast(pa.int64()), kind)
        return pa.chunked_array([_parsed(column)]).cast(kind)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()).cast(_TIME).cast(kind)
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        # The instant stays, only the zone's name goes: Arrow keeps instants in UTC.
        return column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.timestamp(column.type.unit)).cast(kind, safe=False)
    return column.cast(kind, safe=not pa.types.is_timestamp(column.type))


def _parsed(column: pa.ChunkedArray) -> pa.Array:
    moments = []
    for row, text in enumerate(column.to_pylist(), 1):
        try:
            moment = None if text is None else datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"row {row}: {text!r} is neither milliseconds nor ISO 8601") from error
        moments.append(moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC))
    return pa.array(moments, pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))


def _available(stream: StreamPlan, file: Path, columns: pa.Table, found: pa.Table, available: str) -> NDArray[np.int64]:
    if available in found.column_names:
        times = _typed(file, available, found.column(available), _TIME)
    elif columns.num_rows:
        batch = columns.combine_chunks().to_batches()[0]
        whole = batch if stream.event_time in columns.column_names else derive(batch, stream.derivations)
        times = pa.chunked_array([whole.column(stream.event_time).cast(_TIME, safe=False)])
    else:
        return np.empty(0, np.int64)
    if times.null_count:
        row = pc.index(times.is_null(), True).as_py() + 1
        raise DataSetError(f"{file}: row {row}: expected a time in {available} or {stream.event_time}, found none")
    return int64_ms(times.combine_chunks())
