"""The control share of a model whose predictions change whether their truth is seen."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.application.expressions import Expression

ANSWER = pa.schema(
    [
        ("score", pa.float64()),
        ("predicted", pa.int32()),
        ("predicted_label", pa.string()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
    ]
)
"""Columns of an answer that `hidden_when` may look at."""


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """Which requests are answered without anybody acting on the answer, and which answers hide their label otherwise.

    Attributes
    ----------
    share
        Of the requests, in (0, 1).
    hidden
        Truth value over the columns of `ANSWER`: acting on such an answer hides the label. Null counts as no.
    salt
        Hexadecimal; what the requests' ids are hashed with. It depends on the names of application and model only, so a request that is sent again,
        and every revision of the application, draws the same.
    """

    share: float
    hidden: Expression
    salt: str

    @classmethod
    def of(cls, app: str, model: str, share: float, hidden: Expression) -> "ControlPlan":
        """Make the plan of one model."""
        return cls(share, hidden, hashlib.sha256(f"control/{app}/{model}".encode()).hexdigest())

    def propensity(self, answers: pa.RecordBatch) -> NDArray[np.float64]:
        """Return with which probability the label of each answer can be seen, shape (n,): the share where the answer hides it, else 1."""
        hides = pc.fill_null(self.hidden.evaluate(answers), False).to_numpy(zero_copy_only=False)
        return np.where(hides, self.share, 1.0)
