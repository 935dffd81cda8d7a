"""A user's own data set: a folder with Parquet, CSV or JSON lines for each stream."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from tidemill.replay.csv_file import read_csv
from tidemill.replay.debezium_file import read_debezium
from tidemill.replay.feed import StreamTable, derive
from tidemill.replay.file_columns import TIME, time_column, typed_column
from tidemill.replay.file_rows import DataSetError, FileRows
from tidemill.replay.json_file import read_json
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.arrow_types import int64_ms, leaves
from tidemill.shared.avro.json_values import flat_record
from tidemill.shared.avro.schema_tree import AvroType, parse_record
from tidemill.shared.avro.times import CellError
from tidemill.shared.regular_file import regular_file

FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".csv.gz": "CSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".jsonl.gz": "JSON lines"}


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How files are read beyond what the stream says.

    Attributes
    ----------
    available
        The column that says when a row became known; where a file has none, the event time says it.
    available_format
        How its times are written; None: milliseconds or ISO 8601.
    """

    available: str = "_available"
    available_format: str | None = None


def read_folder(plan: Plan, folder: Path, options: FileOptions) -> dict[str, StreamTable]:
    """Read ``<stream>.<format>`` or every file in ``<stream>/`` for each stream; a stream without files has no rows.

    Columns are those of the stream's Avro schema; one that is missing takes its default. Times are as the stream declares them, else milliseconds
    since the epoch, ISO 8601 text (without an offset: UTC) or, in Parquet, timestamps. In CSV an empty cell that is not quoted is no value.

    Raises
    ------
    DataSetError
        Names file and line (row in Parquet), the column, what was expected, what came.
    """
    files = {name: _files(folder, name) for name in plan.streams}
    known = {path for paths in files.values() for path in paths} | {folder / name for name in plan.streams}
    strange = [path for path in sorted(folder.iterdir()) if path not in known and (path.is_dir() or _format(path))]
    if strange:
        raise DataSetError(f"{strange[0]}: expected files named after the streams {', '.join(plan.streams)}")
    if not any(files.values()):
        raise DataSetError(f"{folder}: expected files named after the streams {', '.join(plan.streams)}, ending in {', '.join(FORMATS)}; found none")
    return {name: _stream(plan.streams[name], paths, options) for name, paths in files.items() if paths}


def read_files(plan: Plan, files: Mapping[str, Sequence[Path]], options: FileOptions) -> dict[str, StreamTable]:
    """Read the files of each stream, one after the other; a folder among them stands for the files in it. See `read_folder`.

    Raises
    ------
    DataSetError
    """
    return {name: _stream(plan.streams[name], [file for path in paths for file in _named(name, path)], options) for name, paths in files.items()}


def _named(name: str, path: Path) -> list[Path]:
    """Return the file that was named, or the files of a folder."""
    if path.is_dir():
        if files := sorted(file for file in path.iterdir() if _format(file)):
            return files
        raise DataSetError(f"{path}: expected files of the stream {name} in it, ending in {', '.join(FORMATS)}; found none")
    if not path.is_file():
        raise DataSetError(f"{path}: expected a file of the stream {name}, found none")
    if _format(path) is None:
        raise DataSetError(f"{path}: expected a file ending in {', '.join(FORMATS)} for the stream {name}")
    return [path]


def _files(folder: Path, name: str) -> list[Path]:
    single = [folder / f"{name}{ending}" for ending in FORMATS if (folder / f"{name}{ending}").is_file()]
    inner = sorted(path for path in (folder / name).iterdir() if _format(path)) if (folder / name).is_dir() else []
    if len(single) + bool(inner) > 1:
        raise DataSetError(f"{folder}: expected one source for the stream {name}, found {', '.join(path.name for path in [*single, *inner])}")
    return single or inner


def _format(path: Path) -> str | None:
    return next((kind for ending, kind in FORMATS.items() if path.name.endswith(ending)), None)


def _stream(stream: StreamPlan, files: list[Path], options: FileOptions) -> StreamTable:
    if stream.envelope is not None:
        return read_debezium(stream, stream.envelope, [(file, _format(file)) for file in files], options.available, options.available_format)
    tables, times = [], []
    places: list[tuple[int, Callable[[int], str]]] = []
    for file in files:
        rows = _read(stream, file, options.available)
        columns = _columns(stream, file, rows, options.available)
        places += [(columns.num_rows, rows.place)]
        tables.append(columns)
        times.append(_available(stream, columns, rows, options))
    return StreamTable(pa.concat_tables(tables).combine_chunks(), np.concatenate(times), partial(_place, places))


def _place(places: list[tuple[int, Callable[[int], str]]], row: int) -> str:
    for count, place in places:
        if row < count:
            return place(row)
        row -= count
    raise IndexError(row)


def _read(stream: StreamPlan, file: Path, available: str) -> FileRows:
    if _format(file) == "CSV":
        return read_csv(file, stream.nulls)
    if _format(file) == "JSON lines":
        return read_json(file, stream, available)
    try:
        table = pyarrow.parquet.ParquetFile(regular_file(file)).read()
    except (pa.ArrowException, OSError) as error:
        raise DataSetError(f"{file}: expected Parquet with the columns of the stream {stream.name}: {error}") from error
    if len(set(table.column_names)) < table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise DataSetError(f"{file}: expected a name of its own for every column, found {twice!r} more than once")
    return FileRows(table, lambda row: f"{file}: row {row + 1}")


def _columns(stream: StreamPlan, file: Path, rows: FileRows, available: str) -> pa.Table:
    names, came = stream.user_arrow.names, frozenset(rows.columns.column_names)
    expected = {*names, available}
    if unknown := [name for name in rows.columns.column_names if name not in expected]:
        raise DataSetError(f"{file}: expected columns among {', '.join(names)} (and {available}), found {unknown[0]!r}")
    record = parse_record(stream.user_schema)
    defaults = _defaults(stream, record, came)
    declared = {leaf.name: leaf.type for leaf in leaves(record)}
    arrays = []
    for field in stream.user_arrow:
        if field.name in came:
            make = partial(typed_column, stream, field, declared[field.name], rows.columns.column(field.name))
            arrays.append(_at_its_place(rows, field.name, make))
        elif field.name in defaults:
            arrays.append(_repeated(defaults[field.name], field.type, rows.columns.num_rows))
        else:
            found = ", ".join(rows.columns.column_names)
            raise DataSetError(f"{file}: expected a column {field.name}, which has no default in {stream.name}'s schema; found {found}")
    return pa.Table.from_arrays(arrays, schema=stream.user_arrow)


def _at_its_place(rows: FileRows, name: str, make: Callable[[], pa.Array]) -> pa.Array:
    try:
        return make()
    except CellError as error:
        raise DataSetError(f"{rows.place(error.row)}: {name}: {error}") from error


def _defaults(stream: StreamPlan, whole: AvroType, present: frozenset[str]) -> Mapping[str, Any]:
    """Return the values of columns that a file has not: a record none of whose columns it has takes the record's own default."""
    row: dict[str, Any] = {}

    def fill(record: AvroType, prefix: str) -> None:
        for field in record.fields:
            path = f"{prefix}{field.name}"
            if path in present:
                continue
            own = [name for name in stream.user_arrow.names if name == path or name.startswith(f"{path}.")]
            inner, _ = field.type.without_null()
            if inner.kind == "record" and present.intersection(own):
                fill(inner, f"{path}.")
            elif field.has_default:
                row.update(dict.fromkeys(own))
                flat_record(AvroType("record", fields=[field]), prefix.removesuffix("."))({}, row)

    fill(whole, "")
    return row


def _repeated(value: Any, kind: pa.DataType, count: int) -> pa.Array:  # whatever the schema's default is
    return pa.nulls(count, kind) if value is None else pa.repeat(pa.array([value], kind)[0], count)


def _available(stream: StreamPlan, columns: pa.Table, rows: FileRows, options: FileOptions) -> NDArray[np.int64]:
    name = options.available
    if name in rows.columns.column_names:
        times = _at_its_place(rows, name, lambda: time_column(rows.columns.column(name), options.available_format or stream.times.get(name)))
    elif columns.num_rows:
        batch = columns.combine_chunks().to_batches()[0]
        whole = batch if stream.event_time in columns.column_names else derive(batch, stream.derivations)
        times = whole.column(stream.event_time).cast(TIME, safe=False)
        name = stream.event_time
    else:
        return np.empty(0, np.int64)
    if times.null_count:
        place = rows.place(pc.index(times.is_null(), True).as_py())
        raise DataSetError(f"{place}: expected a time in {name}, when the row became known, found none")
    return int64_ms(times)
