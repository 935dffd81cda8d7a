"""Quantiles of what cannot be kept: a t-digest (Dunning and Ertl, 2019; merging variant, scale function k1) of fixed size.

The error is smallest at the tails; with 128 centroids about 0.5 % of the rank in the middle. Small sets are exact.
"""

import math

import numpy as np

from tidemill.services.features.domain.kernels.compiled import allocating, inner
from tidemill.services.features.domain.kernels.words import DIGEST_HEAD

_USED, _WEIGHT, _LOW, _HIGH = range(DIGEST_HEAD)
# Differences of values up to this are floats.
_LARGE = 2.0**1022


@inner
def _drawn(mean, m, share):  # pragma: no cover
    """Return the mean drawn towards m by a share of their difference, which may itself be no float."""
    if abs(mean) > _LARGE or abs(m) > _LARGE:
        return mean * (1.0 - share) + m * share
    return mean + (m - mean) * share


@inner
def _compress(digest, at, centroids):  # pragma: no cover
    """Merge neighbours until about half the centroids are left."""
    used, total = int(digest[at + _USED]), digest[at + _WEIGHT]
    first = at + DIGEST_HEAD
    delta = 0.5 * centroids
    out, before = 0, 0.0
    mean, weight = digest[first], digest[first + 1]
    limit = total * (math.sin(min(math.pi / 2, math.asin(-1.0) + 2.0 * math.pi / delta)) + 1.0) / 2.0
    for i in range(1, used):
        m, w = digest[first + 2 * i], digest[first + 2 * i + 1]
        if before + weight + w <= limit:
            weight += w
            mean = mean + (m - mean) * w / weight if abs(mean) <= _LARGE and abs(m) <= _LARGE else _drawn(mean, m, w / weight)
            continue
        digest[first + 2 * out], digest[first + 2 * out + 1] = mean, weight
        out += 1
        before += weight
        k = math.asin(min(1.0, max(-1.0, 2.0 * before / total - 1.0))) + 2.0 * math.pi / delta
        limit = total * (math.sin(min(math.pi / 2, k)) + 1.0) / 2.0
        mean, weight = m, w
    digest[first + 2 * out], digest[first + 2 * out + 1] = mean, weight
    digest[at + _USED] = out + 1


@inner
def digest_add(digest, at, centroids, x, weight):  # pragma: no cover
    """Add a value (or a centroid of some weight) to the digest whose words begin at `at`."""
    used = int(digest[at + _USED])
    if used == 0:
        digest[at + _LOW], digest[at + _HIGH] = x, x
    if used == centroids:
        _compress(digest, at, centroids)
        used = int(digest[at + _USED])
    first = at + DIGEST_HEAD
    i = used
    while i > 0 and digest[first + 2 * (i - 1)] > x:
        digest[first + 2 * i], digest[first + 2 * i + 1] = digest[first + 2 * (i - 1)], digest[first + 2 * (i - 1) + 1]
        i -= 1
    digest[first + 2 * i], digest[first + 2 * i + 1] = x, weight
    digest[at + _USED] = used + 1
    digest[at + _WEIGHT] += weight
    digest[at + _LOW] = min(digest[at + _LOW], x)
    digest[at + _HIGH] = max(digest[at + _HIGH], x)


@inner
def digest_merge(digest, at, other, centroids):  # pragma: no cover
    """Add another digest of the same size."""
    low, high = digest[other + _LOW], digest[other + _HIGH]
    used = int(digest[other + _USED])
    for i in range(used):
        digest_add(digest, at, centroids, digest[other + DIGEST_HEAD + 2 * i], digest[other + DIGEST_HEAD + 2 * i + 1])
    if used > 0:
        digest[at + _LOW] = min(digest[at + _LOW], low)
        digest[at + _HIGH] = max(digest[at + _HIGH], high)


@inner
def _between(a, b, share):  # pragma: no cover
    """Interpolate from the nearer end, so that a small value beside a large one keeps its digits."""
    return _drawn(a, b, share) if share < 0.5 else _drawn(b, a, 1.0 - share)


@allocating
def digest_quantile(means, weights, low, high, q):  # pragma: no cover
    """Quantile of the centroids of one or several digests, unsorted; NaN of none.

    A centroid of weight 1 is a value; between centroids ranks are interpolated, as NumPy does between values.
    """
    if means.size == 0:
        return np.nan
    order = np.argsort(means)
    total = weights.sum()
    target = q * (total - 1.0)
    before, last_rank, last_mean = 0.0, 0.0, low
    for k in range(order.size):
        i = order[k]
        rank = before + (weights[i] - 1.0) / 2.0
        if target <= rank:
            if rank == last_rank:
                return means[i]
            return _between(last_mean, means[i], (target - last_rank) / (rank - last_rank))
        last_rank, last_mean = rank, means[i]
        before += weights[i]
    if total - 1.0 == last_rank:
        return last_mean
    return _between(last_mean, high, (target - last_rank) / (total - 1.0 - last_rank))
