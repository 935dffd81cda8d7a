"""Evidence that may be looked at as often as one likes: a t e-process on the means of blocks of rows, and e-values of many hypotheses together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri

from tidemill.shared.statistics.propensity import Weights

_EFFECTS = np.array([0.15, 0.3, 0.6, 1.2])
_NODES = np.linspace(-9.0, 9.0, 121)
CORRELATED = 0.1
"""Neighbouring blocks are pooled where their correlation is larger."""
LEAST_BLOCKS = 7
"""Fewer show nothing."""
_TARGET_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Evidence:
    """How strongly block means speak against the null hypothesis that their expectation is not below a margin.

    Attributes
    ----------
    log_e
        Natural logarithm of the e-value; minus infinity with fewer than seven blocks, which show nothing.
    mean, spread
        Mean of the blocks' means, and their standard deviation.
    blocks, days_per_block
        Blocks it rests on, and how many of the caller's blocks (days) make one of them.
    correlation
        Lag-1 correlation of the caller's blocks.
    """

    log_e: float
    mean: float
    spread: float
    blocks: int
    days_per_block: int
    correlation: float

    @property
    def e(self) -> float:
        """The e-value; infinite where it is too large for a float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_e))

    def shows(self, level: float) -> bool:
        """Whether the null hypothesis is rejected at a level; NaN rejects nothing."""
        return bool(self.log_e >= -np.log(level))

    def detectable(self, margin: float, level: float) -> float:
        """Return the largest true mean that so many blocks of this spread reject in 80 % of cases; minus infinity if there is none."""
        if self.blocks < LEAST_BLOCKS or not np.isfinite(self.spread):
            return -float("inf")
        # The e-value grows with the t statistic: find the one that is just enough, then the shift at which four of five exceed it.
        statistics = np.linspace(0.0, 40.0, 801)
        counts = np.full(len(statistics), self.blocks)
        needed = log_e_values(counts, statistics / np.sqrt((self.blocks - 1 + statistics**2) / self.blocks))
        enough = np.flatnonzero(needed >= -np.log(level))
        if not len(enough):
            return -float("inf")
        t = float(statistics[enough[0]])
        shift = t + float(ndtri(_TARGET_POWER)) * np.sqrt(1 + t**2 / (2 * (self.blocks - 1)))
        return float(margin - shift * self.spread / np.sqrt(self.blocks))


def below(means: ArrayLike, margin: float = 0.0) -> Evidence:
    """Test that the expectation of block means (candidate's loss minus champion's, by day, in request order) lies below a margin.

    The null hypothesis is that it is `margin` or more, so a large e-value shows that the candidate is not worse by as much as that. If the null is
    true, the e-value ever exceeds 1/level with a probability of at most `level`, however often it is looked at.

    The e-value is the likelihood ratio of the t statistic between a few effect sizes and none, which depends on no scale. Neighbouring blocks whose
    correlation exceeds 0.1 are pooled in pairs. It is the wrong tool for rows: rows of one day share their error.

    Parameters
    ----------
    means : shape (n,), in order of time
    margin
        In the unit of the loss.

    References
    ----------
    Pérez-Ortiz, Lardy, de Heide, Grünwald: E-statistics, group invariance and anytime-valid testing. arXiv:2208.07610 (2022).
    Choe, Ramdas: Comparing sequential forecasters. Operations Research (2023).

    Examples
    --------
    >>> import numpy as np
    >>> equal = np.random.default_rng(1).normal(0.0, 0.004, 28)
    >>> below(equal, 0.005).shows(0.01), below(equal).shows(0.01)
    (True, False)
    """
    values = np.asarray(means, np.float64)
    if not np.isfinite(values).all():
        return Evidence(-float("inf"), float("nan"), float("nan"), len(values), 1, float("nan"))
    days = 2 if (correlation := lag_one(values)) > CORRELATED else 1
    pooled = values[: len(values) // days * days].reshape(-1, days).mean(axis=1)
    n = len(pooled)
    mean = float(values.mean()) if len(values) else float("nan")
    spread = float(pooled.std(ddof=1)) if n > 1 else float("nan")
    if n < LEAST_BLOCKS:
        return Evidence(-float("inf"), mean, spread, n, days, correlation)
    advantage = margin - pooled
    size = float(np.sqrt((advantage**2).sum()))
    # Without any difference there is no scale: nothing is shown, unless the margin itself is the advantage.
    ratio = advantage.sum() / size if size > 0 else 0.0
    return Evidence(float(log_e_values(np.array([n]), np.array([ratio]))[0]), mean, spread, n, days, correlation)


def lag_one(values: ArrayLike) -> float:
    """Return the correlation of neighbours, corrected for its bias in few values; 0 with fewer than three values, or where nothing varies.

    The plain estimate r of a correlation c is too small by about (1 + 4c) / n: of 14 independent days it is -0.07 on average.

    References
    ----------
    Kendall: Note on bias in the estimation of autocorrelation. Biometrika 41 (1954).
    """
    array = np.asarray(values, np.float64)
    n = len(array)
    centred = array - array.mean() if n else array
    total = float((centred**2).sum())
    if n < 3 or not total > 0:
        return 0.0
    plain = float((centred[1:] * centred[:-1]).sum()) / total
    return plain + (1 + 4 * max(0.0, plain)) / n


def block_means(values: ArrayLike, blocks: ArrayLike, weights: Weights = None) -> NDArray[np.float64]:
    """Return the mean of each block's values, in the order of the blocks' numbers.

    Parameters
    ----------
    values, blocks, weights : shape (n,)
    """
    _, places = np.unique(np.asarray(blocks), return_inverse=True)
    numbers = np.asarray(values, np.float64)
    sums = np.bincount(places, numbers if weights is None else weights * numbers)
    means: NDArray[np.float64] = sums / np.bincount(places, weights)
    return means


def discoveries(log_e: Sequence[float], level: float) -> NDArray[np.bool_]:
    """Return which null hypotheses are rejected when at most a share `level` of the rejections may be wrong, however the e-values depend (e-BH).

    Parameters
    ----------
    log_e
        Logarithms of e-values, one a hypothesis; NaN is no evidence.

    References
    ----------
    Wang, Ramdas: False discovery rate control with e-values. JRSS-B (2022).

    Examples
    --------
    >>> discoveries([0.0, 5.0, 4.0], 0.05).tolist()
    [False, True, True]
    """
    values = np.nan_to_num(np.asarray(log_e, np.float64), nan=-np.inf)
    order = np.argsort(-values, kind="stable")
    enough = np.flatnonzero(values[order] >= np.log(max(1, len(values)) / level) - np.log(np.arange(1, len(values) + 1)))
    rejected = np.zeros(len(values), np.bool_)
    if len(enough):
        rejected[order[: enough[-1] + 1]] = True
    return rejected


def log_e_values(counts: NDArray[np.int64], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the mean likelihood ratio over the effect sizes, for sums over roots of sums of squares of so many values.

    With the right Haar prior on the scale, the ratio for an effect d is exp(-n d^2/2) / (2^(n/2-1) G(n/2)) times the integral over v > 0 of
    v^(n-1) exp(-v^2/2 + d r v), here summed over nodes around the integrand's mode.
    """
    n = counts.astype(np.float64)[:, None]
    slope = ratios[:, None] * _EFFECTS
    mode = (slope + np.sqrt(slope**2 + 4 * (n - 1))) / 2
    width = 1 / np.sqrt(1 + (n - 1) / mode**2)
    v = mode[..., None] + width[..., None] * _NODES
    with np.errstate(divide="ignore", invalid="ignore"):
        integrand = np.where(v > 0, (n[..., None] - 1) * np.log(v) - v**2 / 2 + slope[..., None] * v, -np.inf)
    peak = integrand.max(axis=-1)
    area = peak + np.log(np.exp(integrand - peak[..., None]).sum(axis=-1) * (_NODES[1] - _NODES[0])) + np.log(width)
    ratio = area - n * _EFFECTS**2 / 2 - (n / 2 - 1) * np.log(2) - gammaln(n / 2)
    highest = ratio.max(axis=1)
    logarithms: NDArray[np.float64] = highest + np.log(np.exp(ratio - highest[:, None]).mean(axis=1))
    return logarithms
