"""One fit: what a family is given, and what makes its scores the served ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tidemill.services.retraining.domain.families.family import FamilyError, Matrix, Sample, Scores
from tidemill.services.retraining.domain.families.registry import family_of
from tidemill.shared.application.families import supports
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.calibration import Calibration

ClassWeight = Literal["none", "balanced"]

_MOST_WEIGHT = 20.0


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained model.

    Attributes
    ----------
    raw
        How the training library scores: what the graph answers.
    export
        Makes the graph.
    calibration
        What makes of the graph's scores those that are served; None where they are the same.
    text
        Writes the model as its library does; nothing where it has no such form.
    """

    raw: Callable[[Matrix], Scores]
    export: Callable[[], bytes]
    calibration: Calibration | None = None
    text: Callable[[], str] = str

    def predict(self, rows: Matrix) -> Scores:
        """Score as it is served: shape (n,), of several classes (n, K)."""
        scores = self.raw(rows)
        return scores if self.calibration is None else self.calibration.apply(scores)


def fit(
    matrix: Matrix,
    labels: NDArray[np.float64],
    kind: Kind,
    parameters: Mapping[str, Any],
    seed: int,
    weights: NDArray[np.float64] | None = None,
    class_weight: ClassWeight = "none",
) -> Fit:
    """Train one model of the family that the parameters name; the same arguments give the same bytes on the same CPU class.

    A number is learned in standard units, so that hyperparameters mean the same whatever the label's unit is. Classes that are given equal weights
    make scores that are too high by a known factor of the odds: it is taken back.

    Parameters
    ----------
    matrix : shape (n, columns), NaN where missing
    labels : shape (n,)
    weights : shape (n,)
        How many rows each stands for; None counts each once.
    class_weight
        ``balanced``: the rows of each class weigh the same together, but none more than twenty times another: boosted trees that are told that a row
        stands for hundreds learn it by heart, and are too sure of the others in a way that no factor takes back.

    Raises
    ------
    FamilyError
        The family cannot learn this.
    """
    name = parameters["family"]
    if not supports(name, kind.name):
        raise FamilyError(f"the family {name} learns no model of kind {kind.name}")
    calibration = None
    if kind.name == "regression":
        middle = float(np.average(labels, weights=weights))
        spread = float(np.sqrt(np.average((labels - middle) ** 2, weights=weights))) or 1.0
        labels, calibration = (labels - middle) / spread, Calibration(link="identity", slope=spread, offsets=(middle,))
    else:
        counts = np.bincount(labels.astype(np.int64), weights, minlength=max(2, kind.width))
        if not counts.all():
            raise FamilyError(f"expected rows of every class to learn from, found none of number {int(np.flatnonzero(counts == 0)[0])}")
        if class_weight == "balanced":
            factors = np.minimum(counts.max() / counts, _MOST_WEIGHT)
            factors = factors * counts.sum() / (factors * counts).sum()
            weights = (np.ones(len(labels)) if weights is None else weights) * factors[labels.astype(np.int64)]
            calibration = _without(factors, kind)
    with threadpool_limits(1):
        fitted = family_of(name).fit(Sample(matrix, labels, kind, weights), parameters, seed)
    return Fit(fitted.predict, fitted.export, calibration, fitted.text)


def _without(factors: NDArray[np.float64], kind: Kind) -> Calibration:
    """Undo factors on the weights of classes: they multiply the odds."""
    if kind.classes:
        return Calibration(link="softmax", offsets=tuple((-np.log(factors)).tolist()))
    return Calibration(link="logit", offsets=(float(np.log(factors[0] / factors[1])),))
