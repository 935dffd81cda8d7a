"""Tables that one process appends to, kept open: opening one reads its whole log since the last checkpoint, up to a hundred commits."""

from pathlib import Path

from deltalake import DeltaTable

# Of the file of a version's commit: inode, time of its last change in nanoseconds, size.
Mark = tuple[int, int, int]


class OpenTables:
    """Tables as they were after their last append.

    A table is brought up to date with the commits that others have made since. It is opened anew where the commit that it stands on is no longer the
    same file: the table was removed, or made anew in its place, where a newer commit than there are would be written. Tables of object stores, which
    tell no inode, are opened each time; so is one whose last append failed.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[DeltaTable, Mark]] = {}

    def take(self, uri: str) -> DeltaTable:
        """Return a table in its latest version; whoever has appended to it gives it back by `keep`."""
        table, mark = self._kept.pop(uri, (None, None))
        if table is None or mark != _mark(uri, table.version()):
            return DeltaTable(uri)
        table.update_incremental()
        return table

    def keep(self, uri: str, table: DeltaTable) -> None:
        """Keep a table for the next append."""
        mark = _mark(uri, table.version())
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
