"""Whether labels that came since the champion learned are flipped: a share of them at random, whatever the inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.retraining.domain.examples import Examples, Stretches
from tidemill.shared.kinds.kind import Kind

LEFT_OUT = "left_out_ms"
"""Detail of a model's signature: stretches of requests that nothing was learned from."""
Float64 = NDArray[np.float64]
_SHARES = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
_MOST = 0.3
_FINE = np.linspace(0.0, 0.48, 49)
# What is taken for another relation by chance is learned from, and serves: that has to be rarer than flips that are found by chance, which only wait.
_LEVEL, _OTHER_LEVEL = 0.01, 0.001
_LEAST_BEFORE, _LEAST_SINCE = 500, 100
_LEVELS_OF_A_TEXT, _BINS = 20, 5
_FEWEST_OF_A_LEVEL = 30
_GROWN, _MORE = 2.0, 0.05
_LEAST_USUAL_LOG_E = 3.0


@dataclass(frozen=True, slots=True)
class FlippedLabels:
    """A stretch of requests.

    Attributes
    ----------
    begin_ms, end_ms
        Of the requests, in whole blocks since the champion learned.
    rows
        Labelled and answered requests in it.
    share
        Of the labels, which flipping explains best.
    log_e
        Evidence for flips: the likelihood ratio, in nats, against the answers as they were before.
    """

    begin_ms: int
    end_ms: int
    rows: int
    share: float
    log_e: float


def flipped_labels(kind: Kind, rows: Examples, served: Float64, since_ms: int, span_ms: int, block_ms: int) -> FlippedLabels | None:
    """Return the stretch since an instant in which labels are flipped; None where there is none, or where another relation explains them too.

    A flipped label is that of another class, each equally likely: of an answer that gives the label the probability ``q`` it leaves
    ``(1 - s) q + s (1 - q) / (K - 1)``. What the answers lack anyhow is the same transformation, by the share that fits those before best. The
    stretch is the one with the largest likelihood ratio, found only where that is improbable at one of 100 without any flip (Ville's inequality,
    for every begin and every share that is tried).

    A world that has changed looks like this to answers of before as well, but not to the inputs: where the residuals of the stretch go with a
    column, with its gaps, with the answers or with the whole in another way than those before do, it is no flipping, and there is everything to
    learn from. Where rows have come that are unlike those before (gaps, values, categories that grew by more than double), the labels of the others
    have to look flipped as well: a column that has broken, or inputs that the answers had hardly learned from, would explain the rest. A change for
    which no column and no answer speaks cannot be told from flipped labels; where it would take more than 30 % of them, it is
    the world: what serves fails too badly to wait.

    Replay-safe: a pure function of rows. Not for numbers to predict.

    Parameters
    ----------
    rows : n labelled rows
    served : shape (n,) or (n, K)
        What was answered to each before its label was known; NaN where nothing was.
    since_ms, span_ms
        Requests from there on are looked at, beside those of so long before.
    block_ms
        The stretch is whole blocks of this length since then.
    """
    if kind.name == "regression":
        return None
    answered = kind.is_score(served) & kind.is_label(rows.labels)
    answers, classes = _by_class(served), np.where(answered, rows.labels, 0).astype(np.int64)
    # A class that a version did not know tells nothing of its labels.
    answered &= np.take_along_axis(answers, classes[:, None], 1)[:, 0] > 0
    before = answered & (rows.request_ms < since_ms) & (rows.request_ms >= since_ms - span_ms)
    after = answered & (rows.request_ms >= since_ms)
    if before.sum() < _LEAST_BEFORE or after.sum() < _LEAST_SINCE:
        return None
    known = np.flatnonzero((answers[answered] > 0).any(axis=0))
    answers, classes = answers[:, known], np.searchsorted(known, np.where(answered, classes, known[0]))
    usual, _ = _best_share(_given(answers, classes, before))
    answers = _flipped(answers, usual)
    found = _stretch(_given(answers, classes, after), (rows.request_ms[after] - since_ms) // block_ms)
    if found is None:
        return None
    begin_ms, end_ms = (since_ms + block * block_ms for block in found)
    inside = after & (rows.request_ms >= begin_ms) & (rows.request_ms < end_ms)
    share, log_e = _best_share(_given(answers, classes, inside))
    if inside.sum() < _LEAST_SINCE or share > _MOST or _another_relation(kind, rows, answers, classes, before, inside, share):
        return None
    if not _among_usual_rows(rows.where(before), rows.where(inside), _given(answers, classes, inside), share):
        return None
    end_ms = min(int(end_ms), int(rows.request_ms[inside].max()) + 1)
    return FlippedLabels(int(begin_ms), end_ms, int(inside.sum()), share, log_e)


def joined(stretches: Stretches, block_ms: int) -> Stretches:
    """Return stretches in order, those that lie at most a block apart as one.

    >>> joined(((50, 60), (0, 10), (12, 20)), 2)
    ((0, 20), (50, 60))
    """
    whole: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if whole and begin <= whole[-1][1] + block_ms:
            whole[-1] = whole[-1][0], max(end, whole[-1][1])
        else:
            whole.append((begin, end))
    return tuple(whole)


def written(stretches: Stretches) -> str:
    """Write stretches down, as a model's signature keeps them.

    >>> written(((0, 20), (50, 60))), read(written(((0, 20), (50, 60)))), read("")
    ('0-20,50-60', ((0, 20), (50, 60)), ())
    """
    return ",".join(f"{begin}-{end}" for begin, end in stretches)


def read(text: str) -> Stretches:
    """Read what `written` wrote."""
    pairs = (one.split("-") for one in text.split(",") if one)
    return tuple((int(begin), int(end)) for begin, end in pairs)


def _by_class(served: Float64) -> Float64:
    answers = served if served.ndim == 2 else np.column_stack([1 - served, served])
    return np.asarray(np.clip(answers, 0.0, 1.0), np.float64)


def _given(answers: Float64, classes: NDArray[np.int64], chosen: NDArray[np.bool_]) -> tuple[Float64, int]:
    """Return the probability that each chosen row's label was given, and the number of classes."""
    return answers[chosen, classes[chosen]], answers.shape[1]


def _flipped(answers: Float64, share: float, count: int | None = None) -> Float64:
    """Return probabilities after a share of the labels was flipped."""
    others = (count or answers.shape[1]) - 1
    return (1 - share) * answers + share * (1 - answers) / others


def _best_share(given: tuple[Float64, int]) -> tuple[float, float]:
    """Return the share that explains labels best, and its likelihood ratio against none, in nats."""
    probabilities, count = given
    gains = [float(np.log(_flipped(probabilities, share, count) / probabilities).sum()) for share in _FINE]
    best = int(np.argmax(gains))
    return float(_FINE[best]), gains[best]


def _stretch(given: tuple[Float64, int], blocks: NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the first block of the stretch with the largest likelihood ratio, and the one after its last; None where it may be chance."""
    probabilities, count = given
    number = int(blocks.max()) + 1
    best, place = float(np.log(len(_SHARES) * number / _LEVEL)), None
    for share in _SHARES:
        gains = np.log(_flipped(probabilities, share, count) / probabilities)
        sums = np.concatenate([[0.0], np.cumsum(np.bincount(blocks, weights=gains, minlength=number))])
        lowest = np.minimum.accumulate(sums[:-1])
        ends = sums[1:] - lowest
        end = int(np.argmax(ends))
        if ends[end] > best:
            best, place = float(ends[end]), (int(np.argmin(sums[: end + 1])), end + 1)
    return place


def _among_usual_rows(first: Examples, second: Examples, given: tuple[Float64, int], share: float) -> bool:
    """Whether the rows of a stretch that are like those before speak for flips as well, column by column."""
    probabilities, count = given
    gains = np.log(_flipped(probabilities, share, count) / probabilities)
    return all(float(gains[~unlike].sum()) >= _LEAST_USUAL_LOG_E for unlike in _unlike(first, second))


def _unlike(first: Examples, second: Examples) -> Iterator[NDArray[np.bool_]]:
    """Yield for each column which rows of a stretch have a value, or a gap, that is more than twice as frequent as it was."""
    for name in first.features.schema.names:
        one, other = first.features.column(name), second.features.column(name)
        code = _codes_of_numbers if pa.types.is_floating(one.type) else _codes_of_texts
        mine, theirs = code(one, other)
        number = int(max(mine.max(initial=0), theirs.max(initial=0))) + 1
        before, now = (np.bincount(codes, minlength=number) / max(1, len(codes)) for codes in (mine, theirs))
        yield (now > _GROWN * before + _MORE)[theirs]


def _codes_of_numbers(one: pa.Array, other: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which fifth of the first column's values each value lies in, from 1 on; 0 for a gap."""
    columns = [np.asarray(column.to_numpy(zero_copy_only=False), np.float64) for column in (one, other)]
    known = columns[0][np.isfinite(columns[0])]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.empty(0)
    mine, theirs = (np.where(np.isfinite(values), np.searchsorted(edges, values) + 1, 0) for values in columns)
    return mine, theirs


def _codes_of_texts(one: pa.Array, other: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of texts among the first column's frequent ones, from 2 on; 1 for others, 0 for a gap."""
    frequent = pa.array([level["values"] for level in _frequent(one)], one.type)
    places = [pc.if_else(pc.is_null(column), 0, pc.add(pc.fill_null(pc.index_in(column, frequent), -1), 2)) for column in (one, other)]
    mine, theirs = (np.asarray(place.to_numpy(zero_copy_only=False), np.int64) for place in places)
    return mine, theirs


def _another_relation(
    kind: Kind, rows: Examples, answers: Float64, classes: NDArray[np.int64], before: NDArray[np.bool_], inside: NDArray[np.bool_], share: float
) -> bool:
    """Whether the residuals of a stretch go with something in another way than those of before, a share of which flipping leaves."""
    count = answers.shape[1]
    left = 1 - share * count / (count - 1)
    first, second = rows.where(before), rows.where(inside)
    statistics = []
    for number in range(count) if kind.has_classes else (1,):
        own = answers[:, number]
        usual = (classes[before] == number) - own[before]
        now = (classes[inside] == number) - _flipped(own[inside], share, count)
        for mine, theirs in _directions(first, second, own[before], own[inside]):
            one, other = now * theirs, usual * mine
            spread = one.var() / len(one) + left**2 * other.var() / len(other)
            if spread > 0:
                statistics.append(abs(one.mean() - left * other.mean()) / np.sqrt(spread))
    return bool(statistics) and max(statistics) > NormalDist().inv_cdf(1 - _OTHER_LEVEL / (2 * len(statistics)))


def _directions(first: Examples, second: Examples, mine: Float64, theirs: Float64) -> Iterator[tuple[Float64, Float64]]:
    """Yield what residuals may go with, for two sets of rows: the whole, the answer's size, each column's rank, gaps and frequent values."""
    yield np.ones(len(first)), np.ones(len(second))
    edges = np.unique(np.quantile(mine, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins, others = np.searchsorted(edges, mine), np.searchsorted(edges, theirs)
    for number in range(len(edges) + 1):
        yield (bins == number).astype(np.float64), (others == number).astype(np.float64)
    for name in first.features.schema.names:
        one, other = first.features.column(name), second.features.column(name)
        if pa.types.is_floating(one.type):
            yield from _of_numbers(one.to_numpy(zero_copy_only=False).astype(np.float64), other.to_numpy(zero_copy_only=False).astype(np.float64))
        else:
            yield from _of_texts(one, other)


def _of_numbers(one: Float64, other: Float64) -> Iterator[tuple[Float64, Float64]]:
    known = np.sort(one[np.isfinite(one)])
    if len(known):
        yield _ranks(known, one), _ranks(known, other)
    gaps = ~np.isfinite(one), ~np.isfinite(other)
    if min(gap.sum() for gap in gaps) >= _FEWEST_OF_A_LEVEL:
        yield gaps[0].astype(np.float64), gaps[1].astype(np.float64)


def _ranks(known: Float64, values: Float64) -> Float64:
    """Return where values stand among known ones, from -1 to 1; 0 where there is none."""
    places = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / len(known) - 1
    return np.where(np.isfinite(values), places, 0.0)


def _of_texts(one: pa.Array, other: pa.Array) -> Iterator[tuple[Float64, Float64]]:
    masks = [[pc.equal(column, level["values"]).fill_null(False) for column in (one, other)] for level in _frequent(one)]
    masks += [[pc.is_null(one), pc.is_null(other)]]
    for mine, theirs in masks:
        if min(pc.sum(mine).as_py() or 0, pc.sum(theirs).as_py() or 0) >= _FEWEST_OF_A_LEVEL:
            yield _ones(mine), _ones(theirs)


def _frequent(column: pa.Array) -> list[dict[str, Any]]:
    """Return the most frequent texts of a column with their counts."""
    counts = pc.value_counts(column.drop_null()).to_pylist()
    return sorted(counts, key=lambda level: (-level["counts"], level["values"]))[:_LEVELS_OF_A_TEXT]


def _ones(mask: pa.Array) -> Float64:
    return np.asarray(mask.to_numpy(zero_copy_only=False), np.float64)
