"""Why a model's loss has risen: the rise is divided into data, model, feature, label and concept causes. Pure: no archive, no clock."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
Score = Callable[[pa.RecordBatch], Float64]
_LEAST = 200
_FOLDS = 5
_NULLS = 0.03
_SIGMAS = 4.0
_MOST_RATIO = 20.0
_LEAST_OVERLAP = 0.2
_TREES = {"learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 40, "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 7}
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Window:
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
class Shift:
    """How a column moved, and how much the model listens to it."""

    column: str
    distance: float
    importance: float
    nulls_before: float
    nulls_now: float


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
    shifts: Sequence[Shift]
    figures: Mapping[str, float]

    @property
    def rise(self) -> float:
        """How much the mean loss rose."""
        return self.current_loss - self.reference_loss

    @property
    def is_worse(self) -> bool:
        """Whether it rose beyond what days differ by."""
        return self.low > 0


def diagnose(kind: Kind, reference: Window, current: Window, score: Score, before: Score | None = None) -> Diagnosis:
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
    for name, window in (("reference", reference), ("current", current)):
        if len(window.labels) < _LEAST:
            raise ValueError(f"expected {_LEAST} labelled answers in the {name} window, found {len(window.labels)}: take a longer one (--since)")
    old, new = kind.losses(reference.labels, reference.scores), kind.losses(current.labels, current.scores)
    low, high = _interval(old, reference.day, new, current.day)
    shifts = _shifts(reference.features, current.features, score)
    causes: list[Cause] = []
    clean, broken = _clean(current.features, shifts)
    if broken and clean.sum() >= _LEAST // 2:
        part = float(new.mean() - new[clean].mean())
        nulls = {f"missing {one.column}": one.nulls_now for one in broken} | {f"missing {one.column} before": one.nulls_before for one in broken}
        causes.append(Cause("data", part, f"newly missing inputs: {', '.join(one.column for one in broken)}", nulls))
    elif broken:
        clean = np.ones(len(new), np.bool_)
    rows, labels, served = current.features.filter(pa.array(clean)), current.labels[clean], current.scores[clean]
    own = new[clean]
    if before is not None:
        others = kind.losses(labels, before(rows))
        words = "the model that serves does worse on these requests than the one before it would have"
        causes.append(Cause("model", float(own.mean() - others.mean()), words, {"loss of the model before": float(others.mean())}))
        own, served = others, before(rows)
    weights, separable = _ratio(reference.features, rows)
    mixed = float((weights * old).sum() / weights.sum())
    first = next((one.column for one in shifts if one.distance > 0), "none")
    size = float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
    evidence = {"reference loss at the present mix": mixed, "windows told apart (AUC)": separable, "effective share of rows": size}
    if size < _LEAST_OVERLAP:
        words = "inputs or relation: the windows hardly overlap, so the two cannot be told apart; look into a shorter time (--since)"
        causes.append(Cause("undivided", float(own.mean() - old.mean()), words, evidence))
    else:
        words = f"other inputs than before, {first} above all: harder requests, the relation unchanged"
        causes.append(Cause("feature", mixed - float(old.mean()), words, evidence))
        causes.append(_relation(kind, rows, labels, served, float(own.mean()) - mixed))
    figures = {
        "labelled before": reference.labelled / max(1, reference.asked), "labelled now": current.labelled / max(1, current.asked),
        "label delay before h": reference.delay_ms / 3.6e6, "label delay now h": current.delay_ms / 3.6e6,
        "mean label before": float(reference.labels.mean()), "mean label now": float(current.labels.mean()),
        "mean score before": float(reference.scores.mean()), "mean score now": float(current.scores.mean()),
    }  # fmt: skip
    return Diagnosis(float(old.mean()), float(new.mean()), low, high, sorted(causes, key=lambda one: -one.loss), shifts, figures)


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


def _shifts(reference: pa.RecordBatch, current: pa.RecordBatch, score: Score) -> list[Shift]:
    found, generator = [], np.random.default_rng(7)
    sample = reference.slice(0, 2_000)
    plain, mixed = score(sample), generator.permutation(sample.num_rows)
    for place, name in enumerate(reference.schema.names):
        changed = sample.set_column(place, sample.schema.field(place), sample.column(place).take(pa.array(mixed)))
        importance = float(np.abs(score(changed) - plain).mean())
        old, new = reference.column(place), current.column(place)
        nulls = (old.null_count + _nans(old)) / len(old), (new.null_count + _nans(new)) / len(new)
        found.append(Shift(name, _distance(old, new), importance, *nulls))
    return sorted(found, key=lambda one: -one.distance * one.importance)


def _nans(column: pa.Array) -> int:
    return int(np.isnan(_numbers(column)).sum()) - column.null_count if not pa.types.is_string(column.type) else 0


def _numbers(column: pa.Array) -> Float64:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _distance(old: pa.Array, new: pa.Array) -> float:
    """Return the largest difference of the distribution functions, of texts half the sum of differences of shares; missing values apart."""
    if pa.types.is_string(old.type):
        counts = [Counter(column.drop_null().to_pylist()) for column in (old, new)]
        shares = [np.array([count[value] for value in counts[0] | counts[1]], float) for count in counts]
        return float(np.abs(shares[0] / max(1.0, shares[0].sum()) - shares[1] / max(1.0, shares[1].sum())).sum() / 2)
    known = [np.sort(numbers[~np.isnan(numbers)]) for numbers in map(_numbers, (old, new))]
    if not all(map(len, known)):
        return 0.0
    both = np.concatenate(known)
    return float(np.abs(np.searchsorted(known[0], both, "right") / len(known[0]) - np.searchsorted(known[1], both, "right") / len(known[1])).max())


def _clean(features: pa.RecordBatch, shifts: Sequence[Shift]) -> tuple[NDArray[np.bool_], list[Shift]]:
    """Return which rows have no newly missing input, and the columns that came empty."""
    broken = []
    for one in shifts:
        noise = np.sqrt(max(one.nulls_before * (1 - one.nulls_before), 1.0 / features.num_rows) / features.num_rows)
        if one.importance > 0 and one.nulls_now - one.nulls_before > max(_NULLS, _SIGMAS * noise):
            broken.append(one)
    clean = np.ones(features.num_rows, np.bool_)
    for one in broken:
        column = features.column(features.schema.get_field_index(one.column))
        clean &= ~(np.asarray(column.is_null()) if pa.types.is_string(column.type) else np.isnan(_numbers(column)))
    return clean, broken


def _matrix(*batches: pa.RecordBatch) -> list[Float64]:
    """Encode rows for trees: texts by the order of their names, the same for all."""
    columns: list[list[Float64]] = [[] for _ in batches]
    for place, field_ in enumerate(batches[0].schema):
        if pa.types.is_string(field_.type):
            values = {value: i for i, value in enumerate(sorted({v for batch in batches for v in batch.column(place).drop_null().to_pylist()}))}
            for mine, batch in zip(columns, batches, strict=True):
                mine.append(np.array([np.nan if value is None else float(values[value]) for value in batch.column(place).to_pylist()]))
        else:
            for mine, batch in zip(columns, batches, strict=True):
                mine.append(_numbers(batch.column(place)))
    return [np.column_stack(mine) for mine in columns]


def _apart(matrix: Float64, target: Float64, objective: str, classes: int = 0) -> Float64:
    """Return predictions of rows by trees that did not learn from them."""
    fold = np.random.default_rng(7).permutation(len(matrix)) % _FOLDS
    found = np.empty((len(matrix), classes) if classes else len(matrix))
    settings = {**_TREES, "objective": objective, **({"num_class": classes} if classes else {})}
    for one in range(_FOLDS):
        model = lightgbm.train(settings, lightgbm.Dataset(matrix[fold != one], target[fold != one]), _ROUNDS)
        found[fold == one] = model.predict(matrix[fold == one], num_threads=1)
    return found


def _ratio(reference: pa.RecordBatch, current: pa.RecordBatch) -> tuple[Float64, float]:
    """Return the density ratio of current to reference at the reference's rows, and the AUC of telling them apart."""
    old, new = _matrix(reference, current)
    target = np.concatenate([np.zeros(len(old)), np.ones(len(new))])
    share = _apart(np.concatenate([old, new]), target, "binary")
    ranks = share.argsort().argsort() + 1.0
    auc = (ranks[len(old) :].sum() - len(new) * (len(new) + 1) / 2) / (len(old) * len(new))
    odds = share[: len(old)] / (1 - share[: len(old)]) * len(old) / len(new)
    return np.clip(odds, 0.0, _MOST_RATIO), float(auc)


def _relation(kind: Kind, rows: pa.RecordBatch, labels: Float64, scores: Float64, rest: float) -> Cause:
    """Say what the remainder is likely to be: turned labels, a moved base rate, or another relation."""
    plain = kind.losses(labels, scores)
    (matrix,) = _matrix(rows)
    if kind.name == "binary":
        learned = np.column_stack([matrix, scores])
        relearned = np.clip(_apart(learned, labels, "binary"), 1e-6, 1 - 1e-6)
        turned = minimize_scalar(lambda by: kind.losses(labels, scores * (1 - by) + (1 - scores) * by).mean(), bounds=(0.0, 1.0), method="bounded").x
        odds = logit(np.clip(scores, 1e-9, 1 - 1e-9))
        moved = minimize_scalar(lambda by: kind.losses(labels, expit(odds + by)).mean(), bounds=(-10.0, 10.0), method="bounded").x
        simple = {
            "turned": kind.losses(labels, scores * (1 - turned) + (1 - scores) * turned),
            "moved": kind.losses(labels, expit(odds + moved)),
        }
        evidence = {"share of labels turned round": float(turned), "log-odds moved by": float(moved)}
    else:
        if kind.classes:
            relearned = _apart(matrix, labels, "multiclass", kind.width)
            simple = {}
        else:
            relearned = scores + _apart(matrix, labels - scores, "regression")
            simple = {"moved": kind.losses(labels, scores + (labels - scores).mean())}
        evidence = {"label moved by": float((labels - scores).mean())} if not kind.classes else {}
    anew = kind.losses(labels, relearned)
    evidence |= {"loss saved by learning anew": float((plain - anew).mean())} | {
        f"loss saved, {name}": float((plain - losses).mean()) for name, losses in simple.items()
    }
    best = min(simple, key=lambda name: float(simple[name].mean()), default="")
    if best:
        apart, saved = simple[best] - anew, plain - simple[best]
        is_as_good = apart.mean() < 2 * apart.std() / np.sqrt(len(apart))
        helps = saved.mean() > 2 * saved.std() / np.sqrt(len(saved))
        if is_as_good and helps:
            if best == "turned":
                return Cause(
                    "label",
                    rest,
                    f"labels: {evidence['share of labels turned round']:.0%} of them are as if turned round, whatever the inputs",
                    evidence,
                )
            return Cause("label", rest, "labels: their base rate has moved, the order of the scores holds", evidence)
    return Cause("concept", rest, "concept: the relation of inputs and labels is another one, which a model learned anew follows", evidence)
