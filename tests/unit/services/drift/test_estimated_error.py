"""Errors of numbers without labels: held to distributions of scipy, to the labels once they are there, and the same in any batches."""

import json
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tidemill.services.drift.domain.estimated_error import EstimatedError

Float64 = NDArray[np.float64]
MAE, RMSE = "estimated_mean_absolute_error", "estimated_root_mean_squared_error"
ERRORS = {"normal": stats.norm(), "laplace": stats.laplace(), "uniform": stats.uniform(-1, 2), "generalised": stats.gennorm(0.7)}


def moments(name: str, scale: Float64) -> tuple[Float64, Float64]:
    """Return E|e| and E[e^2] of errors of such a shape, as scipy integrates them."""
    one = ERRORS[name]
    return scale * one.expect(abs), scale**2 * one.expect(np.square)


def estimate(absolute: Float64, squared: Float64, cuts: tuple[int, ...] = ()) -> EstimatedError:
    estimated = EstimatedError()
    for begin, end in pairwise([0, *cuts, len(absolute)]):
        estimated.absorb(absolute[begin:end], squared[begin:end])
        estimated = EstimatedError.load(json.loads(json.dumps(estimated.snapshot())))
    return estimated


@pytest.mark.parametrize("name", ERRORS)
def test_the_interval_holds_the_errors_that_come_if_the_expectations_are_right(name: str) -> None:
    """600 times errors are drawn for the same 1,200 rows, some of which are ten times as sure as others."""
    generator = np.random.default_rng(3)
    scale = np.exp(generator.uniform(0, np.log(10), 1_200))
    figures = estimate(*moments(name, scale)).figures()
    drawn = scale * ERRORS[name].rvs(size=(600, 1_200), random_state=generator)
    metrics: dict[str, Callable[[Float64], Float64]] = {MAE: lambda e: np.abs(e).mean(axis=1), RMSE: lambda e: np.sqrt((e**2).mean(axis=1))}
    for metric, of in metrics.items():
        came = of(drawn)
        assert 0.925 <= np.mean((figures[f"{metric}_low"] <= came) & (came <= figures[f"{metric}_high"])) <= 0.975, metric
        assert figures[metric] == pytest.approx(came.mean(), rel=0.01), metric


def test_the_variance_is_that_of_the_errors_that_were_expected() -> None:
    """What a plain loop over the rows finds with scipy's own moments."""
    scale = np.random.default_rng(1).uniform(1, 3, 200)
    for name, one in ERRORS.items():
        figures, shape = estimate(*moments(name, scale)).figures(), (one.expect(abs), one.expect(np.square), one.expect(lambda e: e**4))
        variances = [sum(s**2 * (shape[1] - shape[0] ** 2) for s in scale), sum(s**4 * (shape[2] - shape[1] ** 2) for s in scale)]
        assert figures[f"{MAE}_high"] - figures[MAE] == pytest.approx(1.959964 * np.sqrt(variances[0]) / 200, rel=1e-4), name
        assert figures[f"{RMSE}_high"] ** 2 - figures[RMSE] ** 2 == pytest.approx(1.959964 * np.sqrt(variances[1]) / 200, rel=2e-3), name


def test_harder_requests_are_seen_and_a_wrong_error_model_is_not() -> None:
    generator = np.random.default_rng(5)
    easy, hard = moments("normal", np.full(1_000, 1.0)), moments("normal", np.full(1_000, 2.0))
    assert estimate(*hard).figures()[f"{MAE}_low"] > estimate(*easy).figures()[f"{MAE}_high"]
    wrong = np.abs(generator.normal(0, 1.3, 1_000)).mean()
    assert wrong > estimate(*easy).figures()[f"{MAE}_high"], "the interval holds chance, not a change of the question"


def test_batches_and_restarts_change_nothing() -> None:
    generator = np.random.default_rng(4)
    expected = moments("laplace", generator.uniform(0, 2, 900))
    parts = estimate(*expected, tuple(sorted(generator.integers(0, 900, 30).tolist())))
    assert parts.snapshot() == estimate(*expected).snapshot() and parts.answers == 900


def test_what_says_nothing_is_left_out() -> None:
    nothing, ones = np.full(50, np.nan), np.ones(50)
    assert estimate(nothing, nothing).snapshot() == EstimatedError().snapshot()
    assert estimate(ones[:29], ones[:29]).figures() == {} and estimate(ones[:29], ones[:29]).loss is None
    some = estimate(np.concatenate([nothing, ones, 1e200 * ones]), np.concatenate([nothing, ones, 1e300 * ones]))
    assert some.answers == 50 and some.loss == 1.0
    sure = estimate(0 * ones, 0 * ones).figures()
    assert sure[MAE] == sure[f"{MAE}_high"] == sure[RMSE] == 0.0
