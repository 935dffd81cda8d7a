"""Why a model gave a score: contributions of its inputs, by the method that is exact for it where there is one."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.shapley import Explanation, forest_contributions, permutation_contributions
from tidemill.shared.models.tree_paths import TreePaths

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
_LINEAR = ["IsNaN", "Where", "Sub", "Div", "Gemm"]


class Explainer:
    """A loaded model that says what its scores are made of.

    Forests and linear models are explained exactly, in log-odds where they give a probability: contributions and base add up to the served score. A
    calibration that is a line on that scale is part of it. Anything else (another graph, several classes, an isotonic calibration) is explained by
    random orders, in what is served (of several classes: the probability of the one that is asked about).

    Parameters
    ----------
    artifact
        The rows that travel with it, taken evenly from what it learned, are what a row is compared with.
    permutations
        Orders for a graph that has no exact method.
    """

    def __init__(self, artifact: Artifact, permutations: int = 64) -> None:
        self.scorer, self._permutations = OnnxScorer(artifact), permutations
        self.background = artifact.signature.parity_matrix()
        forest = self.scorer.forest
        line = _line(self.scorer.calibration)
        self._line = line or (1.0, 0.0)
        self._paths = TreePaths.of(forest) if forest is not None and line else None
        self._linear = _linear_parts(onnx.load_from_string(artifact.onnx).graph) if forest is None and line else None

    def explain(self, row: Matrix, answer: int = 0) -> Explanation:
        """Explain one encoded row.

        Parameters
        ----------
        row : shape (columns,), NaN where missing
        answer
            Of a multiclass model, the class whose probability is explained.
        """
        exact, (slope, offset) = np.zeros(len(row)), self._line
        forest = self.scorer.forest
        if forest is not None and self._paths is not None:
            base, found = forest_contributions(self._paths, row, self.background)
            unit = "log-odds" if forest.logistic else "score"
            return Explanation("tree", unit, slope * (base + forest.base) + offset, slope * found, exact)
        if self._linear is not None:
            means, slopes, bias, logistic = self._linear
            own, others = (np.where(np.isnan(rows), 0.0, (rows.astype(np.float64) - means) * slopes) for rows in (row, self.background))
            average = others.mean(axis=0)
            base = slope * (bias + float(average.sum())) + offset
            return Explanation("linear", "log-odds" if logistic else "score", base, slope * (own - average), exact)
        kind = self.scorer.kind
        base, found, errors = permutation_contributions(lambda rows: self._answer(rows, answer), row, self.background, self._permutations)
        return Explanation("permutations", "score" if kind.name == "regression" else "probability", base, found, errors)

    def _answer(self, rows: Matrix, answer: int) -> Float64:
        scores = self.scorer.score_matrix(rows)
        return scores[:, answer] if scores.ndim == 2 else scores


def _line(calibration: Calibration | None) -> tuple[float, float] | None:
    """Return slope and offset of a calibration on the scale that is explained; None when it is no line there."""
    if calibration is None:
        return 1.0, 0.0
    if calibration.link == "softmax" or calibration.knots:
        return None
    return calibration.slope, calibration.offsets[0]


def _linear_parts(graph: onnx.GraphProto) -> tuple[Float64, Float64, float, bool] | None:
    """Return means, slopes on the raw inputs, bias, and whether the sum becomes a probability; None unless the graph is our linear one."""
    operators = [node.op_type for node in graph.node]
    constants = {one.name: numpy_helper.to_array(one).astype(np.float64).ravel() for one in graph.initializer}
    if operators[:5] != _LINEAR or operators[5:] not in ([], ["Sigmoid"]) or not {"means", "scales", "weights", "bias"} <= set(constants):
        return None
    if len(constants["weights"]) != len(constants["means"]):
        return None
    return constants["means"], constants["weights"] / constants["scales"], float(constants["bias"][0]), operators[5:] == ["Sigmoid"]
