"""The threshold has the best kappa of any, by scikit-learn, however rare the class."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tests.long_forms import shortened
from tidemill.services.retraining.domain.threshold import best_threshold


@pytest.mark.parametrize("share", shortened([0.3, 0.002, 0.01, 0.9], 2))
def test_no_other_threshold_is_much_better(share: float) -> None:
    generator = np.random.default_rng(2)
    scores = np.clip(share * np.exp(generator.normal(-0.5, 1.0, 8_000)), 0, 1)
    labels = (generator.random(8_000) < scores).astype(np.float64)
    threshold = best_threshold(labels, scores)
    every = [cohen_kappa_score(labels, scores >= choice) for choice in np.quantile(scores, np.linspace(0, 0.9999, 400))]
    assert cohen_kappa_score(labels, scores >= threshold) >= max(every) - 0.01
    if share == 0.002:
        grid = [cohen_kappa_score(labels, scores >= choice) for choice in np.arange(0.05, 1.0, 0.05)]
        assert cohen_kappa_score(labels, scores >= threshold) > max(grid) == 0.0, "the grid that began at .05"
    assert np.abs(scores - threshold).min() > 0, "between two scores"


def test_equal_scores_are_on_one_side() -> None:
    assert 0.2 < best_threshold(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.7, 0.7])) < 0.7
