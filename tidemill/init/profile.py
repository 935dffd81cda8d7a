"""What a table looks like: each column's type, range, categories and gaps, what it is used for, and what may be wrong with it."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10, prod
from typing import Literal

import polars as pl

from tidemill.init.column import InputColumn
from tidemill.init.leaks import BOUND, single_column_score
from tidemill.init.names import avro_names
from tidemill.init.question import Question
from tidemill.init.roles import Roles, looks_like_an_id

Use = Literal["feature", "entity", "carried", "left out"]
_MOST_CATEGORIES = 20
_ROWS_A_CATEGORY = 5
_LATER_SHARE = 0.01
_RARE = 0.05
_MANY_TEXTS = 1_000
_COPIES = 0.01
_ROOM = 1_000
_LEAST_MEASURED = 50
_MOSTLY, _LIKELY = 0.95, 0.5
_LONGEST_VALUE = 60
_AGAIN = 0.1
_LEAST_STRETCHES, _ROWS_A_STRETCH, _STRETCHES_A_VALUE = 5, 5, 1.2


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column as the application has it.

    Attributes
    ----------
    name
        Its name in Avro; `column.name` is that of the file.
    use
        ``feature``; ``entity``: a feature, and something that is remembered; ``carried`` in the stream but no feature; ``left out`` of the stream.
    why
        Why it is no feature; empty for one.
    low, high
        Least and greatest value of numbers and times, as they are written in SQL and YAML; None for others.
    categories
        All values of a text that has few, by frequency; empty for others.
    alone
        AUC or R2 of this column alone, see `single_column_score`.
    """

    column: InputColumn
    name: str
    use: Use
    why: str
    distinct: int
    low: float | int | str | None
    high: float | int | str | None
    categories: tuple[str, ...]
    alone: float | None = None

    @property
    def is_feature(self) -> bool:
        """Whether a model may see it."""
        return self.use == "feature" or (self.use == "entity" and not self.why)

    @property
    def null_share(self) -> float:
        """Share of rows without a value."""
        return self.column.nulls / max(1, len(self.column))


@dataclass(frozen=True, slots=True)
class Profile:
    """The table's columns in its order, but for label, times and id; and what to look at."""

    columns: Sequence[ColumnProfile]
    warnings: Sequence[str]


def profile(
    columns: Mapping[str, InputColumn], roles: Roles, question: Question, times: pl.Series | None, taken: Sequence[str], checks_leaks: bool = True
) -> Profile:
    """Look at every column that may be a feature.

    Parameters
    ----------
    times : series of Datetime, n rows
        When each request was made; None where the row number is time.
    taken
        Names that the stream has for other things.
    """
    special = {roles.label, roles.time, roles.label_time, roles.identity} - {None}
    names = avro_names([name for name in columns if name not in special], taken)
    looks = [_look(columns[name], names[name], roles, question, checks_leaks) for name in names]
    warnings = [*_about_rows(columns, roles.label, special), *_about_classes(question)]
    for one in looks:
        warnings += _about_column(one, question, times)
    return Profile(looks, warnings)


def _look(column: InputColumn, name: str, roles: Roles, question: Question, checks_leaks: bool) -> ColumnProfile:
    distinct = column.values.drop_nulls().n_unique() if column.kind != "other" else 0
    use, why = _use(column, distinct, roles)
    low, high = _range(column)
    categories = _categories(column, distinct) if column.kind == "text" and use != "left out" else ()
    alone = single_column_score(column, question) if checks_leaks and use in ("feature", "entity") else None
    return ColumnProfile(column, name, use, why, distinct, low, high, categories, alone)


def _use(column: InputColumn, distinct: int, roles: Roles) -> tuple[Use, str]:
    if column.name in roles.excluded:
        return "left out", "excluded"
    if column.kind == "other":
        return "left out", f"a column of {column.values.dtype} is no feature"
    if not distinct:
        return "left out", "it has no value in any row"
    if column.name in roles.entities:
        named = column.kind == "text" and distinct <= _MANY_TEXTS
        return "entity", "" if named else "what is remembered of it is a feature, its name is not"
    if distinct == 1 and not column.nulls:
        return "carried", f"it is {_short(column.values.drop_nulls()[0])} in every row"
    if column.kind == "time":
        return "carried", "a time is no feature itself; hour, weekday and age of it are"
    if why := looks_like_an_id(column):
        return "carried", f"it seems to be an id: {why}"
    return "feature", ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _range(column: InputColumn) -> tuple[float | int | str | None, float | int | str | None]:
    if column.kind in ("integer", "number"):
        low, high = column.values.min(), column.values.max()
        return low if isinstance(low, int | float) else None, high if isinstance(high, int | float) else None
    if column.kind in ("date", "time") and column.nulls < len(column):
        return str(column.values.min()), str(column.values.max())
    return None, None


def _categories(column: InputColumn, distinct: int) -> tuple[str, ...]:
    """Return the values of a text where there are few and each stands in several rows: then a new one is news."""
    given = column.values.drop_nulls()
    if distinct > _MOST_CATEGORIES or len(given) < distinct * _ROWS_A_CATEGORY:
        return ()
    counts = given.value_counts(sort=True)
    return tuple(str(value) for value in counts[counts.columns[0]].to_list())


def _about_rows(columns: Mapping[str, InputColumn], label: str, special: set[str | None]) -> list[str]:
    """Warn of copied rows, where so many could hardly be alike by chance."""
    told = [column.values for name, column in columns.items() if column.kind != "other" and name not in special]
    frame = pl.DataFrame(told)
    if not frame.width:
        return []
    copies = frame.height - frame.unique().height
    twice = _are_measured_twice((columns[name] for name in frame.columns), frame.with_columns(columns[label].values))
    possible = prod(float(values.n_unique()) for values in told)
    if copies <= frame.height * _COPIES or (possible < frame.height * _ROOM and not twice):
        return []
    return [
        f"{copies:,} of {frame.height:,} rows ({copies / frame.height:.0%}) are copies of another row: if they are the same case twice, what is"
        " learned from one is no surprise in the other, and figures look too good"
    ]


def _are_measured_twice(columns: Iterable[InputColumn], frame: pl.DataFrame) -> bool:
    """Whether some measured number comes again only with its whole row, label included: values that are alike by chance have other neighbours."""
    different = frame.unique().height
    if different < _LEAST_MEASURED:
        return False
    for column in columns:
        if column.kind == "number" and bool((column.values != column.values.round()).any()):
            others = frame.drop(column.name)
            if column.values.n_unique() >= _MOSTLY * different and others.width and _alike_by_chance(others) < _LIKELY:
                return True
    return False


def _alike_by_chance(frame: pl.DataFrame) -> float:
    """Return how probable it is that two rows drawn at random are alike."""
    shares = frame.group_by(frame.columns).len()["len"].to_numpy() / frame.height
    return float((shares**2).sum())


def _about_classes(question: Question) -> list[str]:
    if question.kind == "regression":
        return []
    alike = _alike(question.classes)
    name, count = question.rarest
    share = count / max(1, question.known)
    if share >= _RARE:
        return alike
    digits = max(1, ceil(-log10(max(share, 1e-12))) - 2)
    words = f"the class {name!r} has {count:,} of {question.known:,} rows ({share:.{digits + 1}%})"
    return [
        *alike,
        f"{words}: judge by average precision and recall, not by accuracy; a model that never says it is right {1 - share:.{digits}%} of the time",
    ]


def _alike(classes: Sequence[str]) -> list[str]:
    """Warn of classes whose names differ in case, spaces, hyphens and what nobody sees alone: marks without width, accents of two characters."""
    spelled: dict[str, list[str]] = {}
    for name in classes:
        plain = "".join(letter for letter in unicodedata.normalize("NFKC", name.casefold()) if unicodedata.category(letter) != "Cf")
        spelled.setdefault("".join(re.sub(r"(?<=\w)[-_]", " ", plain).split()), []).append(name)
    return [
        f"the classes {', '.join(map(repr, names))} are spelled alike: if they are one, write them in one way, in the file and in every label that"
        " comes"
        for names in spelled.values()
        if len(names) > 1
    ]


def _about_column(one: ColumnProfile, question: Question, times: pl.Series | None) -> list[str]:
    remarks, name = [], one.column.name
    figure = "R2" if question.kind == "regression" else "AUC"
    if one.alone is not None and one.alone > BOUND:
        remarks.append(
            f"column {name!r} tells the label almost alone ({figure} {one.alone:.3f} on rows it was not learned from): is it known when the question"
            f" is asked? If not: --exclude {_shell(name)}"
        )
    if one.why and one.use == "carried" and one.column.kind != "time":
        remarks.append(f"column {name!r} is no feature: {one.why}")
    elif one.use == "left out" and one.why != "excluded":
        remarks.append(f"column {name!r} is left out: {one.why}")
    if times is not None and one.column.kind in ("date", "time") and one.use != "left out":
        later = int((one.column.values.cast(pl.Datetime("ms")) > times).sum())
        if later > _LATER_SHARE * len(times):
            remarks.append(
                f"column {name!r} lies after the request in {later:,} of {len(times):,} rows: if it tells what happened later, it must not be seen;"
                f" --exclude {_shell(name)}"
            )
    remarks += _about_order(one)
    if one.use == "feature" and one.column.kind == "text" and not one.categories and one.distinct > _MANY_TEXTS:
        remarks.append(f"column {name!r} has {one.distinct:,} different texts: rare ones are pooled when a model is trained")
    return remarks


def _about_order(one: ColumnProfile) -> list[str]:
    """Warn of an entity that comes once, and of a feature whose values follow each other and do not come again: what comes next nobody has seen."""
    name, given = one.column.name, one.column.values.drop_nulls()
    if one.use == "entity" and len(given) - one.distinct < _AGAIN * len(given):
        return [
            f"the entity {name!r} comes again in {len(given) - one.distinct:,} of {len(given):,} rows: hardly anything is remembered of it; if it"
            f" names a row, say --id {_shell(name)}"
        ]
    is_told = one.use == "feature" and one.column.kind in ("text", "integer", "date")
    if not is_told or one.distinct < _LEAST_STRETCHES or one.distinct * _ROWS_A_STRETCH > len(given):
        return []
    stretches = int((given != given.shift(1)).sum()) + 1
    if stretches > _STRETCHES_A_VALUE * one.distinct:
        return []
    return [
        f"the values of column {name!r} follow each other and do not come again ({one.distinct:,} in {stretches:,} stretches): a model has seen none"
        f" of those that come next. If it is a time, say --time {_shell(name)}, or leave it out: --exclude {_shell(name)}"
    ]


def _shell(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() else f"'{name}'"
