"""What is counted of the values of a column, row by row, to be added up by slice."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.rows import floats
from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.short_text import short_text
from tidemill.shared.statistics.histogram import LONGEST_NAME, Tally

Float64 = NDArray[np.float64]
COUNTS = ("missing", "outside", "logs", "negative", "fractions", "log_sum", "log_squares")
"""Missing values, those never seen, those with a logarithm, negative ones and ones with a fraction among them, and their logarithms and squares of
these in units."""
UNIT = 65_536.0
"""Parts of one of a logarithm that are whole numbers."""
_MARGIN = 0.1


def counted(column: pa.Array, reference: Summary | None) -> tuple[Float64 | None, ...]:
    """Return seven columns of whole numbers, shape (n,) each, in the order of `COUNTS`; None where all are zero.

    Parameters
    ----------
    reference
        What values are held against that were never seen; None: all were.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        parts = column.dictionary_encode()
        known = reference.counts if isinstance(reference, Tally) and reference.present and reference.other == 0 else None
        unseen = [known is not None and short_text(value, LONGEST_NAME) not in known for value in parts.dictionary.to_pylist()]
        places = parts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        outside = np.array([*unseen, False], np.float64)[places] if any(unseen) else None
        return (places < 0).astype(np.float64), outside, None, None, None, None, None
    values = floats(column)
    missing, outside = np.isnan(values).astype(np.float64), None
    if reference is not None and not isinstance(reference, Tally) and reference.present:
        margin = _MARGIN * (reference.high - reference.low)
        beyond = (values < reference.low - margin) | (values > reference.high + margin)
        outside = beyond.astype(np.float64) if beyond.any() else None
    has_log = np.isfinite(values) & (values != 0)
    logs = np.log(np.abs(np.where(has_log, values, 1.0)))
    below = has_log & (values < 0)
    negative = below.astype(np.float64) if below.any() else None
    has_fraction = has_log & (values != np.rint(values))
    fractions = has_fraction.astype(np.float64) if has_fraction.any() else None
    gone = missing if missing.any() else None
    return gone, outside, has_log.astype(np.float64), negative, fractions, np.rint(logs * UNIT), np.rint(logs**2 * UNIT)
