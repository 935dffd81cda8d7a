"""Training as a pure function: labelled rows and a seed in; a recipe, the model of it that is judged, and the one that serves, out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.services.retraining.domain.calibrating import composed
from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.enough_rows import check_rows
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.expected_errors import fit_errors, has_enough, held_out_errors, with_answers
from tidemill.services.retraining.domain.families.family import Matrix, Scores
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.flipped_labels import LEFT_OUT, written
from tidemill.services.retraining.domain.held_out import CLASS_WEIGHT, calibration_of, interval_of
from tidemill.services.retraining.domain.kept_answers import FitAnswers, anew
from tidemill.services.retraining.domain.steps import TrainingObserver, nobody
from tidemill.shared.application.families import is_own
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.error_model import ErrorModel
from tidemill.shared.models.signature import Signature
from tidemill.shared.statistics.propensity import Weights, of_rows

_PARITY_ROWS = 100
_PARITY, _PARITY_OF_NUMBERS, _PARITY_OF_OTHERS = 1e-6, 3e-6, 1e-5
"""How far a graph's 32 bits may be from the library's score: a probability; a number in standard units, whose sums grow above 1 (boosted
trees: 1.8e-6 over 120 trees of 48 leaves); estimators of an application's own, of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search found, and a model made by it.

    Attributes
    ----------
    artifact
        Learned from labels known before the gate's rows were asked about, so that those can judge it.
    parameters, threshold, left_out, figures, trials
        As in `Found`.
    """

    artifact: Artifact
    parameters: Mapping[str, Any]
    threshold: float
    left_out: str
    figures: Mapping[str, float]
    trials: Sequence[Mapping[str, Any]] = ()


def train(
    examples: Examples,
    split: Split,
    model: str,
    version: str,
    training: Training,
    kind: Kind,
    told: TrainingObserver = nobody,
    kept: FitAnswers = anew,
) -> Candidate:
    """Search, refit on everything known before the gate, export: the model that is judged. The refit takes all rows of the chosen window.

    Raises
    ------
    TooFewRowsError
        As in `search`, or fewer than `training.min_positives` of a class to refit on.
    FamilyError
        A family cannot learn this.
    """
    # Loaded when needed: optuna takes half a second, and a refit searches nothing.
    from tidemill.services.retraining.domain.search import search

    result = search(examples, split, training, kind, told=told, kept=kept)
    artifact = fit_at(examples, split, split.gate_start, result.parameters, result.threshold, model, version, training, kind)
    figures = {**result.figures, "training_rows": float(artifact.signature.details["learned_rows"])}
    return Candidate(artifact, result.parameters, result.threshold, result.left_out, figures, result.trials)


def refit(examples: Examples, split: Split, candidate: Candidate, training: Training, kind: Kind) -> Artifact:
    """Fit a judged recipe once more, on everything known at the split's end, the rows it was judged on included: the model that serves.

    Of the two fits only the other can be judged. This one knows one or two weeks more, in which what asked for the training may have happened.
    Its signature says which requests judged (``judged_from_ms``, ``judged_until_ms``) and what taught (``learned_until_ms``, ``learned_rows``).
    """
    judged = candidate.artifact.signature
    details = {"judged_from_ms": str(split.gate_start), "judged_until_ms": str(split.gate_end), "known_until_ms": str(split.end)}
    return fit_at(examples, split, split.end, candidate.parameters, candidate.threshold, judged.model, judged.version, training, kind, details)


def fit_at(
    examples: Examples,
    split: Split,
    end_ms: int,
    parameters: Mapping[str, Any],
    threshold: float,
    model: str,
    version: str,
    training: Training,
    kind: Kind,
    details: Mapping[str, str] | None = None,
) -> Artifact:
    """Fit parameters on what was known at an instant, of all rows of their window.

    Raises
    ------
    TooFewRowsError
        Fewer than `training.min_positives` of a class.
    FamilyError
        The family cannot learn this.
    """
    rows = split.learning(examples.where(kind.is_label(examples.labels)), end_ms, parameters["window_days"])
    check_rows(rows, 1, training, kind, "refit")
    learned = {"learned_until_ms": str(split.learned_until(end_ms)), **(details or {})}
    if rows.left_out:
        learned[LEFT_OUT] = written(rows.left_out)
    encoding = encode(rows.features, rows.labels, rows.request_ms, kind, rows.weights)
    matrix = encoding.matrix
    weights = None if rows.weights is None else rows.weights / rows.weights.mean()
    fitted = fit(matrix, rows.labels, kind, parameters, training.seed, weights, parameters.get(CLASS_WEIGHT, "none"))
    calibration, interval = composed(fitted.calibration, calibration_of(parameters)), interval_of(parameters)
    sample = matrix[:: max(1, len(matrix) // _PARITY_ROWS)][:_PARITY_ROWS]
    scores = fitted.raw(sample)
    scores = scores if calibration is None else calibration.apply(scores)
    signature = Signature(
        model=model,
        version=version,
        family=parameters["family"],
        columns=encoding.columns,
        kind=kind.name,
        classes=kind.classes,
        threshold=threshold,
        parity_rows=tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in sample),
        parity_scores=scores.tolist(),
        parity_tolerance=_tolerance(kind, parameters["family"], calibration),
        calibration=calibration,
        interval_lower=None if interval is None else interval[0],
        interval_upper=None if interval is None else interval[1],
        errors=_errors(rows, matrix, weights, kind, parameters, training.seed, (sample, scores)) if kind.name == "regression" else None,
        details={**learned, "learned_rows": str(len(rows)), **{name: str(value) for name, value in parameters.items()}},
    )
    return Artifact(signature, fitted.export(), fitted.text())


def _errors(
    rows: Examples,
    matrix: Matrix,
    weights: Weights,
    kind: Kind,
    parameters: Mapping[str, Any],
    seed: int,
    parity: tuple[Matrix, Scores],
) -> ErrorModel | None:
    """Return the model of this recipe's errors, on the last two fifths of its rows by fits that had not seen them; None if they are too few."""
    order = np.argsort(rows.request_ms, kind="stable")
    ordered, labels, own = matrix[order], rows.labels[order], of_rows(weights, order)

    def learn(part: slice) -> Callable[[Matrix], Scores]:
        return fit(ordered[part], labels[part], kind, parameters, seed, of_rows(own, part)).predict

    if not has_enough(len(labels)):
        return None
    return fit_errors(held_out_errors(ordered, labels, own, learn), with_answers(*parity), seed)


def _tolerance(kind: Kind, family: str, calibration: Calibration | None) -> float:
    """Return how far two computations of a served score may differ: what they may differ by before the calibration, times its steepness."""
    numbers = kind.name == "regression"
    own = _PARITY_OF_OTHERS if is_own(family) else _PARITY_OF_NUMBERS if numbers else _PARITY
    steepness = 1.0 if calibration is None else calibration.steepness
    return own * (steepness if numbers else max(1.0, steepness))
