"""What each column of the table is for: the label, times, id, entities, features, and those that are nothing of it."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from tidemill.init.column import InputColumn
from tidemill.replay.file_rows import DataSetError

_MOST_GAPS, _IN_ORDER = 2, 0.99
_ID_NAMES = ("id", "uuid", "guid", "index", "idx", "key", "nr", "no", "number", "rowid", "row", "unnamed")
_FREE_TEXT = 0.9
_LEAST_TEXTS = 50


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of columns, as the file has them."""

    label: str
    time: str | None = None
    label_time: str | None = None
    identity: str | None = None
    entities: Sequence[str] = ()
    excluded: Sequence[str] = ()

    def check(self, file: str, columns: Sequence[str]) -> None:
        """Refuse names that the table does not have, with the nearest that it has; and one column for two roles that exclude each other."""
        wanted = (("--label", self.label), ("--time", self.time), ("--label-time", self.label_time), ("--id", self.identity))
        for option, name in (*wanted, *(("--entity", name) for name in self.entities), *(("--exclude", name) for name in self.excluded)):
            if name is not None and name not in columns:
                raise DataSetError(f"{file}: {option}: expected a column of the table, found {name!r}; {nearest(name, columns)}")
        for option, name in wanted[1:]:
            if name is not None and name == self.label:
                raise DataSetError(f"{option}: expected another column than the label {name!r}")
        if self.label in self.excluded:
            raise DataSetError(f"--exclude: expected another column than the label {self.label!r}")
        if self.identity is not None and self.identity == self.time:
            raise DataSetError(f"--id: expected another column than --time {self.time!r}; leave --id out and rows are numbered")
        for name in self.entities:
            for option, other in wanted[1:]:
                if name == other:
                    raise DataSetError(
                        f"--entity: expected another column than {option} {name!r}: an entity comes again, and nothing is remembered of it"
                    )
            if name == self.label:
                raise DataSetError(f"--entity: expected another column than the label {name!r}: how it was before is a feature without it")
            if name in self.excluded:
                raise DataSetError(f"--exclude: expected another column than the entity {name!r}: say one of the two")
        if self.time is not None and self.time == self.label_time:
            raise DataSetError(f"--label-time: expected another column than --time {self.time!r}; labels that come at once need none")


def nearest(name: str, columns: Sequence[str]) -> str:
    """Say which names were probably meant."""
    folded = {column.lower().strip(): column for column in columns}
    close = [folded[one] for one in difflib.get_close_matches(name.lower().strip(), folded, n=3, cutoff=0.5)]
    some = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
    if len(columns) == 1 and name in re.split(r"[^\w.]+", columns[0]):
        return f"it has one column, {columns[0]!r}: if another mark parts columns, say which with --separator"
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {some}"


def looks_like_an_id(column: InputColumn) -> str:
    """Say why a column probably names its row rather than describing it; empty when it does not.

    An id has another value in each row; a number is one only if its name says so or if it counts the rows, as measured amounts may all differ, too.
    """
    given = column.values.drop_nulls()
    if len(given) < _LEAST_TEXTS or column.kind not in ("integer", "text"):
        return ""
    distinct = given.n_unique()
    words = {part for part in column.name.lower().replace("-", "_").replace(" ", "_").replace(":", "_").split("_") if part}
    if column.kind == "integer":
        if distinct < len(given):
            return ""
        if words & set(_ID_NAMES):
            return "each row has another value, and its name says that it is an id"
        return "it counts the rows" if _counts_rows(given) else ""
    if distinct == len(given):
        return "each row has another text"
    return "nearly each row has another text" if distinct > _FREE_TEXT * len(given) else ""


def _counts_rows(numbers: pl.Series) -> bool:
    """Whether different whole numbers are 1, 2, 3, ... from some number on, in any order; or with gaps, but nearly in order."""
    span = int(numbers.max()) - int(numbers.min()) + 1  # type: ignore[arg-type]  # there are some, and they are integers
    in_order = float((numbers.diff().drop_nulls() > 0).mean() or 0)  # type: ignore[arg-type]  # of truth values
    return span == len(numbers) or (span <= _MOST_GAPS * len(numbers) and in_order >= _IN_ORDER)


def duplicates(names: Iterable[str], values: pl.Series) -> list[str]:
    """Return some values that stand in more than one row."""
    counts = values.drop_nulls().value_counts(sort=True)
    first = counts.columns[0]
    return [str(value) for value in counts.filter(pl.col("count") > 1)[first].head(3).to_list()]
