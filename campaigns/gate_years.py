"""Years of candidates that are worse than the champion by exactly the margin: how many of them the gate lets through, and what it would see.

Run as ``python -m campaigns.gate_years --years 1000``.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.services.control.domain.trial_state import OF_TRIALS
from tidemill.shared.statistics.eprocess import CORRELATED, below, block_means
from tidemill.shared.statistics.levels import next_level
from tidemill.shared.statistics.sequential_interval import critical_ratios

DAY_MS = 86_400_000
MARGIN, YEARLY = 0.005, 0.05
TRIAL_MARGIN = MARGIN
_YEAR, _WINDOW, _LEAST_DAYS = 365, 28, 7
_BAKED = 10
"""Days of a shadow and a canary by default."""


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


def trials_of_years(days: NDArray[np.float64], yearly: float, anew: bool = False) -> NDArray[np.bool_]:
    """Return which challengers of years are promoted from their trials, looked at after each day on which both stages have baked.

    Neither of what also stops a challenger is played here (it waits in shadow, it is shown to be worse), so no fewer are promoted than by
    `StageWatch`.

    Parameters
    ----------
    days : shape (years, challengers, days)
        Mean loss differences, in order of time.
    yearly
        Level of a year: each trial draws its own from what the ones before have left.
    anew
        Each trial has the level of the whole year instead.
    """
    years, challengers, count = days.shape
    # All draws lie within a year, so what a trial draws depends on its number alone.
    spent: list[tuple[int, float]] = []
    for number in range(challengers):
        spent.append((number * DAY_MS, next_level(spent, number * DAY_MS, OF_TRIALS * yearly)))
    looks = np.arange(_BAKED, count + 1)
    promoted = np.zeros((years, challengers), np.bool_)
    for number, (_, drawn) in enumerate(spent):
        advantage = TRIAL_MARGIN - days[:, number]
        needed = np.concatenate([np.full(_LEAST_DAYS, np.inf), critical_ratios(np.arange(_LEAST_DAYS, count + 1), yearly if anew else drawn)])
        pairs = advantage[:, : count // 2 * 2].reshape(years, -1, 2).mean(axis=2)
        of_days, of_pairs = _ratios(advantage)[:, looks - 1], _ratios(pairs)[:, looks // 2 - 1]
        shown = np.where(_correlations(advantage)[:, looks - 1] > CORRELATED, of_pairs >= needed[looks // 2], of_days >= needed[looks])
        promoted[:, number] = shown.any(axis=1)
    return promoted


def days_of_years(random: np.random.Generator, years: int, challengers: int, spread: float, correlation: float) -> NDArray[np.float64]:
    """Draw days of challengers that are worse by the margin: 28 each, alike to the day before; shape (years, challengers, 28)."""
    noise = random.standard_normal((years, challengers, _WINDOW))
    effects = np.empty_like(noise)
    effects[..., 0] = noise[..., 0]
    for day in range(1, _WINDOW):
        effects[..., day] = correlation * effects[..., day - 1] + np.sqrt(1 - correlation**2) * noise[..., day]
    return TRIAL_MARGIN + spread * effects


def _ratios(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums over roots of sums of squares of the first n columns, for every n."""
    ratios: NDArray[np.float64] = values.cumsum(axis=1) / np.sqrt((values**2).cumsum(axis=1))
    return ratios


def _correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `lag_one` of the first n columns, for every n."""
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / n
    total = (values**2).cumsum(axis=1) - n * mean**2
    products = np.zeros_like(values)
    products[:, 1:] = (values[:, 1:] * values[:, :-1]).cumsum(axis=1)
    # Of the sum over pairs of (a - m)(b - m), where m changes with n.
    ends = values.cumsum(axis=1)
    shared = products - mean * (2 * ends - values - values[:, :1]) + (n - 1) * mean**2
    plain = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    corrected: NDArray[np.float64] = np.where(n < 3, 0.0, plain + (1 + 4 * np.maximum(plain, 0.0)) / n)
    return corrected


def _promoted(years: int, spread: float, gain: float, seed: int) -> str:
    days = days_of_years(np.random.default_rng(seed), years, 8, spread, 0.3) - TRIAL_MARGIN - gain
    trials = trials_of_years(days, YEARLY).mean(axis=0)
    return f"{gain:+.3f}: {trials[0]:.0%} of first trials in a year, {trials[3]:.0%} of fourth, {trials[7]:.0%} of eighth"


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
            draws = days_of_years(random, given.years, 13, day_sd, correlation)
            tried, alone = (float(trials_of_years(draws, YEARLY, anew).any(axis=1).mean()) for anew in (False, True))
            worst = max(worst, tried)
            print(f"  trials alone, of challengers that passed any gate: {tried:.1%} of years; at the whole level for each trial: {alone:.1%}")
            print(f"day sd {day_sd}, correlation {correlation}: a false promotion in {many:.1%} of years of 13 candidates, {one:.1%} of years of one")
    for day_sd in (0.005, 0.01, 0.02, 0.05):
        world, random = World(day_sd, 0.3, rows=1000, row_sd=0.1), np.random.default_rng(given.seed)
        shares = ", ".join(f"{gain:+.3f}: {power(world, random, -gain, given.years // 4):.0%}" for gain in (0.0, 0.002, 0.005, 0.01, 0.02, 0.04))
        print(f"passed on 28 days at a first look, day sd {day_sd}, correlation 0.3, by the true gain in log loss: {shares}")
    for spread in (0.002, 0.005, 0.01, 0.02):
        shares = "; ".join(_promoted(given.years, spread, gain, given.seed) for gain in (0.0, 0.005, 0.01, 0.02))
        print(f"promoted within 28 days, day sd {spread}, correlation 0.3, by the true gain: {shares}")
    print(f"{time.monotonic() - begun:.0f} s; promised: at most {YEARLY:.0%}")
    return int(worst > YEARLY)


if __name__ == "__main__":
    raise SystemExit(main())
