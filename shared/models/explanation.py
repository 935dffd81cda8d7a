"""Why a model gave a score: contributions of its inputs, by the method that is exact for it where there is one."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from tidemill.shared.models.additive_parts import Link, parts_of, row_sums
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.shapley import Explanation, Explanations, Unit, permutation_contributions

Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]
_ROUNDING, _EPSILON = 1e-4, 2.0**-22
"""How far a graph's 32-bit sum, relative to its size, and its 32-bit probability may be from what 64 bits give."""


class Explainer:
    """A loaded model that says what its scores are made of.

    Forests and linear models are explained exactly: in log-odds where they give a probability; of several classes in the margin of the one that is
    asked about, the logarithm of what its probability is proportional to. Slope and offset of a calibration that has nothing else are part of it. Any
    other graph, and any other calibration (isotonic lines), is explained by random orders, in what is served.

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
        graph, calibration = onnx.load_from_string(artifact.onnx).graph, artifact.signature.calibration
        parts = parts_of(graph, self.scorer.forest, len(self.scorer.kind.classes), self.background)
        self._parts = parts if parts is not None and _is_linear(calibration, parts.link) else None
        self._hindrance = "graph" if parts is None else "calibration"

    @property
    def hindrance(self) -> str | None:
        """What keeps the model from being explained exactly: its ``graph`` or its ``calibration``; None where nothing does."""
        return None if self._parts is not None else self._hindrance

    def explain(self, row: Matrix, answer: int = 0) -> Explanation:
        """Explain one encoded row.

        Parameters
        ----------
        row : shape (columns,), NaN where missing
        answer
            Of a multiclass model, the class that is asked about.

        Raises
        ------
        ArtifactError
            The graph answers something else than its parts add up to.
        """
        if self._parts is None:
            base, contributions, errors = permutation_contributions(
                lambda rows: self._answers(rows, [answer]), row, self.background, self._permutations
            )
            return Explanation("permutations", self._served_unit, base, contributions, errors)
        one = self.explain_rows(row[None], [answer])
        if not one.adds_up[0]:
            version, value = self.scorer.signature.version, float(one.base[0] + one.contributions[0].sum())
            raise ArtifactError(f"model {version}: expected parts that add up to the answer {one.scores[0]:.9g}, found {value:.9g} ({one.unit})")
        return Explanation(one.method, one.unit, float(one.base[0]), one.contributions[0], np.zeros(len(row)))

    def explain_rows(self, matrix: Matrix, answers: Sequence[int]) -> Explanations:
        """Explain encoded rows of a model that nothing hinders, each as it would be alone, bit for bit.

        Parameters
        ----------
        matrix : shape (n, columns), NaN where missing
        answers
            As of `explain`, one for each row.

        Raises
        ------
        ValueError
            The model has no exact method (`hindrance`).
        """
        parts = self._parts
        if parts is None:
            raise ValueError(f"expected a model that is explained exactly, its {self._hindrance} is not")
        asked = np.asarray(answers) if self.scorer.kind.classes else np.zeros(len(matrix), np.int64)
        base, contributions = np.empty(len(matrix)), np.empty(matrix.shape)
        for output in np.unique(asked).tolist():
            rows = np.flatnonzero(asked == output)
            slope, offset = _line(self.scorer.calibration, output)
            mean, own = parts.parts(matrix[rows], output)
            base[rows], contributions[rows] = slope * mean + offset, slope * own
        values, scores = base + row_sums(contributions), self._answers(matrix, asked.tolist())
        if parts.link == "softmax":
            served, adds_up = self._margins(parts.sums(matrix), matrix, asked, values)
        else:
            served, adds_up = self._sums(parts.link, values, scores)
        units: dict[Link, Unit] = {"logit": "log-odds", "softmax": "margin", "identity": self._served_unit}
        return Explanations(parts.method, units[parts.link], base + (served - values), contributions, scores, adds_up)

    @property
    def _served_unit(self) -> Unit:
        return "score" if self.scorer.kind.name == "regression" else "probability"

    def _sums(self, link: Link, values: Float64, scores: Float64) -> tuple[Float64, NDArray[np.bool_]]:
        """Return what the scores were made of, and whether it is what the parts add up to; the graph's 32 bits lie between them."""
        slope, offset = _line(self.scorer.calibration, 0)
        if link != "logit":
            return scores.copy(), np.abs(scores - values) <= slope * _ROUNDING * (1.0 + np.abs(values / slope))
        # A score that is rounded to 0 or 1 has no log-odds: the sum says more than it.
        has_odds = (scores > 0.0) & (scores < 1.0)
        served = values.copy()
        served[has_odds] = [math.log(score) - math.log1p(-score) for score in scores[has_odds].tolist()]
        # The sum and the probability are rounded in the graph, before a calibration. Close to 0 or 1 what the latter loses is any number of log-odds.
        sums, answered = (values - offset) / slope, _logistic((served - offset) / slope)
        off = _ROUNDING * (1.0 + np.abs(sums))
        return served, (_logistic(sums - off) - _EPSILON <= answered) & (answered <= _logistic(sums + off) + _EPSILON)

    def _margins(self, sums: Float64, matrix: Matrix, asked: NDArray[np.int64], values: Float64) -> tuple[Float64, NDArray[np.bool_]]:
        """Return the margins of the classes that are asked about, and whether they and the others' give the served probabilities."""
        calibration = self.scorer.calibration
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        graph = powers / powers.sum(axis=1, keepdims=True)
        expected = graph if calibration is None else calibration.apply(graph)
        given, rows = self.scorer.score_matrix(matrix), np.arange(len(matrix))
        slopes, offsets = zip(*(_line(calibration, output) for output in asked.tolist()), strict=True) if len(asked) else ((), ())
        margins = np.array(slopes) * sums[rows, asked] + np.array(offsets)
        slope = 1.0 if calibration is None else calibration.slope
        close = np.abs(expected - given).max(axis=1, initial=0.0) <= max(1.0, slope) * _ROUNDING
        return margins, close & (np.abs(margins - values) <= slope * _ROUNDING * (1.0 + np.abs(values)))

    def _answers(self, rows: Matrix, answers: Sequence[int]) -> Float64:
        """Return scores, of several classes those of the ones that are asked about (one for all rows, or one for each)."""
        scores = self.scorer.score_matrix(rows)
        return scores[np.arange(len(rows)), np.asarray(answers, np.int64)] if scores.ndim == 2 else scores


def _logistic(log_odds: Float64) -> Float64:
    return np.asarray(np.exp(-np.logaddexp(0.0, -log_odds)))


def _is_linear(calibration: Calibration | None, link: Link) -> bool:
    """Whether a calibration only stretches and moves the sums that a graph makes."""
    return calibration is None or (not calibration.knots and calibration.link == link)


def _line(calibration: Calibration | None, output: int) -> tuple[float, float]:
    """Return slope and offset of an output."""
    return (1.0, 0.0) if calibration is None else (calibration.slope, calibration.offsets[output])
