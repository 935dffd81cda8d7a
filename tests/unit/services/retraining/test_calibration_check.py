"""All gates ask the same question of a model's probabilities, in every kind that has them."""

import numpy as np
import pytest

from tidemill.services.retraining.domain.calibration_check import compare_calibration
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass

DAYS = np.arange(20_000) // 500


def test_binary_probabilities_that_say_too_much_are_refused_and_their_own_are_not() -> None:
    generator = np.random.default_rng(1)
    honest = generator.uniform(0.1, 0.9, len(DAYS))
    labels = (generator.random(len(DAYS)) < honest).astype(np.float64)
    loud = np.where(honest > 0.5, 0.98, 0.02)
    check = compare_calibration(Binary(), labels, loud, honest, DAYS)
    assert check.low > 0.02 and check.problem.startswith("calibration: expected")
    assert check.error.estimate == pytest.approx(np.mean(np.abs(loud - honest)), abs=0.03)
    assert not compare_calibration(Binary(), labels, honest, honest, DAYS).problem


def test_of_several_classes_the_answered_ones_probability_is_judged() -> None:
    generator = np.random.default_rng(2)
    kind = Multiclass(("a", "b", "c"))
    honest = generator.dirichlet([2.0, 1.0, 1.0], len(DAYS))
    labels = (generator.random(len(DAYS))[:, None] > honest.cumsum(axis=1)).sum(axis=1).astype(np.float64)
    loud = honest**4
    loud /= loud.sum(axis=1, keepdims=True)
    check = compare_calibration(kind, labels, loud, honest, DAYS)
    assert check.low > 0.02 and check.problem
    assert check.figures["calibration_difference"] == pytest.approx(check.difference)
    assert not compare_calibration(kind, labels, honest, honest, DAYS).problem
