"""A/B tests of versions that are equal, and of versions that differ, looked at every day: how many are decided, and how many rightly.

Run as ``python -m campaigns.ab_years --years 1000``.
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from tidemill.services.control.domain.ab import ABTest, compare
from tidemill.shared.application.stages import ABStage
from tidemill.shared.statistics.sticky_arms import BUCKETS, bucket_of

LEVEL, DAY_MS = 0.05, 86_400_000
_DAYS, _SPREAD = (14, 28, 90), 0.05
_ASKED, _RATE = 1_000, 0.25


def correlated(random: np.random.Generator, days: int, correlation: float) -> NDArray[np.float64]:
    """Return the effects of days, with a lag-1 correlation, in standard deviations."""
    effects, last = np.empty(days), random.standard_normal()
    for day in range(days):
        last = correlation * last + np.sqrt(1 - correlation**2) * random.standard_normal()
        effects[day] = last
    return effects


def by_loss(random: np.random.Generator, days: int, correlation: float, gain: float) -> str:
    """Play a test by loss whose days differ by .05; the challenger is better by so many standard deviations of the days."""
    test, stage = ABTest(0, 0), ABStage.model_validate({"for": f"{days}d"})
    for day, effect in enumerate(correlated(random, days, correlation)):
        test.differences.append(_SPREAD * (effect - gain))
        test.labels.append(_ASKED)
        test.champion_loss += 0.5 * _ASKED
        if comparison := compare(test, stage, LEVEL, 1e-12, (day + 1) * DAY_MS, {}):
            return comparison.winner
    raise AssertionError("expected an end within the time")


def by_label(random: np.random.Generator, days: int, entities: int, spread: float, effect: float) -> str:
    """Play a test by label: entities differ and stay in their arm; the challenger moves labels by an effect, more or less by .02 from day to day."""
    test, stage = ABTest(0, 0), ABStage.model_validate({"for": f"{days}d", "metric": "label", "better": "lower"})
    bucket, own = bucket_of(random.random(entities), 0.5), random.normal(0, spread, entities)
    for day, drift in enumerate(correlated(random, days, 0.3)):
        who = random.integers(0, entities, _ASKED)
        mine = bucket[who] < BUCKETS
        label = (random.random(_ASKED) < _RATE + own[who] + mine * (effect + 0.02 * drift)).astype(float)
        test.arms.append(float(label[mine].mean() - label[~mine].mean()))
        test.entities.add(np.bincount(bucket[who], minlength=2 * BUCKETS), np.bincount(bucket[who], label - _RATE, 2 * BUCKETS))
        for place, arm in enumerate((mine, ~mine)):
            test.arm_labels[place] += int(arm.sum())
            test.label_sums[place] += float(label[arm].sum())
        if comparison := compare(test, stage, LEVEL, 0.0, (day + 1) * DAY_MS, {}):
            return comparison.winner
    raise AssertionError("expected an end within the time")


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=1_000, help="Tests of each row; those by label a tenth.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.process_time()
    random = np.random.default_rng(options.seed)
    print("by loss: days differ by .05")
    for correlation in (0.0, 0.3, 0.5):
        for gain in (0.0, 0.5, 1.0, 1.5):
            for days in _DAYS:
                won = [by_loss(random, days, correlation, gain) for _ in range(options.years)]
                _say(f"correlation {correlation:g}, better by {gain:g} sd, {days} days", won)
    print("by label: 1,000 a day, a quarter of them 1")
    for entities, spread in ((200, 0.15), (2_000, 0.15), (20_000, 0.1)):
        for effect in (0.0, -0.03, -0.05, -0.1):
            won = [by_label(random, 28, entities, spread, effect) for _ in range(max(1, options.years // 10))]
            _say(f"{entities:,} entities that differ by {spread:g}, effect {effect:g}, 28 days", won)
    print(f"{time.process_time() - began:.0f} s of CPU")


def _say(what: str, won: list[str]) -> None:
    shares = [f"{who} {won.count(who) / len(won):.3f}" for who in ("challenger", "champion", "nobody")]
    print(f"  {what}: {', '.join(shares)}", flush=True)


if __name__ == "__main__":
    main()
