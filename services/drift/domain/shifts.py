"""How far the distributions of all features of a window lie from those of a reference."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.distances import distances
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch, binned

Summary = Sketch | Tally
STATISTICS = ("psi", "js", "ks", "chi2")


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a window's distribution of one feature lies from the reference's.

    Attributes
    ----------
    psi, js, ks
        Population stability index, Jensen-Shannon distance, Kolmogorov and Smirnov's statistic (of categories the largest difference of a share).
    chi2
        Statistic of the chi-square test of homogeneity by row.
    """

    psi: float
    js: float
    ks: float
    chi2: float
    rows: int


def shifts_of(reference: Mapping[str, Summary], current: Mapping[str, Summary]) -> dict[str, Shift]:
    """Compare features by name; those without rows on either side are left out."""
    names = [name for name, one in current.items() if name in reference and reference[name].rows and one.rows]
    pairs = [_counts(reference[name], current[name]) for name in names]
    if not names:
        return {}
    found = distances([expected for expected, _, _ in pairs], [seen for _, seen, _ in pairs], [ordered for _, _, ordered in pairs])
    return {name: Shift(psi, js, ks, chi2, current[name].rows) for name, (psi, js, ks, chi2) in zip(names, found.tolist(), strict=True)}


def _counts(reference: Summary, current: Summary) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    if isinstance(reference, Sketch) and isinstance(current, Sketch):
        return *binned(reference, current), True
    if isinstance(reference, Tally) and isinstance(current, Tally):
        bins = reference.bins()
        return bins.counts(reference), bins.counts(current), False
    raise TypeError(f"expected two summaries of one kind, got {type(reference).__name__} and {type(current).__name__}")
