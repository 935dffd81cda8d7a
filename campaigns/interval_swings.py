"""Coverage of prediction intervals beside an abrupt swing of the errors: ``python -m campaigns.interval_swings``.

Residuals of 5,000 rows are normal with deviation 1; half-way their mean moves by some deviations, or their deviation grows. Labels come some rows
late, and bounds go out every 20 labels and where they leap, as those of a live model do. Of each stream the 500 rows in a row count that are covered
worst.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.interval_tracking import IntervalTracker

ROWS, WINDOW, REVISION, LEAST = 5_000, 500, 20, 0.8
SWINGS = [(what, size) for what, sizes in (("mean moves by", (1.0, 2.0, 4.0)), ("deviation times", (2.0, 3.0, 5.0))) for size in sizes]
_BOUND = 1.6448536269514722


def covered(seed: int, what: str, size: float, delay: int) -> NDArray[np.float64]:
    """Return which rows of a stream lie within the interval that they were answered with, shape (n,), 1 or 0."""
    residuals = np.random.default_rng(seed).normal(size=ROWS)
    late = np.arange(ROWS) >= ROWS // 2
    residuals = residuals + size * late if what == "mean moves by" else residuals * np.where(late, size, 1.0)
    offsets, leaps = IntervalTracker(-_BOUND, _BOUND).followed(residuals)
    moved, labels = np.vstack([[-_BOUND, _BOUND], offsets]), np.arange(ROWS + 1)
    told = np.maximum.accumulate(np.where((labels % REVISION == 0) | np.concatenate([[False], leaps]), labels, 0))
    bounds = moved[told[np.maximum(0, np.arange(ROWS) - delay)]]
    return np.asarray((residuals >= bounds[:, 0]) & (residuals <= bounds[:, 1]), np.float64)


def main() -> None:
    """Print the worst coverage of each swing and delay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    chosen = parser.parse_args()
    for what, size in SWINGS:
        for delay in (0, 20, 50, 100):
            streams = np.array([covered(seed, what, size, delay) for seed in range(chosen.seeds)])
            worst = np.array([np.convolve(rows, np.ones(WINDOW) / WINDOW, "valid").min() for rows in streams])
            print(
                f"{what} {size:g}, labels {delay} rows late: worst {WINDOW} rows {np.median(worst):.3f} in the median stream, {LEAST:.2f} and more in"
                f" {(worst >= LEAST).mean():.0%}; whole {streams.mean():.3f}", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
