"""Which columns are measured in units: what counts or names a few things has none."""

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.shifts import Summary
from tidemill.shared.statistics.sketch import Sketch

_FEW_VALUES, _FEW_WHOLE_NUMBERS = 10, 60
_NEARLY_ALL, _MOST = 0.99, 0.5


def has_few_values(reference: Summary) -> bool:
    """Whether a column has at most ten different values: weekdays, grades, shares of a few answers."""
    return isinstance(reference, Sketch) and reference.keys.size <= _FEW_VALUES


def has_few_whole_numbers(reference: Summary) -> bool:
    """Whether a column has at most 60 different values, whole numbers: hours, months, weeks, codes, small counts."""
    return isinstance(reference, Sketch) and reference.keys.size <= _FEW_WHOLE_NUMBERS and reference.whole_share >= _NEARLY_ALL


def has_units(reference: Summary, now: Summary) -> bool:
    """Whether a column is measured, so that its values can come in other units.

    Not one of few values; nor one of few whole numbers while these stay whole. Other units of a whole number have fractions, or lie beyond the
    column's range, which is told by itself.
    """
    if not isinstance(reference, Sketch) or not isinstance(now, Sketch) or has_few_values(reference):
        return False
    return not has_few_whole_numbers(reference) or now.whole_share < _MOST


def have_fractions(fractions: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether most of so many values have a fraction."""
    return np.asarray(fractions > (1 - _MOST) * values, dtype=np.bool_)
