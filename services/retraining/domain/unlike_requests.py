"""Whether the newest requests are unlike those before them: their inputs may have broken an hour ago."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtri

Float64 = NDArray[np.float64]
LEAST, MOST = 50, 2_000
"""Newest requests that are needed, and the most that are looked at."""
_LEAST_RUNS = 30
_TIMES, _FLOOR, _FARTHEST = 2.0, 0.1, 3.0


@dataclass(frozen=True, slots=True)
class Unlike:
    """A column that has moved.

    Attributes
    ----------
    what
        The measure of a run of requests: the mean place among the values before (normal scores), the share of gaps, or that of texts never seen.
    found, usual, farthest
        That of the newest requests, the median of the runs before, and how far from it one of those was at most.
    """

    column: str
    what: str
    found: float
    usual: float
    farthest: float

    def __str__(self) -> str:
        return f"{self.what} of {self.column} {self.found:.2f}, usually {self.usual:.2f} and never farther than {self.farthest:.2f} from it"


def unlike_requests(before: pa.RecordBatch, newest: pa.RecordBatch) -> list[Unlike]:
    """Return the columns in which the newest requests lie more than twice as far from the usual as any run before.

    A run is as many requests in a row as there are newest ones. Without fifty of those, or thirty runs, nothing is said. A column that rises or
    falls for ever stays within its places; a season does as far as the runs have seen it.

    Parameters
    ----------
    before, newest
        Requests in the order of time, columns of the same names and types (32-bit numbers and texts).

    >>> before = pa.RecordBatch.from_pydict({"x": pa.array(np.random.default_rng(1).normal(size=5_000), pa.float32())})
    >>> newest = pa.RecordBatch.from_pydict({"x": pa.array(np.random.default_rng(2).normal(1.0, size=60), pa.float32())})
    >>> [str(one) for one in unlike_requests(before, newest)], unlike_requests(before, before.slice(4_000, 60))
    (['mean place of x 1.08, usually -0.01 and never farther than 0.32 from it'], [])
    """
    count = newest.num_rows
    if count < LEAST or before.num_rows // count < _LEAST_RUNS:
        return []
    found = []
    for name in before.schema.names:
        for what, then, now in _measures(before.column(name), newest.column(name)):
            runs = then[len(then) % count :].reshape(-1, count).mean(axis=1)
            usual, value = float(np.median(runs)), float(now.mean())
            farthest = float(np.abs(runs - usual).max())
            if abs(value - usual) > max(_FLOOR, _TIMES * farthest):
                found.append(Unlike(name, what, value, usual, farthest))
    return found


def _measures(before: pa.Array, now: pa.Array) -> Iterator[tuple[str, Float64, Float64]]:
    if pa.types.is_floating(before.type):
        values, others = (column.to_numpy(zero_copy_only=False).astype(np.float64) for column in (before, now))
        known = np.sort(values[np.isfinite(values)])
        if len(known):
            yield "mean place", _places(known, values), _places(known, others)
        yield "share of gaps", (~np.isfinite(values)).astype(np.float64), (~np.isfinite(others)).astype(np.float64)
    else:
        yield "share of gaps", _ones(pc.is_null(before)), _ones(pc.is_null(now))
        yield "share of texts never seen", np.zeros(len(before)), 1 - _ones(pc.is_in(now, before.unique()))


def _places(known: Float64, values: Float64) -> Float64:
    """Return where values stand among sorted known ones, in standard deviations of a normal distribution, three at most; 0 where there is none."""
    shares = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / (2 * len(known))
    return np.where(np.isfinite(values), np.clip(ndtri(shares), -_FARTHEST, _FARTHEST), 0.0)


def _ones(mask: pa.Array) -> Float64:
    return np.asarray(mask.to_numpy(zero_copy_only=False), np.float64)
