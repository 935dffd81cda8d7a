"""What is done to a graph's scores: held to scipy, the same bits in any batch, and refused when it makes no sense."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, logit, softmax

from tidemill.shared.models.calibration import Calibration

SCORES = np.random.default_rng(0).random(500)


def test_a_probability_is_moved_on_the_scale_of_its_odds() -> None:
    calibrated = Calibration(link="logit", slope=0.7, offsets=(-1.5,)).apply(SCORES)
    assert np.allclose(calibrated, expit(0.7 * logit(SCORES) - 1.5), rtol=1e-13)
    ends = Calibration(link="logit", slope=0.7, offsets=(-1.5,)).apply(np.array([0.0, 1.0, -1e-8, 1 + 1e-8, np.nan]))
    assert ends[:4].tolist() == [0, 1, 0, 1] and np.isnan(ends[4])


def test_a_line_through_knots_is_followed_after_that() -> None:
    knots, levels = (0.0, 0.2, 0.5, 1.0), (0.01, 0.1, 0.7, 0.99)
    assert np.allclose(Calibration(link="logit", knots=knots, levels=levels).apply(SCORES), np.interp(SCORES, knots, levels), rtol=1e-13)
    both = Calibration(link="logit", slope=2.0, offsets=(0.3,), knots=knots, levels=levels).apply(SCORES)
    assert np.allclose(both, np.interp(expit(2 * logit(SCORES) + 0.3), knots, levels), rtol=1e-13)


def test_classes_share_a_temperature_and_have_offsets() -> None:
    table = softmax(np.random.default_rng(1).normal(size=(200, 3)), axis=1)
    calibrated = Calibration(link="softmax", slope=0.5, offsets=(0.0, 1.0, -2.0)).apply(table)
    assert np.allclose(calibrated, softmax(0.5 * np.log(table) + [0.0, 1.0, -2.0], axis=1), rtol=1e-12)
    table[7, 1], table[8] = np.nan, [0.0, 0.0, 1.0]
    calibrated = Calibration(link="softmax", slope=0.5, offsets=(0.0, 1.0, -2.0)).apply(table)
    assert np.isnan(calibrated[7]).all() and np.isfinite(calibrated[8]).all() and calibrated[8].sum() == pytest.approx(1)


@pytest.mark.parametrize("calibration", [
    Calibration(link="logit", slope=0.7, offsets=(-1.5,), knots=(0.0, 0.3, 1.0), levels=(0.0, 0.5, 1.0)),
    Calibration(link="identity", slope=3.3, offsets=(1e6,)),
    Calibration(link="softmax", slope=0.9, offsets=(0.1, 0.2, 0.3)),
])  # fmt: skip
def test_the_batch_changes_no_bit(calibration: Calibration) -> None:
    scores = softmax(np.random.default_rng(2).normal(size=(100, 3)), axis=1) if calibration.link == "softmax" else SCORES[:100]
    alone = np.concatenate([calibration.apply(scores[i : i + 1]) for i in range(len(scores))])
    assert calibration.apply(scores).tobytes() == alone.tobytes()
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


@pytest.mark.parametrize("given", [
    {"link": "logit", "slope": 0.0}, {"link": "logit", "slope": float("nan")},
    {"link": "logit", "offsets": (1.0, 2.0)}, {"link": "logit", "offsets": ()},
    {"link": "logit", "knots": (0.1,), "levels": (0.1,)}, {"link": "logit", "knots": (0.1, 0.1), "levels": (0.1, 0.2)},
    {"link": "logit", "knots": (0.1, 0.2), "levels": (0.2, 0.1)}, {"link": "identity", "knots": (0.1, 0.2), "levels": (0.1, 0.2)},
])  # fmt: skip
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected"):
        Calibration.model_validate(given)
