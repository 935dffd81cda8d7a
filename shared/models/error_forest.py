"""Serves an error model: beside each score, how far from the truth it is expected to be."""

from base64 import b64decode

import numpy as np
import onnx
from numpy.typing import NDArray

from tidemill.shared.models.blocks import LANES, Blocks, padded
from tidemill.shared.models.class_forest import ClassForest
from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.signature import within_range

_OUTPUTS = 2


class ErrorForest:
    """An error model on the kernel of forests, with the same bits in any batching; each tree is run through once for both outputs.

    Parameters
    ----------
    width
        Columns of the model whose errors these are; its score is the input behind them.

    Raises
    ------
    ValueError
        The graph is no forest of two outputs over those inputs.
    """

    def __init__(self, model: ErrorModel, width: int) -> None:
        graph = onnx.load_from_string(b64decode(model.graph, validate=True)).graph
        forest = ClassForest.from_graph(graph)
        if forest is None or forest.outputs != _OUTPUTS or forest.softmax:
            raise ValueError("expected an error model that is a forest with two outputs")
        used = np.unique(forest.trees.columns)
        if len(used) and used[-1] > width:
            raise ValueError(f"expected an error model over {width} columns and the score, found column {int(used[-1])}")
        self._forest, self._used, self._scale = forest, used[used < width], model.scale
        self._columns = np.where(forest.trees.columns == width, len(self._used), np.searchsorted(self._used, forest.trees.columns)).astype(np.int32)

    def estimate(self, blocks: Blocks, positions: NDArray[np.int32], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the expected absolute and squared error of each row, in the label's unit and its square, shape (n, 2); NaN where there is no score.

        Parameters
        ----------
        positions
            The model's own columns of the blocks.
        scores : shape (n,)
            As served.
        """
        n = len(scores)
        answers = np.zeros((1, padded(n)), np.float32)
        with np.errstate(over="ignore"):
            answers[0, :n] = scores
        inputs = np.concatenate([blocks[:, positions[self._used], :], within_range(answers).reshape(-1, 1, LANES)], axis=1)
        sums = self._forest.score(np.ascontiguousarray(inputs), self._columns)[:n]
        expected: NDArray[np.float64] = sums * np.array([self._scale, self._scale**2])
        expected[~np.isfinite(scores)] = np.nan
        return expected
