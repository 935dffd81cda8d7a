"""Interval figures against scikit-learn, and the coverage of tracked intervals beside a split-conformal oracle."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import mean_pinball_loss

from tidemill.shared.statistics.interval_tracking import IntervalTracker
from tidemill.shared.statistics.intervals import interval_figures

_ROWS = 10_000
_FIRST = 500


def _residuals(name: str, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    half = np.arange(_ROWS) >= _ROWS // 2
    noise = generator.normal(size=_ROWS)
    return {
        "iid": noise,
        "heavy tails": generator.standard_t(3, _ROWS),
        "one-sided": generator.exponential(size=_ROWS),
        "variance doubles": noise * np.where(half, math.sqrt(2), 1.0),
        "deviation doubles": noise * np.where(half, 2.0, 1.0),
        "mean shifts by one deviation": noise + half,
        "mean shifts by two deviations": noise + 2.0 * half,
        "deviation grows threefold": noise * np.linspace(1.0, 3.0, _ROWS),
    }[name] * 10.0 ** generator.integers(-6, 7)


def _split_conformal_width(residuals: NDArray[np.float64], coverage: float) -> float:
    """Width of the split-conformal interval for rows exchangeable with these: twice the ceil((n + 1) c)-th smallest absolute residual."""
    ordered: list[float] = sorted(abs(float(value)) for value in residuals)
    return 2 * ordered[min(len(ordered), math.ceil((len(ordered) + 1) * coverage)) - 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "name",
    [
        "iid", "heavy tails", "one-sided", "variance doubles", "deviation doubles", "mean shifts by one deviation", "mean shifts by two deviations",
        "deviation grows threefold",
    ],
)  # fmt: skip
def test_coverage_is_kept(name: str, seed: int) -> None:
    """Of the whole within .02, of every 500 rows .80, and never wider than half as much again as split conformal on each regime's own rows."""
    residuals = _residuals(name, seed)
    first, rows = residuals[:_FIRST], residuals[_FIRST:]
    tracker = IntervalTracker(*np.quantile(first, [0.05, 0.95]))
    after = tracker.update(rows)
    served = np.vstack([np.quantile(first, [0.05, 0.95]), after[:-1]])
    covered = ((served[:, 0] <= rows) & (rows <= served[:, 1])).astype(float)
    deviation = math.sqrt(0.9 * 0.1 / len(rows))
    assert abs(covered.mean() - 0.9) <= max(0.02, 2 * deviation)
    assert np.convolve(covered, np.full(500, 1 / 500), "valid").min() >= 0.80
    half = _ROWS // 2 - _FIRST
    for part in (slice(0, half), slice(half, None)):
        assert (served[part, 1] - served[part, 0]).mean() <= 1.5 * _split_conformal_width(rows[part], 0.9)


def test_a_fixed_interval_would_lose_its_coverage() -> None:
    residuals = _residuals("mean shifts by two deviations", 0)
    low, high = np.quantile(residuals[:_FIRST], [0.05, 0.95])
    late = residuals[-500:]
    assert ((low <= late) & (late <= high)).mean() < 0.5


def test_any_batching_and_a_restart_give_the_same_bounds() -> None:
    residuals = np.random.default_rng(1).standard_t(3, 1_000)
    residuals[::97] = np.nan
    whole = IntervalTracker(-1.0, 1.0).update(residuals)
    tracker, parts, begin = IntervalTracker(-1.0, 1.0), [], 0
    for size in (1, 0, 3, 199, 200, 201, 396):
        tracker = IntervalTracker.load(tracker.snapshot())
        parts.append(tracker.update(residuals[begin : begin + size]))
        begin += size
    assert begin == 1_000
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_one_residual_moves_a_bound_by_a_tenth_of_a_deviation() -> None:
    """A label of the wrong unit, or an infinite one, does not open the interval."""
    tracker = IntervalTracker(-1.6, 1.6)
    tracker.update(np.random.default_rng(2).normal(size=1_000))
    before = tracker.upper
    tracker.update([1e300, np.inf])
    assert before < tracker.upper < before + 0.11


def _settled() -> IntervalTracker:
    tracker = IntervalTracker(-1.6, 1.6)
    tracker.update(np.random.default_rng(2).normal(size=1_000))
    return tracker


def test_bounds_reach_for_all_of_the_last_ten_residuals_when_six_of_them_lie_beyond() -> None:
    tracker = _settled()
    begun = tracker.upper
    before = tracker.update([3.0, 0.0, 3.1, 0.0, 3.2, 0.0, 3.3, 0.0, 3.0])
    assert 0.3 < before[-1, 1] - begun < 0.6, "five: a tenth of a deviation each"
    leapt = tracker.update([2.9])[0]
    assert leapt[1] == 3.3 and leapt[0] == pytest.approx(before[-1, 0], abs=0.01), "the bound on the other side stays where it is"
    wider = _settled()
    assert wider.update([-3.0, 3.0] * 3 + [0.0] * 4)[5].tolist() == pytest.approx([-3.0, 3.0]), "errors that grow move both"


def test_a_few_labels_of_the_wrong_unit_do_not_open_the_interval_without_end() -> None:
    tracker = _settled()
    begun, deviation = tracker.upper, tracker.deviation
    tracker.update([1e6] * 8)
    assert 6 * deviation < tracker.upper - begun < 15 * deviation
    tracker.update(np.random.default_rng(3).normal(size=200))
    assert tracker.upper < 5 * deviation, "no bound stays beyond what the last 200 residuals were"


def test_without_offsets_to_begin_with_there_is_no_interval_until_fifty_residuals_have_come() -> None:
    tracker = IntervalTracker()
    bounds = tracker.update(np.random.default_rng(3).normal(size=60))
    assert np.isnan(bounds[:49]).all() and np.isfinite(bounds[49:]).all()
    assert -3 < tracker.lower < -1 and 1 < tracker.upper < 3


@pytest.mark.parametrize(
    "ends", [(5.0, math.nan), (math.nan, 5.0), (-math.inf, math.inf), (-1e308, 1e308), (-1e300, 1.0), (1e308, 1e308), (3e38, -3e38)]
)
def test_whatever_the_first_answer_says_the_residuals_bound_the_interval_once_there_are_fifty(ends: tuple[float, float]) -> None:
    residuals = np.random.default_rng(3).normal(size=400)
    bounds = IntervalTracker(*ends).update(residuals)
    assert np.isfinite(bounds[50:]).all() and np.abs(bounds[50:]).max() < 6.0
    assert ((residuals[100:] >= bounds[99:-1, 0]) & (residuals[100:] <= bounds[99:-1, 1])).mean() > 0.85
    # Before, it is what was said, or none: never half of one.
    assert (np.isfinite(bounds[:49]).all(axis=1) | np.isnan(bounds[:49]).all(axis=1)).all()


def test_bounds_stay_in_order_and_within_what_was_seen() -> None:
    tracker = IntervalTracker(-5.0, 5.0)
    bounds = tracker.update(np.zeros(2_000))
    assert (bounds[:, 0] <= bounds[:, 1]).all()
    assert tracker.lower == tracker.upper == 0.0
    tracker.update(np.full(2_000, 3.0))
    assert tracker.lower <= tracker.upper == 3.0


def test_figures_equal_scikit_learn() -> None:
    generator = np.random.default_rng(4)
    labels = generator.normal(size=300)
    lower, upper = labels - generator.normal(0.5, 1, 300), labels + generator.normal(0.5, 1, 300)
    figures = interval_figures(labels, lower, upper)
    inside = sum(low <= label <= high for label, low, high in zip(labels, lower, upper, strict=True))
    assert figures["coverage"] == inside / 300
    assert figures["interval_width"] == pytest.approx(float(np.mean(upper - lower)), rel=1e-12)
    losses = [mean_pinball_loss(labels, bound, alpha=share) for bound, share in ((lower, 0.05), (upper, 0.95))]
    assert figures["pinball_loss"] == pytest.approx(sum(losses) / 2, rel=1e-12)


def test_rows_without_an_interval_are_left_out() -> None:
    assert interval_figures([1.0, 2.0], [np.nan, 0.0], [np.nan, 3.0])["coverage"] == 1.0
    assert interval_figures([1.0], [np.nan], [np.nan]) == {} == interval_figures([], [], [])
    assert interval_figures([0.0], [-1.7e308], [1.7e308]) == {"coverage": 1.0, "pinball_loss": pytest.approx(8.5e306)}
