"""Years of candidates that are worse than the champion by exactly the margin: how many of them the gate lets through, and what it would see.

Run as ``python -m campaigns.gate_years --years 1000``.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.statistics.eprocess import below, block_means
from tidemill.shared.statistics.levels import next_level

DAY_MS = 86_400_000
MARGIN, YEARLY = 0.005, 0.05
_YEAR, _WINDOW, _LEAST_DAYS = 365, 28, 7


@dataclass(frozen=True, slots=True)
class World:
    """How loss differences come about: days share an effect, which depends on the day before.

    Attributes
    ----------
    day_sd, correlation
        Standard deviation of the days' effects, and their lag-1 correlation.
    rows, row_sd
        Labels a day, and what each adds of its own.
    """

    day_sd: float
    correlation: float
    rows: int = 40
    row_sd: float = 0.3

    def days(self, random: np.random.Generator, mean: float, days: int) -> NDArray[np.float64]:
        """Draw rows and return the mean of each day; the rows' noise is the day's that its labels have."""
        effects, last = np.empty(days), random.standard_normal()
        for day in range(days):
            last = self.correlation * last + np.sqrt(1 - self.correlation**2) * random.standard_normal()
            effects[day] = last
        noise = random.standard_normal((days, self.rows)) * self.row_sd
        rows = mean + (self.day_sd * effects)[:, None] + noise
        return block_means(rows.ravel(), np.repeat(np.arange(days), self.rows))


def year_of_candidates(world: World, random: np.random.Generator) -> bool:
    """A candidate every 28 days, looked at after each day; whether any passes although all are too bad by the margin.

    A day's mean changes the e-value when the day is complete, so looks after each of its labels see the same.
    """
    spent: list[tuple[int, float]] = []
    for begin in range(0, _YEAR - _WINDOW + 1, _WINDOW):
        level = next_level(spent, begin * DAY_MS, YEARLY)
        spent.append((begin * DAY_MS, level))
        means = world.days(random, MARGIN, _WINDOW)
        if any(below(means[:day], MARGIN).shows(level) for day in range(_LEAST_DAYS, _WINDOW + 1)):
            return True
    return False


def year_of_one(world: World, random: np.random.Generator) -> bool:
    """One candidate, too bad by the margin, looked at after each day of a year at the level of a first look."""
    means = world.days(random, MARGIN, _YEAR)
    level = next_level([], 0, YEARLY)
    return any(below(means[:day], MARGIN).shows(level) for day in range(_LEAST_DAYS, _YEAR + 1))


def power(world: World, random: np.random.Generator, difference: float, tries: int) -> float:
    """Share of candidates of a true difference that pass at a first look, on 28 days."""
    level = next_level([], 0, YEARLY)
    return float(np.mean([below(world.days(random, difference, _WINDOW), MARGIN).shows(level) for _ in range(tries)]))


def main() -> int:
    """Print the shares; fail when one exceeds what is promised."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--years", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    worst, begun = 0.0, time.monotonic()
    for day_sd in (0.05, 0.1):
        for correlation in (0.0, 0.3):
            world, random = World(day_sd, correlation), np.random.default_rng(given.seed)
            many = np.mean([year_of_candidates(world, random) for _ in range(given.years)])
            one = np.mean([year_of_one(world, random) for _ in range(given.years)])
            worst = max(worst, float(many), float(one))
            print(f"day sd {day_sd}, correlation {correlation}: a false promotion in {many:.1%} of years of 13 candidates, {one:.1%} of years of one")
    for day_sd in (0.005, 0.01, 0.02, 0.05):
        world, random = World(day_sd, 0.3, rows=1000, row_sd=0.1), np.random.default_rng(given.seed)
        shares = ", ".join(f"{gain:+.3f}: {power(world, random, -gain, given.years // 4):.0%}" for gain in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04))
        print(f"passed on 28 days at a first look, day sd {day_sd}, correlation 0.3, by the true gain in log loss: {shares}")
    print(f"{time.monotonic() - begun:.0f} s; promised: at most {YEARLY:.0%}")
    return int(worst > YEARLY)


if __name__ == "__main__":
    raise SystemExit(main())
