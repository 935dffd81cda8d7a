"""Which data a backtest is given: files by stream, a folder, or a built-in data set; and which stretch of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tidemill.replay.dataset_files import FileOptions, read_files
from tidemill.replay.feed import StreamTable
from tidemill.replay.file_rows import DataSetError
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.times import instant_text


@dataclass(frozen=True, slots=True)
class DataChoice:
    """What to read.

    Attributes
    ----------
    sources
        ``STREAM=FILE`` each (a file, or a folder of files; several for one stream follow each other); or one name of a data set or folder.
    begin_ms, end_ms
        Rows known in [begin, end) are given; None: from the first, to the last.
    """

    sources: Sequence[str]
    options: DataSetOptions = field(default_factory=DataSetOptions)
    begin_ms: int | None = None
    end_ms: int | None = None

    def read(self, plan: Plan) -> dict[str, StreamTable]:
        """Return the rows by stream; raises DataSetError."""
        return read_data(plan, self)


def read_data(plan: Plan, choice: DataChoice) -> dict[str, StreamTable]:
    """Return the rows by stream.

    Raises
    ------
    DataSetError
        Says which file, line and column; or that nothing is left to be given.
    """
    begin, end = choice.begin_ms, choice.end_ms
    if begin is not None and end is not None and begin >= end:
        raise DataSetError(f"expected --from before --until, found {instant_text(begin)} and {instant_text(end)}")
    tables = _tables(plan, choice)
    if begin is None and end is None:
        return tables
    inside = {name: _stretch(table, begin, end) for name, table in tables.items()}
    if not any(len(table) for table in inside.values()):
        times = np.concatenate([table.available_ms for table in tables.values()])
        raise DataSetError(
            f"expected rows between --from and --until, found none: the data became known from {instant_text(int(times.min()))}"
            f" to {instant_text(int(times.max()))}"
        )
    return inside


def _tables(plan: Plan, choice: DataChoice) -> dict[str, StreamTable]:
    sources = choice.sources
    if not sources:
        raise DataSetError("expected --data STREAM=FILE at least once, found none")
    if len(sources) == 1 and "=" not in sources[0]:
        return load_data_set(plan, sources[0], choice.options)
    files: dict[str, list[Path]] = {}
    for source in sources:
        name, equals, place = source.partition("=")
        if not equals:
            raise DataSetError(f"expected STREAM=FILE, found {source!r}; a data set or a folder stands alone")
        if name not in plan.streams:
            raise DataSetError(f"expected a stream of {plan.application.app} ({', '.join(plan.streams)}) before the =, found {source!r}")
        files.setdefault(name, []).append(Path(place))
    tables = read_files(plan, files, FileOptions(choice.options.available, choice.options.available_format))
    if not any(map(len, tables.values())):
        raise DataSetError(f"expected at least one row, found none in {', '.join(sources)}")
    asking = [name for name in plan.asking_streams if name in tables and len(tables[name])]
    if plan.asking_streams and not asking:
        wanted = ", ".join(plan.asking_streams)
        raise DataSetError(f"expected rows of the stream that asks for predictions ({wanted}), found {_counts(tables)}: nothing would be predicted")
    return tables


def _counts(tables: Mapping[str, StreamTable]) -> str:
    return ", ".join(f"{len(table):,} rows of {name}" for name, table in tables.items())


def _stretch(table: StreamTable, begin: int | None, end: int | None) -> StreamTable:
    kept = np.ones(len(table), np.bool_)
    if begin is not None:
        kept &= table.available_ms >= begin
    if end is not None:
        kept &= table.available_ms < end
    if kept.all():
        return table
    rows = np.flatnonzero(kept)
    messages = None if table.messages is None else [table.messages[row] for row in rows.tolist()]
    place = table.place
    return replace(
        table,
        columns=table.columns.take(pa.array(rows)),
        available_ms=table.available_ms[rows],
        place=None if place is None else lambda row: place(int(rows[row])),
        messages=messages,
    )
