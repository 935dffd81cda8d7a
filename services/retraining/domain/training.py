"""Training as a pure function: labelled rows and a seed in; a recipe, the model of it that is judged, and the one that serves, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from tidemill.services.retraining.domain.calibrating import choose_calibration, composed
from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.families.registry import suggest
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.held_out import CALIBRATION, CLASS_WEIGHT, INTERVAL, calibration_of, interval_of, residual_interval
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.shared.application.families import families_of
from tidemill.shared.application.model import Training
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.signature import Signature

_SEARCH_ROWS = 25_000
_PARITY_ROWS = 32
_PARITY_TOLERANCE = 1e-5
_NO_THRESHOLD = 0.5
_GENERAL = ("family", "window_days")


class TooFewRowsError(ValueError):
    """There is not enough to learn from, or to judge by."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes
    ----------
    parameters, threshold
        The best by validation loss, with what its held-out scores say (`held_out`), and the score from which a binary model answers yes.
    left_out
        Windows of history that were not tried for want of a class; empty when all were.
    figures
        Of the validation.
    """

    parameters: Mapping[str, Any]
    threshold: float
    left_out: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search found, and a model made by it.

    Attributes
    ----------
    artifact
        Learned from labels known before the gate's rows were asked about, so that those can judge it.
    parameters, threshold, left_out, figures
        As in `Found`.
    """

    artifact: Artifact
    parameters: Mapping[str, Any]
    threshold: float
    left_out: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Window:
    """What a trial learns from, and the validation rows as its model would be given them: encoded as the refit encodes."""

    matrix: NDArray[np.float32]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]
    asked: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Examples, validation: Examples, kind: Kind) -> "_Window":
        encoding = encode(rows.features, rows.labels, rows.request_ms, kind)
        signature = Signature(model="", version="", family="", columns=encoding.columns, threshold=0.5, parity_rows=(), parity_scores=())
        kept, weights = rows.thinning(_SEARCH_ROWS, kind)
        return cls(encoding.matrix[kept], rows.labels[kept], weights, signature.encode(validation.features))


def search(examples: Examples, split: Split, training: Training, kind: Kind, known: Mapping[str, Any] | None = None) -> Found:
    """Search and choose by validation loss, before the gate's rows were asked about.

    Rows whose label is none of the kind teach nothing and are left out. A trial learns from no more than 25,000 rows.

    Parameters
    ----------
    known
        Parameters of a recipe that is tried as well: what serves now. When it is the best, it is found as it was.

    Raises
    ------
    TooFewRowsError
        Fewer than `training.min_rows` rows to search on, or fewer than `training.min_positives` of a class to search or validate on.
    FamilyError
        A family cannot learn this.
    """
    labelled = kind.is_label(examples.labels)
    examples = examples if labelled.all() else examples.where(labelled)
    early = split.learning(examples, split.validation_start, 0)
    validation = split.validation(examples)
    _check(early, training.min_rows, training, kind, "training")
    _check_validation(validation, training, kind)
    drawn = {days: split.learning(early, split.validation_start, days) for days in training.windows_days}
    lacking = {days: kind.lack(rows.labels, training.min_positives) for days, rows in drawn.items()}
    windows = {days: _Window.of(rows, validation, kind) for days, rows in drawn.items() if not lacking[days]}
    if not windows:
        raise TooFewRowsError(f"expected a window of history with enough of each class, found {_words(lacking)}")
    families = families_of(training.families, kind.name)
    weighing = {CLASS_WEIGHT: training.class_weight} if training.class_weight != "none" and kind.name != "regression" else {}
    recipes: dict[int, dict[str, Any]] = {}
    answers: dict[int, NDArray[np.float64]] = {}

    def trial_loss(trial: Any) -> float:  # noqa: ANN401, RUF100 - optuna is untyped
        parameters = recipes[trial.number] = {**suggest(trial, families, tuple(windows)), **weighing}
        window = windows[parameters["window_days"]]
        model = fit(window.matrix, window.labels, kind, parameters, training.seed, window.weights, training.class_weight)
        answers[trial.number] = model.predict(window.asked)
        return float(kind.losses(validation.labels, answers[trial.number]).mean())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=training.seed, n_startup_trials=max(2, training.trials // 2)))
    for family in families:
        study.enqueue_trial({"family": family})
    again = known is not None and known["family"] in families and known["window_days"] in windows
    if known is not None and again:
        study.enqueue_trial({name if name in _GENERAL else f"{known['family']}.{name}": value for name, value in _drawn(known).items()})
    study.optimize(trial_loss, n_trials=training.trials + again)
    best = study.best_trial.number
    scores = answers[best]
    figures = {"validation_loss": float(study.best_value), "validation_rows": float(len(validation)), "trials": float(len(study.trials))}
    if known is not None and _drawn(known) == _drawn(recipes[best]) and known.get(CLASS_WEIGHT) == recipes[best].get(CLASS_WEIGHT):
        parameters, calibration = dict(known), calibration_of(known)
        scores = scores if calibration is None else calibration.apply(scores)
    else:
        choice = choose_calibration(kind, validation.labels, scores, validation.request_ms, bool(weighing))
        scores = scores if choice.calibration is None else choice.calibration.apply(scores)
        parameters = {**recipes[best], **({} if choice.calibration is None else {CALIBRATION: choice.calibration.model_dump_json()})}
        parameters |= {INTERVAL: residual_interval(validation.labels, scores)} if kind.name == "regression" else {}
        figures["calibration_gain"] = choice.gain
    threshold = best_threshold(validation.labels, scores) if kind.name == "binary" else _NO_THRESHOLD
    figures |= {f"validation_{name}": value for name, value in kind.figures(validation.labels, scores, kind.decide(scores, threshold)).items()}
    return Found(parameters, threshold, _words({days: words for days, words in lacking.items() if words}), figures)


def train(examples: Examples, split: Split, model: str, version: str, training: Training, kind: Kind) -> Candidate:
    """Search, refit on everything known before the gate, export: the model that is judged. The refit takes all rows of the chosen window.

    Raises
    ------
    TooFewRowsError
        As in `search`, or fewer than `training.min_positives` of a class to refit on.
    FamilyError
        A family cannot learn this.
    """
    found = search(examples, split, training, kind)
    artifact = fit_at(examples, split, split.gate_start, found.parameters, found.threshold, model, version, training, kind)
    figures = {**found.figures, "training_rows": float(artifact.signature.details["learned_rows"])}
    return Candidate(artifact, found.parameters, found.threshold, found.left_out, figures)


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
    _check(rows, 1, training, kind, "refit")
    learned = {"learned_until_ms": str(split.learned_until(end_ms)), **(details or {})}
    encoding = encode(rows.features, rows.labels, rows.request_ms, kind)
    matrix = encoding.matrix
    fitted = fit(matrix, rows.labels, kind, parameters, training.seed, class_weight=parameters.get(CLASS_WEIGHT, "none"))
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
        parity_tolerance=_tolerance(calibration),
        calibration=calibration,
        interval_lower=None if interval is None else interval[0],
        interval_upper=None if interval is None else interval[1],
        details={**learned, "learned_rows": str(len(rows)), **{name: str(value) for name, value in parameters.items()}},
    )
    return Artifact(signature, fitted.export())


def _tolerance(calibration: Calibration | None) -> float:
    """Return how far two computations of a served score may differ: what they may differ by before the calibration, times its steepness."""
    return _PARITY_TOLERANCE * (1.0 if calibration is None else max(1.0, calibration.steepness))


def _drawn(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search draws of a recipe."""
    return {name: value for name, value in parameters.items() if name not in (CALIBRATION, INTERVAL, CLASS_WEIGHT)}


def _check(rows: Examples, least: int, training: Training, kind: Kind, what: str) -> None:
    if len(rows) < least:
        raise TooFewRowsError(f"expected at least {least} {what} rows, found {len(rows)}")
    if lack := kind.lack(rows.labels, training.min_positives):
        words = {"binary": "both classes", "multiclass": "all classes", "regression": "enough labels"}[kind.name]
        raise TooFewRowsError(f"expected {words} among the {what} rows, found {lack}")


def _check_validation(rows: Examples, training: Training, kind: Kind) -> None:
    """A rare class of several may be absent in a week: the loss of the others is one all the same. One class alone compares nothing."""
    if kind.name != "multiclass":
        return _check(rows, 1, training, kind, "validation")
    counts = np.bincount(rows.labels.astype(np.int64), minlength=kind.width)
    if (counts >= training.min_positives).sum() < 2:
        found = ", ".join(f"{count} {name}" for name, count in zip(kind.classes, counts.tolist(), strict=True))
        raise TooFewRowsError(f"expected {training.min_positives} validation rows of two classes or more, found {found}")
    return None


def _words(lacking: Mapping[int, str]) -> str:
    return "; ".join(f"{f'{days} days' if days else 'all history'}: {words}" for days, words in lacking.items())
