"""Why a model's loss has risen: the rise is divided into data, model, feature, label and concept causes. Pure: no archive, no clock."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.offline.changed_relation import changed_relation, matrices, numbers, predicted_apart
from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
Score = Callable[[pa.RecordBatch], Float64]
LEAST = 200
"""Labelled answers that a window needs."""
_NULLS = 0.03
_SIGMAS = 4.0
_CHANCE = 1.95
"""Kolmogorov and Smirnov's distance of two samples of one distribution stays below this times its scale in 999 of 1,000 cases."""
_MOST_RATIO = 20.0
_LEAST_OVERLAP = 0.2


@dataclass(frozen=True, slots=True)
class AnsweredWindow:
    """Requests of a span that were answered by a model.

    Attributes
    ----------
    features : record batch, n rows
    labels, scores, day : shape (n,); of several classes scores are (n, K)
        Labelled rows only; as they were served.
    asked, labelled
        Requests in all, and those with a label.
    delay_ms
        Median delay of the labels.
    """

    features: pa.RecordBatch
    labels: Float64
    scores: Float64
    day: NDArray[np.int64]
    asked: int
    labelled: int
    delay_ms: float


@dataclass(frozen=True, slots=True)
class Cause:
    """One part of the rise.

    Attributes
    ----------
    kind
        ``data``, ``model``, ``feature``, ``label``, ``concept``; or ``undivided``: of inputs and relation together.
    loss
        How much of the rise it explains, in the loss's unit.
    """

    kind: str
    loss: float
    words: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ColumnShift:
    """How a column moved, and how much the model listens to it."""

    column: str
    distance: float
    importance: float
    nulls_before: float
    nulls_now: float

    @property
    def weight(self) -> float:
        """What the columns are ranked by: distance times importance."""
        return self.distance * self.importance


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A rise of the loss and its parts, the largest first; the parts add up to the rise.

    Attributes
    ----------
    low, high
        95 % interval of the rise, by days.
    shifts
        Columns by distance times importance.
    """

    reference_loss: float
    current_loss: float
    low: float
    high: float
    causes: Sequence[Cause]
    shifts: Sequence[ColumnShift]
    figures: Mapping[str, float]

    @property
    def rise(self) -> float:
        """How much the mean loss rose."""
        return self.current_loss - self.reference_loss

    @property
    def is_worse(self) -> bool:
        """Whether it rose beyond what days differ by."""
        return self.low > 0


def diagnose(kind: Kind, reference: AnsweredWindow, current: AnsweredWindow, score: Score, before: Score | None = None) -> Diagnosis:
    """Divide the rise of the mean loss between two windows.

    In this order, each on what the ones before leave: rows with inputs that are newly missing (data); another model than before (model); other
    inputs, by weighing the reference's rows to the present mix (feature); and what remains, which is a changed relation of inputs and labels.
    The remainder is put down to labels where turning a share of them round, or moving the base rate, explains as much as a relation learned anew
    does, else to concept.

    Parameters
    ----------
    score
        The present model.
    before
        The model of the reference window, where it is another one.

    Raises
    ------
    ValueError
        Fewer than 200 labelled rows in a window.

    References
    ----------
    Sugiyama et al.: Covariate shift adaptation by importance weighted cross validation. JMLR 8 (2007).
    """
    _check_sizes(reference, current)
    old, new = kind.losses(reference.labels, reference.scores), kind.losses(current.labels, current.scores)
    low, high = _interval(old, reference.day, new, current.day)
    shifts = _shifts(reference.features, current.features, score)
    clean, causes = _missing_inputs(current.features, shifts, new)
    rows, labels, served = current.features.filter(pa.array(clean)), current.labels[clean], current.scores[clean]
    own = new[clean]
    if before is not None:
        served = before(rows)
        others = kind.losses(labels, served)
        words = "the model that serves does worse on these requests than the one before it would have"
        causes.append(Cause("model", float(own.mean() - others.mean()), words, {"loss of the model before": float(others.mean())}))
        own = others
    causes += _inputs_or_relation(kind, reference.features, old, rows, labels, served, own, shifts)
    figures = {
        "labelled before": reference.labelled / max(1, reference.asked), "labelled now": current.labelled / max(1, current.asked),
        "label delay before h": reference.delay_ms / 3.6e6, "label delay now h": current.delay_ms / 3.6e6,
        **_levels(kind, "before", reference), **_levels(kind, "now", current),
    }  # fmt: skip
    return Diagnosis(float(old.mean()), float(new.mean()), low, high, sorted(causes, key=lambda one: -one.loss), shifts, figures)


def _check_sizes(reference: AnsweredWindow, current: AnsweredWindow) -> None:
    for name, window in (("reference", reference), ("current", current)):
        if len(window.labels) < LEAST:
            more = "take a longer one (--since)" if name == "current" else "it ends where --since begins: give a later one"
            raise ValueError(f"expected {LEAST} labelled answers in the {name} window, found {len(window.labels)}: {more}")


def _missing_inputs(features: pa.RecordBatch, shifts: Sequence[ColumnShift], losses: Float64) -> tuple[NDArray[np.bool_], list[Cause]]:
    """Return the rows without inputs that are newly missing, shape (n,), and what those with them cost; all rows where too few are without."""
    clean, broken = _clean(features, shifts)
    if not broken:
        return clean, []
    if clean.sum() < LEAST // 2:
        return np.ones(len(losses), np.bool_), []
    nulls = {f"missing {one.column}": one.nulls_now for one in broken} | {f"missing {one.column} before": one.nulls_before for one in broken}
    words = f"newly missing inputs: {', '.join(one.column for one in broken)}"
    return clean, [Cause("data", float(losses.mean() - losses[clean].mean()), words, nulls)]


def _inputs_or_relation(
    kind: Kind,
    reference: pa.RecordBatch,
    old: Float64,
    rows: pa.RecordBatch,
    labels: Float64,
    served: Float64,
    own: Float64,
    shifts: Sequence[ColumnShift],
) -> list[Cause]:
    """Divide what is left of the rise between other inputs and a changed relation.

    Parameters
    ----------
    reference, old
        Inputs of the reference window, n rows, and their losses, shape (n,).
    rows, labels, served, own
        Those rows of the current window that are compared, m of them; their labels, scores and losses.
    """
    weights, separable = _ratio(reference, rows)
    mixed = float((weights * old).sum() / weights.sum())
    size = float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
    evidence = {"reference loss at the present mix": mixed, "windows told apart (AUC)": separable, "effective share of rows": size}
    if size < _LEAST_OVERLAP:
        words = "inputs or relation: the windows hardly overlap, so the two cannot be told apart; look into a shorter time (--since)"
        return [Cause("undivided", float(own.mean() - old.mean()), words, evidence)]
    first = _first_moved(shifts, len(old), len(own))
    words = f"other inputs than before, {first} above all: harder requests, the relation unchanged"
    rest = float(own.mean()) - mixed
    relation = changed_relation(kind, rows, labels, served, rest)
    return [Cause("feature", mixed - float(old.mean()), words, evidence), Cause(relation.kind, rest, relation.words, relation.evidence)]


def _levels(kind: Kind, when: str, window: AnsweredWindow) -> dict[str, float]:
    """Return mean label and mean score, of several classes the rate and the mean probability of each."""
    if not kind.has_classes:
        return {f"mean label {when}": float(window.labels.mean()), f"mean score {when}": float(window.scores.mean())}
    rates = np.bincount(window.labels.astype(np.int64), minlength=kind.width) / len(window.labels)
    levels = zip(kind.classes, rates.tolist(), window.scores.mean(axis=0).tolist(), strict=True)
    return {
        word: value for name, rate, mean in levels for word, value in ((f"rate of {name} {when}", rate), (f"mean probability of {name} {when}", mean))
    }


def _interval(old: Float64, old_day: NDArray[np.int64], new: Float64, new_day: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of the difference of means, days drawn with replacement."""
    generator = np.random.default_rng(7)

    def drawn(losses: Float64, day: NDArray[np.int64]) -> Float64:
        _, place = np.unique(day, return_inverse=True)
        sums, counts = np.bincount(place, losses), np.bincount(place)
        picks = generator.integers(0, len(sums), (1_000, len(sums)))
        return np.asarray(sums[picks].sum(axis=1) / counts[picks].sum(axis=1))

    low, high = np.quantile(drawn(new, new_day) - drawn(old, old_day), [0.025, 0.975]).tolist()
    return low, high


def _shifts(reference: pa.RecordBatch, current: pa.RecordBatch, score: Score) -> list[ColumnShift]:
    shifts, generator = [], np.random.default_rng(7)
    sample = reference.slice(0, 2_000)
    plain, mixed = score(sample), generator.permutation(sample.num_rows)
    for place, name in enumerate(reference.schema.names):
        changed = sample.set_column(place, sample.schema.field(place), sample.column(place).take(pa.array(mixed)))
        importance = float(np.abs(score(changed) - plain).mean())
        old, new = reference.column(place), current.column(place)
        nulls = (old.null_count + _nans(old)) / len(old), (new.null_count + _nans(new)) / len(new)
        shifts.append(ColumnShift(name, _distance(old, new), importance, *nulls))
    return sorted(shifts, key=lambda one: -one.weight)


def _first_moved(shifts: Sequence[ColumnShift], before: int, now: int) -> str:
    """Return the column whose move matters most, of those that moved beyond chance: rows may be harder by a column that the model does not read."""
    chance = _CHANCE * np.sqrt(1 / before + 1 / now)
    moved = [one for one in shifts if one.distance > chance]
    return max(moved, key=lambda one: (one.weight, one.distance)).column if moved else "none"


def _nans(column: pa.Array) -> int:
    return int(np.isnan(numbers(column)).sum()) - column.null_count if not pa.types.is_string(column.type) else 0


def _distance(old: pa.Array, new: pa.Array) -> float:
    """Return the largest difference of the distribution functions, of texts half the sum of differences of shares; missing values apart."""
    if pa.types.is_string(old.type):
        counts = [Counter(column.drop_null().to_pylist()) for column in (old, new)]
        shares = [np.array([count[value] for value in counts[0] | counts[1]], float) for count in counts]
        return float(np.abs(shares[0] / max(1.0, shares[0].sum()) - shares[1] / max(1.0, shares[1].sum())).sum() / 2)
    known = [np.sort(values[~np.isnan(values)]) for values in map(numbers, (old, new))]
    if not all(map(len, known)):
        return 0.0
    both = np.concatenate(known)
    return float(np.abs(np.searchsorted(known[0], both, "right") / len(known[0]) - np.searchsorted(known[1], both, "right") / len(known[1])).max())


def _clean(features: pa.RecordBatch, shifts: Sequence[ColumnShift]) -> tuple[NDArray[np.bool_], list[ColumnShift]]:
    """Return which rows have no newly missing input, and the columns that came empty."""
    broken = []
    for one in shifts:
        noise = np.sqrt(max(one.nulls_before * (1 - one.nulls_before), 1.0 / features.num_rows) / features.num_rows)
        if one.importance > 0 and one.nulls_now - one.nulls_before > max(_NULLS, _SIGMAS * noise):
            broken.append(one)
    clean = np.ones(features.num_rows, np.bool_)
    for one in broken:
        column = features.column(features.schema.get_field_index(one.column))
        clean &= ~(np.asarray(column.is_null()) if pa.types.is_string(column.type) else np.isnan(numbers(column)))
    return clean, broken


def _ratio(reference: pa.RecordBatch, current: pa.RecordBatch) -> tuple[Float64, float]:
    """Return the density ratio of current to reference at the reference's rows, and the AUC of telling them apart."""
    old, new = matrices(reference, current)
    target = np.concatenate([np.zeros(len(old)), np.ones(len(new))])
    share = predicted_apart(np.concatenate([old, new]), target, "binary")
    ranks = share.argsort().argsort() + 1.0
    auc = (ranks[len(old) :].sum() - len(new) * (len(new) + 1) / 2) / (len(old) * len(new))
    odds = share[: len(old)] / (1 - share[: len(old)]) * len(old) / len(new)
    return np.clip(odds, 0.0, _MOST_RATIO), float(auc)
