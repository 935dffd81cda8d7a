"""What is odd about the times of a data set: rows that no Kafka timestamp can hold, rows of the far future, years without any."""

from collections.abc import Mapping

import numpy as np

from tidemill.replay.feed import StreamTable
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.avro.times import instant_text

_YEAR_MS = 366 * 86_400_000


def refuse_before_1970(tables: Mapping[str, StreamTable]) -> None:
    """Raise DataSetError when a row became known before 1970: slices are published at those times, and Kafka has none before 1970."""
    for name, table in tables.items():
        early = np.flatnonzero(table.available_ms < 0)
        if len(early):
            row = int(early[0])
            raise DataSetError(
                f"{_place(name, table, row)}: expected a row that became known in 1970 or later, found {instant_text(int(table.available_ms[row]))}"
                f" ({len(early)} such rows in {name}): Kafka's record timestamps begin in 1970. Name a column that says when rows became known with"
                " --available, or publish live with --rate; events themselves may be older"
            )


def remarks(tables: Mapping[str, StreamTable], farthest_ms: int) -> list[str]:
    """Name what is probably not meant, one sentence each.

    Parameters
    ----------
    farthest_ms
        Rows known later than this are refused by ingestion.
    """
    texts = [text for name, table in tables.items() if (text := _backwards(name, table)) is not None]
    names = list(tables)
    times = np.concatenate([table.available_ms for table in tables.values()])
    source = np.repeat(np.arange(len(names)), [len(table) for table in tables.values()])
    rows = np.concatenate([np.arange(len(table)) for table in tables.values()])
    order = np.argsort(times, kind="stable")
    times, source, rows = times[order], source[order], rows[order]
    far = int((times > farthest_ms).sum())
    kept = len(times) - far
    for i in np.flatnonzero(np.diff(times[:kept]) > _YEAR_MS).tolist():
        # Whichever side is the shorter one stands out.
        odd = i if i + 1 <= kept - i - 1 else i + 1
        place = _place(names[source[odd]], tables[names[source[odd]]], int(rows[odd]))
        years = (int(times[i + 1]) - int(times[i])) / (365.25 * 86_400_000)
        texts.append(
            f"nothing became known between {instant_text(int(times[i]))} and {instant_text(int(times[i + 1]))} ({years:.0f} years), which is"
            f" skipped; is the time of {place} meant?"
        )
    if far:
        place = _place(names[source[kept]], tables[names[source[kept]]], int(rows[kept]))
        instant = instant_text(int(times[kept]))
        texts.append(f"{far} rows lie beyond {instant_text(farthest_ms)} and will be refused as `future`, the first in {place}: {instant}")
    return texts


def _backwards(name: str, table: StreamTable) -> str | None:
    """Say where a file's times go backwards; None where they do not, or where the rows were made."""
    if table.place is None:
        return None
    back = np.flatnonzero(np.diff(table.available_ms) < 0)
    if not len(back):
        return None
    row = int(back[0])
    before, after = (instant_text(int(table.available_ms[k])) for k in (row, row + 1))
    times = "once" if len(back) == 1 else f"{len(back):,} times"
    return (
        f"the times of {name} go backwards {times}, first at {table.place(row + 1)} (from {before} to {after}): its rows are given in order of time"
    )


def _place(name: str, table: StreamTable, row: int) -> str:
    return f"{name}: row {row + 1}" if table.place is None else table.place(row)
