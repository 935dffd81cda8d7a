"""What may be expected of further records, as the table is: ranges, categories, no gaps; each with what was seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.init.profile import ColumnProfile

_PARTS = 10
_LEAST_LONG = -(2**63)
_PLAIN = 1e-5, 1e15
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
    bounds += [expected for one in ranged[:_MOST_RANGES] if (expected := _range(one, rows)) is not None]
    bounds += [_categories(one, rows) for one in columns if one.is_feature and one.categories]
    return bounds


def _range(one: ColumnProfile, rows: int) -> WrittenExpectation | None:
    """Expect what was seen and a tenth more on either side; a sign that no value has is not expected. None where that is beyond what doubles hold."""
    bounds = _whole_bounds(one) if one.column.kind == "integer" else _bounds(one)
    if bounds is None:
        return None
    name = sql_name(one.name)
    check = f"{name} IS NULL OR ({name} >= {bounds[0]} AND {name} <= {bounds[1]})"
    gaps = f", no value in {one.null_share:.1%} of rows" if one.column.nulls else ""
    return WrittenExpectation(f"{one.name} in its range", check, f"{one.low:,.6g} to {one.high:,.6g} in {rows:,} rows{gaps}")


def _whole_bounds(one: ColumnProfile) -> tuple[str, str]:
    """Return the bounds of whole numbers, exact beyond 2^53 as well."""
    low, high = int(one.low or 0), int(one.high or 0)
    margin = (high - low) // _PARTS
    least = max(0, low - margin) if low >= 0 else max(_LEAST_LONG, low - margin)
    most = min(0, high + margin) if high <= 0 else min(-_LEAST_LONG - 1, high + margin)
    return str(least), str(most)


def _bounds(one: ColumnProfile) -> tuple[str, str] | None:
    low, high = float(one.low or 0), float(one.high or 0)
    margin = (high - low) / _PARTS
    if not (math.isfinite(low - margin) and math.isfinite(high + margin)):
        return None
    least = max(0.0, low - margin) if low >= 0 else low - margin
    most = min(0.0, high + margin) if high <= 0 else high + margin
    return _number(least, margin), _number(most, margin)


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


def _number(value: float, margin: float) -> str:
    """Return a number to two digits of the margin that it has; as it is where there is none."""
    rounded = round(value, 1 - math.floor(math.log10(margin))) if margin > 0 else value
    is_plain = not rounded or _PLAIN[0] <= abs(rounded) < _PLAIN[1]
    return np.format_float_positional(rounded, trim="-") if is_plain else repr(rounded)
