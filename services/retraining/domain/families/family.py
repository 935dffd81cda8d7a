"""What a model family is: how its hyperparameters are drawn, and how it is fitted, scored and exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]


class FamilyError(ValueError):
    """A family cannot learn this, or cannot be served: nothing is trained; the message says what can."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to learn from.

    Attributes
    ----------
    matrix : shape (n, columns), NaN where missing
    labels : shape (n,)
        As `kind` has them; every class occurs. Of a regression they are standardised: mean 0, variance 1.
    weights : shape (n,)
        How much each row counts; None counts each once.
    """

    matrix: Matrix
    labels: Scores
    kind: Kind
    weights: Scores | None = None

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.matrix.shape[1])


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model.

    Attributes
    ----------
    predict
        How the library that trained it scores rows of shape (n, columns): shape (n,), of several classes (n, K).
    export
        Makes its ONNX graph: float32 rows in, NaN where missing; the last output is the score.
    text
        Writes the model as its library does, where it has such a form.
    """

    predict: Callable[[Matrix], Scores]
    export: Callable[[], bytes]
    text: Callable[[], str] = str


class Family(Protocol):
    """A way to learn. Pure: the same arguments give the same bytes on the same CPU class.

    A family stands in a module of its own under its own name, as ``FAMILY``, and with the kinds it can learn in
    `tidemill.shared.application.families`.
    """

    def suggest(self, trial: Any) -> dict[str, Any]:  # optuna is untyped
        """Draw hyperparameters; the names of other families' are no matter."""
        ...

    def fit(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Fitted:
        """Train one model; `parameters` are as `suggest` draws them, more are no matter.

        Raises
        ------
        FamilyError
            It cannot learn this.
        """
        ...
