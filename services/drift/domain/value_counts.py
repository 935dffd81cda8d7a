"""What is counted of the values of columns, added up by slice."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.rows import floats
from tidemill.services.drift.domain.shifts import Summary
from tidemill.services.drift.domain.value_kernel import add_numbers
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


def add_values(counts: Mapping[str, Int64], codes: Int64, columns: Sequence[pa.Array], references: Sequence[Summary | None]) -> None:
    """Add what is counted of the values of rows to the sums of their slices.

    Parameters
    ----------
    counts
        By the names of `COUNTS`, shape (slices, columns) each; written to.
    codes : int64 array, shape (rows, k)
        The slices of each row; -1 for none.
    columns
        Of one length each.
    references
        For each column what values are held against that were never seen; None: all were.
    """
    is_text = [pa.types.is_string(column.type) or pa.types.is_large_string(column.type) for column in columns]
    for place in np.flatnonzero(is_text).tolist():
        _add_texts(counts, codes, columns[place], references[place], place)
    numbers = np.flatnonzero(~np.array(is_text, np.bool_))
    if numbers.size and len(codes):
        values = np.stack([floats(columns[place]) for place in numbers.tolist()])
        has_log = np.isfinite(values) & (values != 0)
        logs = np.log(np.abs(np.where(has_log, values, 1.0)))
        ends = _ends([references[place] for place in numbers.tolist()])
        add_numbers(values, logs, ends, np.ascontiguousarray(codes), numbers, UNIT, *(counts[name] for name in COUNTS))


def _add_texts(counts: Mapping[str, Int64], codes: Int64, column: pa.Array, reference: Summary | None, place: int) -> None:
    parts = column.dictionary_encode()
    known = reference.counts if isinstance(reference, Tally) and reference.present and reference.other == 0 else None
    unseen = [known is not None and short_text(value, LONGEST_NAME) not in known for value in parts.dictionary.to_pylist()]
    number = parts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    # A missing value takes the last one's place.
    for name, chosen in (("missing", number < 0), ("outside", np.array([*unseen, False], np.bool_)[number])):
        if chosen.any():
            for code in codes[chosen].T:
                counts[name][:, place] += np.bincount(code[code >= 0], minlength=len(counts[name]))


def _ends(references: Sequence[Summary | None]) -> Float64:
    """Return between which values, and a margin, what was seen lies, shape (2, columns); NaN where nothing is held against it."""
    ends = np.full((2, len(references)), np.nan)
    for place, reference in enumerate(references):
        if reference is not None and not isinstance(reference, Tally) and reference.present:
            margin = _MARGIN * (reference.high - reference.low)
            ends[:, place] = reference.low - margin, reference.high + margin
    return ends
