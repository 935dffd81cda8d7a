"""What became of the relation of inputs and labels: labels that are turned, moved or noisy, or another relation. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, softmax

from tidemill.shared.kinds.kind import Kind

Float64 = NDArray[np.float64]
_FOLDS = 5
_LEAST_PROBABILITY = 1e-6
_TREES = {"learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 40, "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": 7}
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Relation:
    """What a loss that is not the inputs' is likely to come of.

    Attributes
    ----------
    kind
        ``label`` or ``concept``.
    """

    kind: str
    words: str
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Simple:
    """Labels that changed in the same way whatever the inputs: what the model's scores would have to be."""

    scores: Float64
    words: str
    evidence: Mapping[str, float]


def changed_relation(kind: Kind, rows: pa.RecordBatch, labels: Float64, scores: Float64, rest: float) -> Relation:
    """Say what the remainder of a rise is likely to be.

    It is put down to labels where a change of them that does not look at the inputs (a share turned into others, another base rate, level or unit)
    explains as much as a relation learned anew does, or where nothing that is learned anew follows them: they are noisier. Else to concept.

    Parameters
    ----------
    rest
        The remainder.
    """
    plain = kind.losses(labels, scores)
    simple = (_binary if kind.name == "binary" else _classes if kind.has_classes else _number)(kind, labels, scores)
    relearned = _relearned(kind, rows, labels, scores)
    anew = kind.losses(labels, relearned)
    losses = {name: kind.losses(labels, one.scores) for name, one in simple.items()}
    evidence = {key: value for one in simple.values() for key, value in one.evidence.items()}
    evidence |= {"loss saved by learning anew": float((plain - anew).mean())}
    evidence |= {f"loss saved, {name}": float((plain - loss).mean()) for name, loss in losses.items()}
    best = min(losses, key=lambda name: float(losses[name].mean()))
    if _mean_in_errors(losses[best] - anew) < 2 and _mean_in_errors(plain - losses[best]) > 2:
        return Relation("label", simple[best].words, evidence)
    if _mean_in_errors(plain - anew) < 2 and rest > 2 * plain.std() / np.sqrt(len(plain)):
        return Relation("label", "labels: they are noisier than before, and no relation that is learned anew follows them", evidence)
    return Relation("concept", "concept: the relation of inputs and labels is another one, which a model learned anew follows", evidence)


def _mean_in_errors(differences: Float64) -> float:
    """Return a mean in units of its standard error."""
    return float(differences.mean() / max(differences.std() / np.sqrt(len(differences)), 1e-300))


def _binary(kind: Kind, labels: Float64, scores: Float64) -> dict[str, _Simple]:
    turned, odds = _best_share(kind, labels, lambda by: scores * (1 - by) + (1 - scores) * by), logit(np.clip(scores, 1e-9, 1 - 1e-9))
    moved = minimize_scalar(lambda by: kind.losses(labels, expit(odds + by)).mean(), bounds=(-10.0, 10.0), method="bounded").x
    return {
        "turned": _Simple(
            scores * (1 - turned) + (1 - scores) * turned,
            f"labels: {turned:.0%} of them are as if turned round, whatever the inputs",
            {"share of labels turned round": turned},
        ),
        "moved": _Simple(
            expit(odds + moved), "labels: their base rate has moved, the order of the scores holds", {"log-odds moved by": float(moved)}
        ),
    }


def _classes(kind: Kind, labels: Float64, scores: Float64) -> dict[str, _Simple]:
    others = kind.width - 1
    turned = _best_share(kind, labels, lambda by: scores * (1 - by) + (1 - scores) / others * by)
    logs, hot = np.log(np.clip(scores, 1e-9, 1.0)), np.eye(kind.width)[labels.astype(np.int64)]

    def loss(by: Float64) -> tuple[float, Float64]:
        given = softmax(logs + by, axis=1)
        return float(kind.losses(labels, given).mean()), np.asarray((given - hot).mean(axis=0))

    moved = np.asarray(minimize(loss, np.zeros(kind.width), jac=True, bounds=[(-10.0, 10.0)] * kind.width, method="L-BFGS-B").x)
    rates = hot.mean(axis=0) - scores.mean(axis=0)
    farthest = int(np.abs(rates).argmax())
    return {
        "turned": _Simple(
            scores * (1 - turned) + (1 - scores) / others * turned,
            f"labels: {turned:.0%} of them are as if replaced by other classes, whatever the inputs",
            {"share of labels replaced": turned},
        ),
        "moved": _Simple(
            softmax(logs + moved, axis=1),
            f"labels: the rates of the classes have moved, of {kind.classes[farthest]} above all; what the inputs say of them holds",
            {f"rate of {kind.classes[farthest]} beyond its mean score": float(rates[farthest])},
        ),
    }


def _number(kind: Kind, labels: Float64, scores: Float64) -> dict[str, _Simple]:
    by = float((labels - scores).mean())
    relations = {"moved": _Simple(scores + by, f"labels: their level has moved by {by:+.4g}, whatever the inputs", {"label moved by": by})}
    spread = float(scores.var())
    if spread > 0:
        slope = float(((labels - labels.mean()) * (scores - scores.mean())).mean() / spread)
        words = f"labels: they are in another unit or scale, {slope:.4g} times what the inputs say"
        relations["scaled"] = _Simple(labels.mean() + slope * (scores - scores.mean()), words, {"label scaled by": slope})
        # Another scale has one parameter more: it has to save more than chance gives that.
        if _mean_in_errors(kind.losses(labels, relations["moved"].scores) - kind.losses(labels, relations["scaled"].scores)) < 2:
            del relations["scaled"]
    return relations


def _best_share(kind: Kind, labels: Float64, scores: Callable[[float], Float64]) -> float:
    return float(minimize_scalar(lambda by: kind.losses(labels, scores(by)).mean(), bounds=(0.0, 1.0), method="bounded").x)


def _relearned(kind: Kind, rows: pa.RecordBatch, labels: Float64, scores: Float64) -> Float64:
    """Return what trees say that learn from inputs and scores, of rows that they did not learn from."""
    (matrix,) = matrices(rows)
    learned = np.column_stack([matrix, scores])
    if kind.name == "binary":
        return np.clip(predicted_apart(learned, labels, "binary"), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    if kind.has_classes:
        answers = np.clip(predicted_apart(learned, labels, "multiclass", kind.width), _LEAST_PROBABILITY, 1.0)
        return np.asarray(answers / answers.sum(axis=1, keepdims=True))
    return scores + predicted_apart(learned, labels - scores, "regression")


def matrices(*batches: pa.RecordBatch) -> list[Float64]:
    """Encode rows for trees: texts by the order of their names, the same for all."""
    columns: list[list[Float64]] = [[] for _ in batches]
    for place, field in enumerate(batches[0].schema):
        if pa.types.is_string(field.type):
            values = {value: i for i, value in enumerate(sorted({v for batch in batches for v in batch.column(place).drop_null().to_pylist()}))}
            for mine, batch in zip(columns, batches, strict=True):
                mine.append(np.array([np.nan if value is None else float(values[value]) for value in batch.column(place).to_pylist()]))
        else:
            for mine, batch in zip(columns, batches, strict=True):
                mine.append(numbers(batch.column(place)))
    return [np.column_stack(mine) for mine in columns]


def numbers(column: pa.Array) -> Float64:
    """Return a column's numbers, NaN where missing."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def predicted_apart(matrix: Float64, target: Float64, objective: str, classes: int = 0) -> Float64:
    """Return predictions of rows by trees that did not learn from them."""
    fold = np.random.default_rng(7).permutation(len(matrix)) % _FOLDS
    answers = np.empty((len(matrix), classes) if classes else len(matrix))
    settings = {**_TREES, "objective": objective, **({"num_class": classes} if classes else {})}
    for one in range(_FOLDS):
        model = lightgbm.train(settings, lightgbm.Dataset(matrix[fold != one], target[fold != one]), _ROUNDS)
        answers[fold == one] = model.predict(matrix[fold == one], num_threads=1)
    return answers
