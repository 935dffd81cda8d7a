"""Tables that one process appends to, kept open: opening one reads its whole log since the last checkpoint, up to a hundred commits."""

from collections import Counter
from pathlib import Path

from deltalake import DeltaTable

# Of the file of a version's commit: inode, time of its last change in nanoseconds, size.
Mark = tuple[int, int, int]
_MOST_APPENDS = 10


class OpenTables:
    """Tables as they were after their last append.

    A table is brought up to date with the commits that others have made since. It is opened anew where the commit that it stands on is no longer the
    same file: the table was removed, or made anew in its place, where a newer commit than there are would be written. Tables of object stores, which
    tell no inode, are opened each time; so is one whose last append failed. After ten appends a table is opened anew, too: deltalake 1.6.6 holds some
    100 kB for each append to an open table, for as long as it is open.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[DeltaTable, Mark]] = {}
        self._appends: Counter[str] = Counter()

    def take(self, uri: str) -> DeltaTable:
        """Return a table in its latest version; whoever has appended to it gives it back by `keep`."""
        table, mark = self._kept.pop(uri, (None, None))
        if table is None or self._appends[uri] >= _MOST_APPENDS or mark != _mark(uri, table.version()):
            self._appends[uri] = 0
            return DeltaTable(uri)
        table.update_incremental()
        return table

    def keep(self, uri: str, table: DeltaTable) -> None:
        """Keep a table for the next append."""
        mark = _mark(uri, table.version())
        self._appends[uri] += 1
        if mark is not None:
            self._kept[uri] = (table, mark)


def _mark(uri: str, version: int) -> Mark | None:
    if "://" in uri:
        return None
    try:
        status = (Path(uri) / "_delta_log" / f"{version:020}.json").stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
