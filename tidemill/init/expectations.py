"""What may be expected of further records, as the table is: ranges, categories, no gaps; each with what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.init.profile import ColumnProfile

_MARGIN = 0.1
_LEAST_ROWS = 50
_MOST_RANGES = 60
_TOGETHER = 40


@dataclass(frozen=True, slots=True)
class WrittenExpectation:
    """A condition in SQL, its name, and what speaks for it."""

    name: str
    check: str
    evidence: str


def expectations(columns: Sequence[ColumnProfile], rows: int) -> list[WrittenExpectation]:
    """Infer conditions; of wide tables the ranges of the first 60 numbers."""
    if rows < _LEAST_ROWS:
        return []
    bounds = []
    full = [one for one in columns if one.use != "carried" and not one.column.nulls]
    for begin in range(0, len(full), _TOGETHER):
        part = full[begin : begin + _TOGETHER]
        check = " AND ".join(f"{sql_name(one.name)} IS NOT NULL" for one in part)
        which = "" if len(full) <= _TOGETHER else f" ({begin + 1} to {begin + len(part)})"
        bounds.append(WrittenExpectation(f"no gaps{which}", check, f"none in {rows:,} rows"))
    ranged = [one for one in columns if one.is_feature and one.column.kind in ("integer", "number")]
    bounds += [_range(one, rows) for one in ranged[:_MOST_RANGES]]
    bounds += [_categories(one, rows) for one in columns if one.is_feature and one.categories]
    return bounds


def _range(one: ColumnProfile, rows: int) -> WrittenExpectation:
    """Expect what was seen and a tenth more on either side; a sign that no value has is not expected."""
    low, high = float(one.low or 0), float(one.high or 0)
    margin = (high - low) * _MARGIN
    least = max(0.0, low - margin) if low >= 0 else low - margin
    most = min(0.0, high + margin) if high <= 0 else high + margin
    name = sql_name(one.name)
    check = f"{name} IS NULL OR ({name} >= {_number(least)} AND {name} <= {_number(most)})"
    gaps = f", no value in {one.null_share:.1%} of rows" if one.column.nulls else ""
    return WrittenExpectation(f"{one.name} in its range", check, f"{one.low:,.6g} to {one.high:,.6g} in {rows:,} rows{gaps}")


def _categories(one: ColumnProfile, rows: int) -> WrittenExpectation:
    name = sql_name(one.name)
    values = ", ".join(map(sql_text, one.categories))
    gaps = f", no value in {one.null_share:.1%} of rows" if one.column.nulls else ""
    return WrittenExpectation(f"{one.name} as known", f"{name} IS NULL OR {name} IN ({values})", f"{one.distinct} texts in {rows:,} rows{gaps}")


def sql_name(name: str) -> str:
    """Return a column's name in SQL, whatever word it is."""
    return f'"{name}"'


def sql_text(value: str) -> str:
    """Return a text as SQL has it.

    >>> sql_text("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def _number(value: float) -> str:
    """Return a number as SQL reads it: no exponent, six digits."""
    text = f"{value:.6g}"
    return text if "e" not in text else f"{float(text):.12f}".rstrip("0").rstrip(".")
