"""The paired t test of two models' losses over blocks of dependent rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from tidemill.shared.statistics.blocks import block_indices
from tidemill.shared.statistics.propensity import Weights, weighted_mean


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Mean paired difference, its block-robust standard error, t statistic, two p values (two-sided; that the mean is below zero) and blocks."""

    mean: float
    standard_error: float
    statistic: float
    p_value: float
    p_value_less: float
    blocks: int


def paired_block_test(differences: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> PairedTest:
    """Test that per-row loss differences (candidate minus champion) have mean zero, rows of one block taken as dependent.

    Cluster-robust variance of a ratio mean; with blocks of equal size exactly the t test on block means. With fewer than two blocks
    nothing can be said: the p values are NaN.
    """
    values = np.asarray(differences, dtype=np.float64)
    indices, count = block_indices(blocks)
    mean, total = weighted_mean(values, weights), float(values.size if weights is None else weights.sum())
    if count < 2:
        return PairedTest(mean, float("nan"), float("nan"), float("nan"), float("nan"), count)
    residuals = np.bincount(indices, weights=values - mean if weights is None else weights * (values - mean), minlength=count)
    error = float(np.sqrt(count / (count - 1) * (residuals**2).sum()) / total)
    if error == 0.0:
        none = 1.0 if mean == 0.0 else 0.0
        return PairedTest(mean, 0.0, float(np.copysign(np.inf, mean)) if mean else 0.0, none, 0.5 if mean == 0.0 else float(mean > 0), count)
    statistic = mean / error
    two_sided, less = 2.0 * stdtr(count - 1, -abs(statistic)), stdtr(count - 1, statistic)
    return PairedTest(mean, error, statistic, float(two_sided), float(less), count)
