"""Why a model gave a score: contributions of its inputs, by the method that is exact for it where there is one."""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.shapley import Explanation, Method, Unit, forest_contributions, permutation_contributions
from tidemill.shared.models.tree_paths import TreePaths

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
_LINEAR = ["IsNaN", "Where", "Sub", "Div", "Gemm"]
_ROUNDING, _EPSILON = 1e-4, 2.0**-22
"""How far a graph's 32-bit sum, relative to its size, and its 32-bit probability may be from what 64 bits give."""


class Explainer:
    """A loaded model that says what its scores are made of.

    Forests and linear models are explained exactly, in log-odds where they give a probability, with slope and offset of a calibration that has
    nothing else. Any other graph, and any other calibration (isotonic lines, softmax), is explained by random orders, in what is served (of several
    classes: the probability of the one that is asked about).

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
        linear = _linear_parts(onnx.load_from_string(artifact.onnx).graph) if forest is None else None
        logistic = forest.logistic if forest is not None else linear is not None and linear[3]
        exact = _is_linear(artifact.signature.calibration, logistic)
        self._paths = TreePaths.of(forest) if forest is not None and exact else None
        self._linear = linear if exact else None

    def explain(self, row: Matrix, answer: int = 0) -> Explanation:
        """Explain one encoded row.

        Parameters
        ----------
        row : shape (columns,), NaN where missing
        answer
            Of a multiclass model, the class whose probability is explained.

        Raises
        ------
        ArtifactError
            The graph answers something else than its parts add up to.
        """
        forest = self.scorer.forest
        if forest is not None and self._paths is not None:
            base, found = forest_contributions(self._paths, row, self.background)
            return self._served("tree", forest.logistic, base + forest.base, found, row)
        if self._linear is not None:
            means, slopes, bias, logistic = self._linear
            own, others = (np.where(np.isnan(rows), 0.0, (rows.astype(np.float64) - means) * slopes) for rows in (row, self.background))
            average = others.mean(axis=0)
            return self._served("linear", logistic, bias + float(average.sum()), own - average, row)
        base, found, errors = permutation_contributions(lambda rows: self._answer(rows, answer), row, self.background, self._permutations)
        return Explanation("permutations", self._unit, base, found, errors)

    @property
    def _unit(self) -> Unit:
        return "score" if self.scorer.kind.name == "regression" else "probability"

    def _served(self, method: Method, logistic: bool, base: float, contributions: Float64, row: Matrix) -> Explanation:
        """Take a sum over to the served scale; what the graph's 32 bits round off goes to the base."""
        calibration = self.scorer.calibration
        slope, offset = (1.0, 0.0) if calibration is None else (calibration.slope, calibration.offsets[0])
        base, contributions = slope * base + offset, slope * contributions
        value = base + float(contributions.sum())
        served = float(self.scorer.score_matrix(row[None])[0])
        # A score that is rounded to 0 or 1 has no log-odds: the sum says more than it.
        if logistic and 0.0 < served < 1.0:
            rounding = slope * _ROUNDING * (1.0 + abs(value)) + max(1.0, slope) * _EPSILON / (served * (1.0 - served))
            served = math.log(served) - math.log1p(-served)
        elif logistic:
            served = value
        else:
            rounding = slope * _ROUNDING * (1.0 + abs(value / slope))
        if served != value and not abs(served - value) <= rounding:
            version = self.scorer.signature.version
            raise ArtifactError(f"model {version}: expected parts that add up to the answer {served:.9g}, found {value:.9g}")
        unit: Unit = "log-odds" if logistic else self._unit
        return Explanation(method, unit, base + (served - value), contributions, np.zeros(len(row)))

    def _answer(self, rows: Matrix, answer: int) -> Float64:
        scores = self.scorer.score_matrix(rows)
        return scores[:, answer] if scores.ndim == 2 else scores


def _is_linear(calibration: Calibration | None, logistic: bool) -> bool:
    """Whether a calibration only stretches and moves the sum that a graph makes."""
    if calibration is None:
        return True
    return not calibration.knots and calibration.link == ("logit" if logistic else "identity")


def _linear_parts(graph: onnx.GraphProto) -> tuple[Float64, Float64, float, bool] | None:
    """Return means, slopes on the raw inputs, bias, and whether the sum becomes a probability; None unless the graph is our linear one."""
    operators = [node.op_type for node in graph.node]
    constants = {one.name: numpy_helper.to_array(one).astype(np.float64).ravel() for one in graph.initializer}
    if operators[:5] != _LINEAR or operators[5:] not in ([], ["Sigmoid"]) or not {"means", "scales", "weights", "bias"} <= set(constants):
        return None
    if len(constants["weights"]) != len(constants["means"]):
        return None
    return constants["means"], constants["weights"] / constants["scales"], float(constants["bias"][0]), operators[5:] == ["Sigmoid"]
