"""What models of other kinds than binary serve beside the score: from predictions' columns to numbers of a request, and to outcomes' columns."""

import math
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.outcomes.domain.join import Outcome
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.request import TimedLabel
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.served_scores import class_scores

_SCORES = pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))


def count_of_numbers(kind: Kind, *, has_control_share: bool = False) -> int:
    """Return how many numbers a request has: one for each class, two for the interval of a regression, and last propensity and control mark."""
    return (len(kind.classes) or (2 if kind.name == "regression" else 0)) + 2 * has_control_share


class ServedNumbers:
    """Carries probabilities by class and intervals from predictions to outcomes, bit for bit. Pure.

    Parameters
    ----------
    classes
        Kinds by model, as far as their classes are known.
    controlled
        Models with a control share.
    """

    def __init__(self, classes: KnownClasses, controlled: Collection[str] = ()) -> None:
        self._controlled, self._classes = frozenset(controlled), classes
        self._models = [
            name
            for name in classes.models
            if classes.of(name).has_classes or count_of_numbers(classes.of(name), has_control_share=name in self._controlled)
        ]

    def columns(self, models: Sequence[str], predictions: pa.RecordBatch) -> tuple[list[int], list[tuple[float, ...]]]:
        """Return what was predicted, and `Request.numbers`, of predictions in their schema.

        The index of a predicted class is that of today's classes: one of before they were changed is found by its name, -1 where it is no more.
        """
        predicted: list[int] = predictions.column("predicted").to_pylist()
        column: list[tuple[float, ...]] = [()] * len(models)
        if not self._models:
            return predicted, column
        asked = np.array(models, dtype=object)
        for name in self._models:
            rows = np.flatnonzero(asked == name)
            if not len(rows):
                continue
            own = predictions.take(pa.array(rows))
            self._classes.follow(name, own.column("scores"))
            kind = self._classes.of(name)
            served = _numbers(kind, own)
            if name in self._controlled:
                served = np.column_stack([served, _control(own)])
            for row, numbers in zip(rows.tolist(), served.tolist(), strict=True):
                column[row] = tuple(numbers)
            if kind.has_classes:
                places = pc.fill_null(pc.index_in(own.column("predicted_label"), pa.array(kind.classes, pa.string())), -1)
                for row, place in zip(rows.tolist(), places.to_pylist(), strict=True):
                    predicted[row] = place
        return predicted, column

    def labels(self, outcomes: Sequence[Outcome]) -> pa.Array:
        """Return the labels, null where there is none.

        A class that was learned has the number that it has for the version which answered, and -1 if that version does not know it.
        """
        return pa.array([self._label(one.model, one.label, one.request.numbers) if one.label else None for one in outcomes], pa.float64())

    def _label(self, model: str, label: TimedLabel, numbers: Sequence[float]) -> float:
        if not label.name:
            return label.value
        names = self._classes.of(model).classes
        number = names.index(label.name) if label.name in names else -1
        return float(number) if 0 <= number < len(numbers) and not math.isnan(numbers[number]) else -1.0

    def outcome_columns(self, outcomes: Sequence[Outcome]) -> dict[str, pa.Array]:
        """Return the columns of outcomes that only some kinds fill."""
        n = len(outcomes)
        if not self._models:
            texts, numbers = pa.nulls(n, pa.string()), pa.nulls(n, pa.float64())
            return {
                "scores": pa.nulls(n, _SCORES), "predicted_label": texts, "lower": numbers, "upper": numbers, "label_class": texts,
                "control": pa.nulls(n, pa.bool_()), "propensity": numbers,
            }  # fmt: skip
        scores: list[list[tuple[str, float]] | None] = [None] * n
        predicted: list[str | None] = [None] * n
        truths: list[str | None] = [None] * n
        ends: list[tuple[float | None, float | None]] = [(None, None)] * n
        controls: list[bool | None] = [None] * n
        propensities: list[float | None] = [None] * n
        for i, outcome in enumerate(outcomes):
            if outcome.model not in self._models:
                continue
            kind, numbers = self._classes.of(outcome.model), list(outcome.request.numbers)
            if kind.has_classes and outcome.label is not None:
                truths[i] = outcome.label.name or kind.classes[int(outcome.label.value)]
            if not numbers:
                continue
            if outcome.model in self._controlled:
                *numbers, propensity, drawn = numbers
                if not math.isnan(propensity):
                    controls[i], propensities[i] = bool(drawn), propensity
            if kind.has_classes:
                known = [(name, score) for name, score in zip(kind.classes, numbers, strict=False) if not math.isnan(score)]
                scores[i] = known or None
                predicted[i] = kind.classes[outcome.request.predicted] if outcome.request.predicted >= 0 else None
            elif numbers and not math.isnan(numbers[0]):
                ends[i] = (numbers[0], numbers[1])
        return {
            "scores": pa.array(scores, _SCORES),
            "predicted_label": pa.array(predicted, pa.string()),
            "lower": pa.array([low for low, _ in ends], pa.float64()),
            "upper": pa.array([high for _, high in ends], pa.float64()),
            "label_class": pa.array(truths, pa.string()),
            "control": pa.array(controls, pa.bool_()),
            "propensity": pa.array(propensities, pa.float64()),
        }


def _numbers(kind: Kind, predictions: pa.RecordBatch) -> NDArray[np.float64]:
    """Return the numbers of one model's predictions, shape (n, numbers); NaN where one has none."""
    if kind.name == "binary":
        return np.empty((predictions.num_rows, 0))
    if not kind.has_classes:
        ends = [predictions.column(name).to_numpy(zero_copy_only=False) for name in ("lower", "upper")]
        return np.stack(ends, axis=1).astype(np.float64)
    return class_scores(predictions.column("scores"), kind)


def _control(predictions: pa.RecordBatch) -> NDArray[np.float64]:
    """Return propensity and control mark, shape (n, 2); NaN of answers that were given before there was a control share."""
    columns = [predictions.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in ("propensity", "control")]
    return np.stack(columns, axis=1).astype(np.float64)
