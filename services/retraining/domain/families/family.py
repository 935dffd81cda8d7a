"""What a model family is: how its hyperparameters are drawn, and how it is fitted, scored and exported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model.

    Attributes
    ----------
    predict
        How the library that trained it scores rows of shape (n, columns).
    export
        Makes its ONNX graph: float32 rows in, NaN where missing; the last output is the score.
    """

    predict: Callable[[Matrix], Scores]
    export: Callable[[], bytes]


class Family(Protocol):
    """A way to learn. Pure: the same arguments give the same bytes on the same CPU class.

    A family stands in a module of its own under its own name, as ``FAMILY``, and in `tidemill.shared.application.families`.
    """

    def suggest(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401, RUF100 - optuna is untyped
        """Draw hyperparameters; the names of other families' are no matter."""
        ...

    def fit(self, matrix: Matrix, labels: Scores, parameters: Mapping[str, Any], seed: int, weights: Scores | None) -> Fitted:
        """Train one model.

        Parameters
        ----------
        matrix : shape (n, columns), NaN where missing
        labels : shape (n,), 0 or 1
        parameters
            As `suggest` draws them; more are no matter.
        weights : shape (n,)
            How many rows each stands for; None counts each once.
        """
        ...
