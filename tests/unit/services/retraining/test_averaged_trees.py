"""Forests: what is grown by several threads leaves the process as it was."""

import warnings

import numpy as np

from tidemill.services.retraining.domain.families.family import Sample
from tidemill.services.retraining.domain.families.registry import family_of
from tidemill.shared.kinds.binary import Binary


def test_threads_that_grow_trees_leave_the_filters_of_warnings_as_they_were() -> None:
    """After a forest or two of scikit-learn's nothing was left of them, and each tree of the next one warned of scikit-learn's own code."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(300, 4)).astype(np.float32)
    sample = Sample(matrix, (matrix[:, 0] > 0).astype(np.float64), Binary())
    before = list(warnings.filters)
    for seed in range(3):
        family_of("random_forest").fit(sample, {"trees": 60, "leaves": 32, "rows_per_leaf": 3, "feature_share": 0.5}, seed)
        assert list(warnings.filters) == before
