"""Corrections of probabilities: each what scikit-learn or a plain search finds, and chosen only where one helps beyond noise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tidemill.services.retraining.domain.calibrating import choose_calibration, composed, isotonic, platt, temperature
from tidemill.services.retraining.domain.examples import DAY_MS
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.statistics.calibration import calibration_error
from tidemill.shared.statistics.metrics import roc_auc

Scores = NDArray[np.float64]
THREE = Multiclass(("a", "b", "c"))


def sample(seed: int = 0, n: int = 4_000, days: int = 7) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Labels, their true probabilities, a week of times."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-1, 1.5, n))
    return (rng.random(n) < truth).astype(np.float64), truth, np.sort(rng.integers(0, days * DAY_MS, n))


def test_platt_scaling_is_a_logistic_regression_on_the_log_odds() -> None:
    labels, truth, _ = sample()
    scores = expit(2.0 * logit(truth) + 1.0)
    calibration = platt(labels, scores)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000).fit(logit(scores).reshape(-1, 1), labels)
    assert calibration is not None and calibration.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert calibration.offsets[0] == pytest.approx(oracle.intercept_[0], rel=1e-3)
    assert platt(1 - labels, scores) is None, "never turns the order round"


def test_the_rising_line_is_isotonic_regression_that_keeps_the_order() -> None:
    labels, truth, _ = sample(n=20_000)
    scores = truth**3
    calibration = isotonic(labels, scores)
    assert calibration is not None
    served = calibration.apply(scores)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(scores)
    assert np.abs(served - oracle).mean() < 0.02 and np.abs(served - truth).mean() < 0.02
    assert roc_auc(labels, served) == pytest.approx(roc_auc(labels, scores), abs=1e-12), "no ties are made"
    ends = calibration.apply(np.array([0.0, 1.0]))
    assert 0 < ends[0] < ends[1] < 1
    grid = np.sort(np.concatenate([np.linspace(0, 1, 2_001), np.geomspace(1e-7, 1e-2, 500)]))
    assert (np.diff(calibration.apply(grid)) <= np.diff(grid) * calibration.steepness * (1 + 1e-9) + 1e-12).all()


def test_the_temperature_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(1)
    table = softmax(rng.normal(size=(5_000, 3)), axis=1)
    labels = np.array([rng.choice(3, p=row) for row in table]).astype(np.float64)
    sharp = softmax(2.5 * np.log(table), axis=1)
    calibration = temperature(labels, sharp)
    grid = np.exp(np.linspace(-2, 1, 601))
    losses = [THREE.losses(labels, softmax(power * np.log(sharp), axis=1)).mean() for power in grid]
    assert calibration is not None and calibration.slope == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)
    assert (calibration.apply(sharp).argmax(axis=1) == sharp.argmax(axis=1)).all()


@pytest.mark.parametrize(("bend", "method"), [("sharp", ("platt", "isotonic")), ("power", ("isotonic",)), ("none", ("none",))])
def test_what_helps_on_fresh_rows_is_chosen(bend: str, method: tuple[str, ...]) -> None:
    bends = {"none": lambda p: p, "sharp": lambda p: expit(2.5 * logit(p) + 0.5), "power": lambda p: np.where(p < 0.3, 0.05 + p / 10, 0.7 + p / 10)}
    labels, truth, times = sample(n=12_000, days=56)
    if bend == "power":
        assert choose_calibration(Binary(), labels, bends[bend](truth), times // 8).method != "isotonic", "a week is too little for a line"
    choice = choose_calibration(Binary(), labels, bends[bend](truth), times)
    assert choice.method in method
    if choice.calibration is None:
        assert choice.gain == 0
        return
    fresh, fresh_truth, _ = sample(1, 12_000)
    raw = bends[bend](fresh_truth)
    served = choice.calibration.apply(raw)
    assert choice.gain == pytest.approx(float((Binary().losses(fresh, raw) - Binary().losses(fresh, served)).mean()), rel=0.3)
    assert calibration_error(fresh, served) < 0.02 < calibration_error(fresh, raw)


def test_noise_is_no_reason() -> None:
    """Scores that are the true probabilities: one in a few dozen samples is corrected, not every other."""
    corrected = sum(choose_calibration(Binary(), *sample(seed, 1_500)).method != "none" for seed in range(60))
    assert corrected <= 5


def test_classes_get_a_temperature_and_numbers_nothing() -> None:
    rng = np.random.default_rng(2)
    table = softmax(rng.normal(size=(4_000, 3)), axis=1)
    labels = np.array([rng.choice(3, p=row) for row in table]).astype(np.float64)
    times = np.arange(4_000) * (7 * DAY_MS // 4_000)
    assert choose_calibration(THREE, labels, table, times).method == "none"
    choice = choose_calibration(THREE, labels, softmax(3 * np.log(table), axis=1), times)
    assert choice.method == "temperature" and choice.calibration is not None and choice.calibration.slope == pytest.approx(1 / 3, rel=0.1)
    assert choose_calibration(Regression(), labels, labels, times).method == "none"


def test_scores_of_weighted_classes_are_moved_to_the_rate_with_ten_rows_of_a_class() -> None:
    rng = np.random.default_rng(6)
    truth = expit(rng.normal(-6.5, 1.0, 6_000))
    labels, times = (rng.random(6_000) < truth).astype(np.float64), np.arange(6_000) * (7 * DAY_MS // 6_000)
    assert 10 <= labels.sum() < 30
    low = expit(logit(truth) - 1.6)
    assert choose_calibration(Binary(), labels, low, times).method == "none"
    choice = choose_calibration(Binary(), labels, low, times, is_weighted=True)
    assert choice.method == "offset" and choice.calibration is not None and choice.gain > 0
    assert choice.calibration.apply(low).mean() == pytest.approx(labels.mean(), rel=1e-6)
    fewer = np.where(np.cumsum(labels) > 9, 0.0, labels)
    assert choose_calibration(Binary(), fewer, low, times, is_weighted=True).method == "none"


def test_few_rows_of_a_class_choose_nothing() -> None:
    labels, truth, times = sample(n=4_000)
    few = np.where(np.cumsum(labels) > 20, 0.0, labels)
    assert choose_calibration(Binary(), few, truth, times).method == "none"
    assert choose_calibration(Binary(), labels[:150], truth[:150], times[:150]).method == "none"


def test_two_corrections_are_one() -> None:
    scores = np.random.default_rng(3).random(300)
    shift = Calibration(link="logit", offsets=(-4.0,))
    lines = (Calibration(link="logit", slope=0.7, offsets=(0.3,)), Calibration(link="logit", knots=(0.0, 0.1, 1.0), levels=(0.01, 0.2, 0.9)))
    for then in lines:
        both = composed(shift, then)
        assert both is not None and np.allclose(both.apply(scores), then.apply(shift.apply(scores)), rtol=1e-12)
    table = softmax(np.random.default_rng(4).normal(size=(50, 3)), axis=1)
    first, then = Calibration(link="softmax", offsets=(0.0, 1.0, 2.0)), Calibration(link="softmax", slope=0.5, offsets=(0.0, 0.0, 0.0))
    both = composed(first, then)
    assert both is not None and np.allclose(both.apply(table), then.apply(first.apply(table)), rtol=1e-12)
    assert composed(None, then) == then and composed(first, None) == first and composed(None, None) is None


def year(seed: int, days: int, slope: float = 1.0, offset: float = 0.0) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Labels, scores and days of so many days and, a week later, of a week more; days differ, and neighbouring ones are alike."""
    rng, per_day = np.random.default_rng(seed), 120
    effects = [float(rng.normal(0, 0.3))]
    while len(effects) < days + 14:
        effects.append(0.5 * effects[-1] + float(rng.normal(0, 0.3 * np.sqrt(0.75))))
    day = np.repeat(np.arange(days + 14), per_day)
    odds = rng.normal(-1, 1.2, len(day))
    labels = (rng.random(len(day)) < expit(odds + np.array(effects)[day])).astype(np.float64)
    return labels, expit((odds - offset) / slope), day


def gained(seed: int, days: int, slope: float = 1.0, offset: float = 0.0) -> float:
    """What the correction chosen on the days saves of the later week's log loss."""
    labels, scores, day = year(seed, days, slope, offset)
    held_out, later = day < days, day >= days + 7
    chosen = choose_calibration(Binary(), labels[held_out], scores[held_out], day[held_out] * DAY_MS).calibration
    if chosen is None:
        return 0.0
    losses = [Binary().losses(labels[later], answer).mean() for answer in (scores[later], chosen.apply(scores[later]))]
    return float(losses[0] - losses[1])


def test_the_level_of_the_held_out_days_does_no_harm_to_the_days_after() -> None:
    """200 years of a model whose probabilities are right. Followed in full, a week's level costs the later week up to 0.06 a row."""
    week = [-gained(seed, 7) for seed in range(140)]
    three = [-gained(seed, 21) for seed in range(60)]
    assert np.mean(week) < 0.0003 and max(week) < 0.03
    assert np.mean(three) < 0.0003 and max(three) < 0.015


@pytest.mark.parametrize(("days", "slope", "offset", "least"), [(21, 2.0, 0.0, 0.65), (21, 1.0, 0.7, 0.5), (7, 0.5, -0.5, 0.6)])
def test_what_is_really_wrong_is_corrected_all_the_same(days: int, slope: float, offset: float, least: float) -> None:
    """Against the best correction, which the world was made with."""
    possible = []
    for seed in range(12):
        labels, scores, day = year(seed, days, slope, offset)
        later, best = day >= days + 7, expit(slope * logit(scores) + offset)
        possible.append(float(Binary().losses(labels[later], scores[later]).mean() - Binary().losses(labels[later], best[later]).mean()))
    assert np.mean([gained(seed, days, slope, offset) for seed in range(12)]) > least * np.mean(possible) > 0.005
