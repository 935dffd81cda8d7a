"""What every W4 vector must be: an independent computation over the raw rows, without tiles in rings, running sums or per-event loops.

In the terms of the workload: the stream time of event i is the newest event time among the events up to i. A window of k tiles holds, for
event i, the account's events j up to i (i included) whose tile is newer than (tile of i's stream time) - k. Hence event j is in the window
from its own position until the account's first event whose stream time has moved past it: an interval of positions. Counts, sums (in whole
cents, so exact) and distinct merchants are differences over those intervals; maxima are range maxima.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.payment_stream import Payments

WINDOWS = {"5m": (10_000, 30), "1h": (120_000, 30), "24h": (3_600_000, 24)}
RELATIVE_TOLERANCE = 1e-9
INTEGERS = ("count_5m", "count_1h", "count_24h", "distinct_merchants_24h")
Columns = dict[str, NDArray[np.float64]]


def expected_vectors(payments: Payments) -> Columns:
    """Return the vector of every payment, in arrival order; `seconds_since_previous` is NaN for an account's first."""
    stream_time = np.maximum.accumulate(payments.event_time_ms)
    out: Columns = {"seconds_since_previous": np.full(len(payments), np.nan)}
    for name in WINDOWS:
        for kind in ("count", "sum", "mean", "max"):
            out[f"{kind}_{name}"] = np.zeros(len(payments))
    out["distinct_merchants_24h"] = np.zeros(len(payments))
    for rows in pd.Series(np.arange(len(payments))).groupby(payments.account).indices.values():
        _account(payments, stream_time, np.asarray(rows, np.int64), out)
    for name in WINDOWS:
        count = out[f"count_{name}"]
        out[f"mean_{name}"] = np.divide(out[f"sum_{name}"], count, out=np.zeros(len(payments)), where=count > 0)
    return out


def _account(payments: Payments, stream_time: NDArray[np.int64], rows: NDArray[np.int64], out: Columns) -> None:
    time, now, cents = payments.event_time_ms[rows], stream_time[rows], payments.cents[rows]
    previous = np.maximum.accumulate(time)[:-1]
    out["seconds_since_previous"][rows[1:]] = (now[1:] - previous) / 1000
    for name, (tile_ms, tiles) in WINDOWS.items():
        leaves = _leaves(time // tile_ms, now // tile_ms, tiles)
        out[f"count_{name}"][rows] = _in_interval(leaves, np.ones(len(rows), np.int64))
        out[f"sum_{name}"][rows] = _in_interval(leaves, cents) / 100
        out[f"max_{name}"][rows] = _maximum(leaves, cents) / 100
        if name == "24h":
            out["distinct_merchants_24h"][rows] = _distinct(leaves, payments.merchant[rows])


def _leaves(tile: NDArray[np.int64], now_tile: NDArray[np.int64], tiles: int) -> NDArray[np.int64]:
    """Return for each position j the first position at which j is outside the window; j itself when it never is inside."""
    return np.maximum(np.searchsorted(now_tile - tiles, tile, side="left"), np.arange(len(tile)))


def _in_interval(leaves: NDArray[np.int64], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    change = np.zeros(len(leaves) + 1, np.int64)
    change[:-1] += weights
    np.subtract.at(change, leaves, weights)
    return np.cumsum(change)[:-1]


def _maximum(leaves: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Range maxima where leaving follows the order of arrival; the few positions that leave out of turn are laid over one by one."""
    n = len(leaves)
    in_turn = leaves == np.maximum.accumulate(leaves)
    regular = np.where(in_turn, values, 0)
    begin = np.searchsorted(np.maximum.accumulate(leaves), np.arange(n), side="right")
    table = [regular]
    while 1 << len(table) <= n:
        half = 1 << (len(table) - 1)
        table.append(np.maximum(table[-1][:-half], table[-1][half:]))
    positions = np.arange(n)
    length = positions - begin + 1
    level = np.where(length > 0, np.frexp(np.maximum(length, 1))[1] - 1, 0)
    maxima = np.zeros(n, np.int64)
    for i, row in enumerate(table):
        at = np.flatnonzero((level == i) & (length > 0))
        maxima[at] = np.maximum(row[begin[at]], row[positions[at] + 1 - (1 << i)])
    for j in np.flatnonzero(~in_turn):
        maxima[j : leaves[j]] = np.maximum(maxima[j : leaves[j]], values[j])
    return maxima


def _distinct(leaves: NDArray[np.int64], merchant: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count merchants by the union of their payments' intervals."""
    n = len(leaves)
    change = np.zeros(n + 1, np.int64)
    order = np.argsort(merchant, kind="stable")
    whose, begin, end = merchant[order], order, leaves[order]
    covered = pd.Series(end).groupby(whose).cummax().to_numpy()
    before = np.zeros(n, np.int64)
    before[1:] = np.where(whose[1:] == whose[:-1], covered[:-1], 0)
    np.add.at(change, np.maximum(begin, before), 1)
    np.subtract.at(change, np.maximum(np.maximum(begin, before), end), 1)
    return np.cumsum(change)[:-1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a system's vectors compare with the oracle's."""

    vectors: int
    missing: int
    doubled: int
    differing_integers: int
    largest_relative_difference: float
    first_difference: str

    @property
    def agrees(self) -> bool:
        """No integer differs, nothing else by more than 1e-9, nothing missing, nothing twice."""
        return not (self.missing or self.doubled or self.differing_integers) and self.largest_relative_difference <= RELATIVE_TOLERANCE


def compare(expected: Mapping[str, NDArray[np.float64]], numbers: NDArray[np.int64], answers: Mapping[str, NDArray[np.float64]]) -> Verdict:
    """Hold a system's vectors against the oracle.

    Parameters
    ----------
    expected
        As `expected_vectors` gives it, cut to the events that were published.
    numbers : shape (m,)
        Which payment each found vector answers.
    found : arrays of shape (m,)
        NaN where missing; -1 also stands for a missing `seconds_since_previous`. Differences are relative to the expected value, to 1 where
        that is smaller: a sum of payments that have left may keep a rounding error of a billionth of a cent.
    """
    n = len(next(iter(expected.values())))
    times = np.bincount(numbers, minlength=n)
    integers, largest, first = 0, 0.0, ""
    for name, column in expected.items():
        want, got = column[numbers], np.asarray(answers[name], np.float64)
        if name == "seconds_since_previous":
            got = np.where(got < 0, np.nan, got)
        both_missing = np.isnan(want) & np.isnan(got)
        if name in INTEGERS:
            wrong = np.flatnonzero((want != got) & ~both_missing)
            integers += len(wrong)
        else:
            difference = np.where(both_missing, 0.0, np.abs(want - got) / np.maximum(np.abs(want), 1.0))
            difference = np.where(np.isnan(difference), np.inf, difference)
            largest = max(largest, float(difference.max(initial=0.0)))
            wrong = np.flatnonzero(difference > RELATIVE_TOLERANCE)
        if len(wrong) and not first:
            i = int(wrong[0])
            first = f"{name} of payment {int(numbers[i])}: expected {want[i]!r}, found {got[i]!r}"
    return Verdict(len(numbers), int((times == 0).sum()), int((times > 1).sum()), integers, largest, first)
