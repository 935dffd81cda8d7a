"""How far the distributions of all features of a window lie from those of a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.distances import distances
from tidemill.shared.statistics.histogram import Tally
from tidemill.shared.statistics.sketch import Sketch
from tidemill.shared.statistics.sketches import Sketches, binned_all

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
    names = [name for name, one in current.items() if name in reference and not reference[name].is_empty and not one.is_empty]
    if not names:
        return {}
    pairs = _counts([reference[name] for name in names], [current[name] for name in names])
    measures = distances([expected for expected, _, _ in pairs], [seen for _, seen, _ in pairs], [ordered for _, _, ordered in pairs])
    return {name: Shift(psi, js, ks, chi2, current[name].rows) for name, (psi, js, ks, chi2) in zip(names, measures.tolist(), strict=True)}


def _counts(reference: Sequence[Summary], current: Sequence[Summary]) -> list[tuple[NDArray[np.int64], NDArray[np.int64], bool]]:
    numbers, tallies = {}, {}
    for row, (first, second) in enumerate(zip(reference, current, strict=True)):
        if isinstance(first, Sketch) and isinstance(second, Sketch):
            numbers[row] = (first, second)
        elif isinstance(first, Tally) and isinstance(second, Tally):
            bins = first.bins()
            tallies[row] = (bins.counts(first), bins.counts(second), False)
        else:
            raise TypeError(f"expected two summaries of one kind, got {type(first).__name__} and {type(second).__name__}")
    of_numbers = binned_all(Sketches([first for first, _ in numbers.values()]), Sketches([second for _, second in numbers.values()]))
    counts_by_row = tallies | {row: (*counts, True) for row, counts in zip(numbers, of_numbers, strict=True)}
    return [counts_by_row[row] for row in range(len(reference))]
