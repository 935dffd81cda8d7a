"""A model that serves or has served, as others hold it against a version that may know more classes."""

from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Signature


class ServedModel(Protocol):
    """A model as it answers, with its contract."""

    @property
    def signature(self) -> Signature: ...  # noqa: D102

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return the scores of each row, shape (n,) or (n, K)."""
        ...


class WidenedModel:
    """A model that knows the first of the classes only: it gives the others no probability.

    Parameters
    ----------
    kind
        With all classes.
    """

    def __init__(self, scorer: OnnxScorer, kind: Kind) -> None:
        self._scorer, self._width = scorer, kind.width

    @property
    def signature(self) -> Signature:
        """The model's own."""
        return self._scorer.signature

    def score(self, batch: pa.RecordBatch) -> NDArray[np.float64]:
        """Return the scores of each row, shape (n, K)."""
        scores = self._scorer.score(batch)
        return np.column_stack([scores, np.zeros((len(scores), self._width - scores.shape[1]))])


def as_kind(scorer: OnnxScorer, kind: Kind) -> ServedModel:
    """Return a model that answers with the classes of a kind where they are learned; any other as it is."""
    return WidenedModel(scorer, kind) if kind.is_learned else scorer
