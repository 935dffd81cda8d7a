"""What is counted of the values of a column, row by row, to be added up by slice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.rows import floats
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.short_text import short_text
from tidemill.shared.statistics.histogram import LONGEST_NAME, Tally

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
COUNTS = ("missing", "outside", "logs", "negative", "fractions", "log_sum", "log_squares")
"""Missing values, those never seen, those with a logarithm, negative ones and ones with a fraction among them, and their logarithms and squares of
these in units."""
UNIT = 65_536.0
"""Parts of one of a logarithm that are whole numbers."""
_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """What is counted of rows, of some columns.

    Attributes
    ----------
    places : int64 array, shape (k,)
        Numbers of the columns; of others all is zero.
    values : float64 array, shape (k, n)
        Whole numbers.
    """

    places: Int64
    values: Float64


def counted(columns: Sequence[pa.Array], references: Sequence[Summary | None]) -> dict[str, ValueCounts]:
    """Return what is counted of columns of one length, by the names of `COUNTS`.

    Parameters
    ----------
    references
        For each column what values are held against that were never seen; None: all were.
    """
    is_text = [pa.types.is_string(column.type) or pa.types.is_large_string(column.type) for column in columns]
    numbers = np.flatnonzero(~np.array(is_text, np.bool_))
    parts = _of_numbers(numbers, [floats(columns[place]) for place in numbers.tolist()], [references[place] for place in numbers.tolist()])
    for place in np.flatnonzero(is_text).tolist():
        for name, values in _of_texts(columns[place], references[place]).items():
            known = parts.get(name, ValueCounts(np.empty(0, np.int64), np.empty((0, len(values)))))
            parts[name] = ValueCounts(np.append(known.places, place), np.vstack([known.values, values]))
    return parts


def added_up(counts: ValueCounts, rows: Int64, begins: Int64) -> Int64:
    """Return the sums of each column over stretches of the rows, shape (stretches, k)."""
    # Whole numbers below 2^53: exact in any order.
    return np.add.reduceat(counts.values[:, rows], begins, axis=1).T.astype(np.int64)


def _of_texts(column: pa.Array, reference: Summary | None) -> dict[str, Float64]:
    parts = column.dictionary_encode()
    known = reference.counts if isinstance(reference, Tally) and reference.present and reference.other == 0 else None
    unseen = [known is not None and short_text(value, LONGEST_NAME) not in known for value in parts.dictionary.to_pylist()]
    places = parts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    outside = {"outside": np.array([*unseen, False], np.float64)[places]} if any(unseen) else {}
    return {"missing": (places < 0).astype(np.float64), **outside}


def _of_numbers(places: Int64, columns: Sequence[Float64], references: Sequence[Summary | None]) -> dict[str, ValueCounts]:
    if not columns:
        return {}
    values = np.stack(columns)
    has_log = np.isfinite(values) & (values != 0)
    logs = np.log(np.abs(np.where(has_log, values, 1.0)))
    counts = {
        "missing": np.isnan(values),
        "outside": _unseen(values, references),
        "logs": has_log,
        "negative": has_log & (values < 0),
        "fractions": has_log & (values != np.rint(values)),
        "log_sum": np.rint(logs * UNIT),
        "log_squares": np.rint(logs**2 * UNIT),
    }
    chosen = {name: np.flatnonzero(one.any(axis=1)) for name, one in counts.items()}
    return {name: ValueCounts(places[some], counts[name][some].astype(np.float64)) for name, some in chosen.items()}


def _unseen(values: Float64, references: Sequence[Summary | None]) -> NDArray[np.bool_]:
    """Return which values, shape (columns, n), lie beyond what was seen, and a margin."""
    ends = np.full((2, len(values)), np.nan)
    for place, reference in enumerate(references):
        if reference is not None and not isinstance(reference, Tally) and reference.present:
            margin = _MARGIN * (reference.high - reference.low)
            ends[:, place] = reference.low - margin, reference.high + margin
    return np.asarray((values < ends[0][:, None]) | (values > ends[1][:, None]), np.bool_)
