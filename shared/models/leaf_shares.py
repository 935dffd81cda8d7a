"""Shapley values of a sum of trees against stored rows (interventional TreeSHAP), for whole batches.

The definition walks every leaf once for each stored row. What a leaf adds depends on two things only: which of its columns lead the explained row on
to it, and which lead the stored row on. Stored rows that agree are counted together, and for a leaf of few columns the sums over them are tabled for
every answer that an explained row can give.

References
----------
Lundberg et al.: From local explanations to global understanding with explainable AI for trees. Nature Machine Intelligence 2, 2020 (algorithm 3).
Yang: Fast TreeSHAP: accelerating SHAP value computation for trees. 2021 (values tabled per leaf).
"""

from dataclasses import dataclass
from math import factorial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.models.tree_paths import TreePaths

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
_TABLED_COLUMNS = 10
_TABLE_NUMBERS = 4_000_000
_ROWS_AT_ONCE = 32
_SHARES = np.array([[factorial(a) * factorial(b) / factorial(a + b + 1) for b in range(64)] for a in range(64)])
"""What one of a + 1 columns gets of a leaf that b others keep the row from; trees have at most 64 leaves."""
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_PLACES = np.zeros(64, np.int64)
for _place in range(64):
    _PLACES[((1 << _place) * int(_DE_BRUIJN) & 2**64 - 1) >> 58] = _place
"""Place of a power of two, by the upper six bits of its product with a de Bruijn sequence."""


@dataclass(frozen=True, slots=True)
class LeafShares:
    """A forest's leaves, with what stored rows answer to their tests.

    Attributes
    ----------
    base
        Mean over the stored rows, without the forest's own base.
    first : int64, shape (leaves + 1,)
        Where a leaf's columns begin.
    columns, lows, highs, missing_passes : shape (first[-1],)
        A value leads on where ``low < value <= high``, a missing one where it passes.
    first_pattern, patterns, weights
        Per leaf the different answers of the stored rows, one bit for each column, and the leaf's value times the share of the rows that give them.
    passers : shape (first[-1], words)
        Per column of a leaf, a bit for each of the leaf's patterns: whether the column leads it on.
    first_number, numbers
        Per leaf, where it has at most 10 columns (fewer, where the tables of all leaves would hold more than 32 MB), what each of them is given for
        every answer; an empty range where not.
    """

    base: float
    first: NDArray[np.int64]
    columns: NDArray[np.int64]
    lows: Matrix
    highs: Matrix
    missing_passes: NDArray[np.bool_]
    first_pattern: NDArray[np.int64]
    patterns: NDArray[np.int64]
    weights: Float64
    passers: NDArray[np.uint64]
    first_number: NDArray[np.int64]
    numbers: Float64

    @classmethod
    def of(cls, paths: TreePaths, background: Matrix) -> "LeafShares":
        """Prepare a forest.

        Parameters
        ----------
        background : shape (m, columns), NaN where missing
        """
        first, tests = [0], []
        for leaf in range(len(paths.values)):
            own: dict[int, tuple[np.float32, np.float32, bool]] = {}
            for test in range(int(paths.first[leaf]), int(paths.first[leaf + 1])):
                column, threshold, passes = int(paths.columns[test]), paths.thresholds[test], bool(paths.passes[test])
                low, high, lets_pass = own.get(column, (np.float32(-np.inf), np.float32(np.inf), True))
                low, high = (low, min(high, threshold)) if passes else (max(low, threshold), high)
                own[column] = (low, high, lets_pass and bool(paths.missing_passes[test]) == passes)
            tests += [(column, *bounds) for column, bounds in own.items()]
            first.append(len(tests))
        starts = np.array(first, np.int64)
        columns = np.array([test[0] for test in tests], np.int64)
        lows, highs = (np.array([test[i] for test in tests], np.float32) for i in (1, 2))
        missing = np.array([test[3] for test in tests], np.bool_)
        rows = np.ascontiguousarray(background, np.float32)
        first_pattern, patterns, weights = _patterns(starts, columns, lows, highs, missing, paths.values, rows)
        widths = np.diff(starts)
        sizes = _table_sizes(widths)
        first_number = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        numbers = np.zeros(int(first_number[-1]), np.float64)
        passers = _passers(starts, first_pattern, patterns, -(-int(np.diff(first_pattern).max(initial=1)) // 64))
        _tabulate(starts, first_pattern, patterns, weights, passers, first_number, numbers, _SHARES)
        whole = np.repeat((np.int64(1) << widths) - 1, np.diff(first_pattern))
        return cls(
            float(weights[patterns == whole].sum()), starts, columns, lows, highs, missing, first_pattern, patterns, weights, passers, first_number,
            numbers,
        )  # fmt: skip

    def contributions(self, matrix: Matrix) -> Float64:
        """Return what each column adds to the base, shape of the matrix; a row's do not depend on the batch it comes in.

        Parameters
        ----------
        matrix : shape (n, columns), NaN where missing
        """
        contributions = np.zeros(matrix.shape, np.float64)
        _add_leaves(
            self.first, self.columns, self.lows, self.highs, self.missing_passes, self.first_pattern, self.patterns, self.weights,
            self.passers, self.first_number, self.numbers, _SHARES, np.ascontiguousarray(matrix, np.float32), contributions,
        )  # fmt: skip
        return contributions


def _table_sizes(widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many numbers each leaf's table has: of those with the fewest columns, as far as the memory goes."""
    for most in range(_TABLED_COLUMNS, 0, -1):
        sizes = np.where(widths <= most, widths << np.minimum(widths, most), 0)
        if sizes.sum() <= _TABLE_NUMBERS:
            return sizes
    return np.zeros_like(widths)


@njit(cache=True, nogil=True)
def _answers(begin, end, columns, lows, highs, missing_passes, row):  # pragma: no cover
    """Return a bit for each of a leaf's columns: whether the row's value leads on to it."""
    answers = np.int64(0)
    for i in range(begin, end):
        value = row[columns[i]]
        # Both comparisons of a missing value are false. Without branches, which nothing could predict.
        leads_on = ((lows[i] < value) & (value <= highs[i])) | (missing_passes[i] & (value != value))
        answers |= np.int64(leads_on) << (i - begin)
    return answers


@njit(cache=True, nogil=True)
def _patterns(first, columns, lows, highs, missing_passes, values, background):  # pragma: no cover
    """Return, leaf after leaf, the different answers of the stored rows, in the order in which they first come, and their weights."""
    leaves, rows = values.size, background.shape[0]
    patterns, weights = np.empty(leaves * rows, np.int64), np.empty(leaves * rows, np.float64)
    starts = np.zeros(leaves + 1, np.int64)
    place = 0
    for leaf in range(leaves):
        begin = place
        for b in range(rows):
            answers = _answers(first[leaf], first[leaf + 1], columns, lows, highs, missing_passes, background[b])
            at = begin
            while at < place and patterns[at] != answers:
                at += 1
            if at == place:
                patterns[at], weights[at] = answers, 0.0
                place += 1
            weights[at] += 1.0
        for at in range(begin, place):
            weights[at] *= values[leaf] / rows
        starts[leaf + 1] = place
    return starts, patterns[:place].copy(), weights[:place].copy()


@njit(cache=True, nogil=True)
def _passers(first, first_pattern, patterns, words):  # pragma: no cover
    """Return for each of a leaf's columns which of the leaf's patterns it leads on, shape (columns of all leaves, words)."""
    passers = np.zeros((first[-1], words), np.uint64)
    for leaf in range(first.size - 1):
        for place in range(first_pattern[leaf + 1] - first_pattern[leaf]):
            pattern = patterns[first_pattern[leaf] + place]
            for i in range(first[leaf + 1] - first[leaf]):
                if pattern >> i & 1:
                    passers[first[leaf] + i, place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    return passers


@njit(cache=True, nogil=True)
def _ones(bits):  # pragma: no cover
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@njit(cache=True, nogil=True)
def _lowest(bits):  # pragma: no cover
    """Return the place of the lowest bit of a number that has one."""
    return _PLACES[((bits & (~bits + np.uint64(1))) * _DE_BRUIJN) >> np.uint64(58)]


@njit(cache=True, nogil=True)
def _tabulate(first, first_pattern, patterns, weights, passers, first_number, numbers, shares):  # pragma: no cover
    alive = np.empty(passers.shape[1], np.uint64)
    for leaf in range(first.size - 1):
        width = first[leaf + 1] - first[leaf]
        if first_number[leaf + 1] == first_number[leaf]:
            continue
        for answers in range(1 << width):
            at = first_number[leaf] + answers * width
            _share_out(
                width, answers, first_pattern[leaf], first_pattern[leaf + 1], patterns, weights, passers[first[leaf] : first[leaf + 1]], alive,
                shares, numbers[at : at + width],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _share_out(width, answers, begin, end, patterns, weights, passers, alive, shares, contributions):  # pragma: no cover
    """Add a leaf's shares to `contributions`, one place for each of its columns, and return whether there are any.

    A leaf is reached when every column is led on by one of the two rows.

    So a stored row counts where it is led on by all columns that keep the explained one from the leaf. These are the same for all that count, and
    share the same sum; each of the other columns has the sum over those that it keeps from the leaf.
    """
    fails = ((np.int64(1) << width) - 1) & ~answers
    for word in range(alive.size):
        most = end - begin - 64 * word
        alive[word] = ~np.uint64(0) if most >= 64 else (np.uint64(1) << np.uint64(max(most, 0))) - np.uint64(1)
    rest = fails
    while rest:
        i = _lowest(np.uint64(rest))
        rest &= rest - 1
        some = np.uint64(0)
        for word in range(alive.size):
            alive[word] &= passers[i, word]
            some |= alive[word]
        if some == 0:
            return False
    failing, taken = _ones(fails), 0.0
    for word in range(alive.size):
        left = alive[word]
        while left:
            at = begin + 64 * word + _lowest(left)
            left &= left - np.uint64(1)
            mine = answers & ~patterns[at]
            count = _ones(mine)
            if failing:
                taken += weights[at] * shares[failing - 1, count]
            if count:
                given = weights[at] * shares[count - 1, failing]
                while mine:
                    contributions[_lowest(np.uint64(mine))] += given
                    mine &= mine - 1
    while fails:
        contributions[_lowest(np.uint64(fails))] -= taken
        fails &= fails - 1
    return True


@njit(cache=True, nogil=True)
def _add_leaves(  # pragma: no cover
    first, columns, lows, highs, missing_passes, first_pattern, patterns, weights, passers, first_number, numbers, shares, matrix, contributions
):
    """Add every leaf's shares, leaf after leaf for some rows at a time: comparisons of a column's values are then vector instructions."""
    own, answers, alive = np.empty(64, np.float64), np.empty(_ROWS_AT_ONCE, np.int64), np.empty(passers.shape[1], np.uint64)
    values, sums = np.zeros((matrix.shape[1], _ROWS_AT_ONCE), np.float32), np.empty((matrix.shape[1], _ROWS_AT_ONCE), np.float64)
    for start in range(0, matrix.shape[0], _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, matrix.shape[0] - start)
        for row in range(rows):
            values[:, row] = matrix[start + row]
        sums[:] = 0.0
        for leaf in range(first.size - 1):
            begin, end = first[leaf], first[leaf + 1]
            answers[:] = 0
            for i in range(begin, end):
                low, high, missing, bit = lows[i], highs[i], missing_passes[i], np.int64(1) << (i - begin)
                of_column = values[columns[i]]
                for row in range(_ROWS_AT_ONCE):
                    value = of_column[row]
                    leads_on = ((low < value) & (value <= high)) | (missing & (value != value))
                    answers[row] |= bit if leads_on else 0
            if first_number[leaf + 1] > first_number[leaf]:
                for i in range(begin, end):
                    at, width, of_column_sums = first_number[leaf] + i - begin, end - begin, sums[columns[i]]
                    for row in range(rows):
                        of_column_sums[row] += numbers[at + answers[row] * width]
                continue
            for row in range(rows):
                own[: end - begin] = 0.0
                if _share_out(
                    end - begin, answers[row], first_pattern[leaf], first_pattern[leaf + 1], patterns, weights, passers[begin:end], alive, shares, own
                ):
                    for i in range(begin, end):
                        sums[columns[i], row] += own[i - begin]
        for row in range(rows):
            contributions[start + row] = sums[:, row]
