"""Training as a pure function: labelled rows and a seed in; a recipe, the model of it that is judged, and the one that serves, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from tidemill.services.retraining.domain.encoding import encode
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.families.registry import suggest
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.shared.application.families import families_of
from tidemill.shared.application.model import Training
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.models.signature import Signature
from tidemill.shared.statistics.metrics import log_loss, roc_auc

_SEARCH_ROWS = 25_000
_PARITY_ROWS = 32
_PARITY_TOLERANCE = 1e-5


class TooFewRowsError(ValueError):
    """There is not enough to learn from, or to judge by."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes
    ----------
    parameters, threshold
        The best by validation log loss, and the score from which it answers yes.
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
    def of(cls, rows: Examples, validation: Examples) -> "_Window":
        encoding = encode(rows.features, rows.labels, rows.request_ms)
        signature = Signature(model="", version="", family="", columns=encoding.columns, threshold=0.5, parity_rows=(), parity_scores=())
        kept, weights = rows.thinning(_SEARCH_ROWS)
        return cls(encoding.matrix[kept], rows.labels[kept], weights, signature.encode(validation.features))


def search(examples: Examples, split: Split, training: Training, known: Mapping[str, Any] | None = None) -> Found:
    """Search and choose by validation log loss, before the gate's rows were asked about.

    Rows whose label is neither 0 nor 1 teach nothing and are left out. A trial learns from no more than 25,000 rows.

    Parameters
    ----------
    known
        Parameters of a recipe that is tried as well: what serves now.

    Raises
    ------
    TooFewRowsError
        Fewer than `training.min_rows` rows to search on, or fewer than `training.min_positives` of a class to search or validate on.
    """
    judged = np.isin(examples.labels, (0.0, 1.0))
    examples = examples if judged.all() else examples.where(judged)
    early = split.learning(examples, split.validation_start, 0)
    validation = split.validation(examples)
    _check(early, training.min_rows, training, "training")
    _check(validation, 1, training, "validation")
    drawn = {days: split.learning(early, split.validation_start, days) for days in training.windows_days}
    lacking = {days: rows.lack(training.min_positives) for days, rows in drawn.items()}
    windows = {days: _Window.of(rows, validation) for days, rows in drawn.items() if not lacking[days]}
    if not windows:
        raise TooFewRowsError(f"expected a window of history with enough of each class, found {_words(lacking)}")
    recipes: dict[int, dict[str, Any]] = {}
    kind, families = Binary(), families_of(training.families, "binary")
    thresholds: dict[int, float] = {}
    losses: dict[int, float] = {}
    aucs: dict[int, float] = {}

    def trial_loss(trial: Any) -> float:  # noqa: ANN401, RUF100 - optuna is untyped
        parameters = recipes[trial.number] = suggest(trial, families, tuple(windows))
        window = windows[parameters["window_days"]]
        scores = fit(window.matrix, window.labels, kind, parameters, training.seed, window.weights).predict(window.asked)
        losses[trial.number] = log_loss(validation.labels, scores)
        aucs[trial.number] = roc_auc(validation.labels, scores)
        thresholds[trial.number] = best_threshold(validation.labels, scores)
        return losses[trial.number]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=training.seed, n_startup_trials=max(2, training.trials // 2)))
    for family in families:
        study.enqueue_trial({"family": family})
    again = known is not None and known["family"] in families and known["window_days"] in windows
    if known is not None and again:
        general = ("family", "window_days")
        study.enqueue_trial({name if name in general else f"{known['family']}.{name}": value for name, value in known.items()})
    study.optimize(trial_loss, n_trials=training.trials + again)
    best = study.best_trial
    left_out = _words({days: words for days, words in lacking.items() if words})
    return Found(recipes[best.number], thresholds[best.number], left_out, {
        "validation_log_loss": losses[best.number],
        "validation_auc": aucs[best.number],
        "validation_rows": float(len(validation)),
        "trials": float(len(study.trials)),
    })  # fmt: skip


def train(examples: Examples, split: Split, model: str, version: str, training: Training) -> Candidate:
    """Search, refit on everything known before the gate, export: the model that is judged. The refit takes all rows of the chosen window.

    Raises
    ------
    TooFewRowsError
        As in `search`, or fewer than `training.min_positives` of a class to refit on.
    """
    found = search(examples, split, training)
    artifact = fit_at(examples, split, split.gate_start, found.parameters, found.threshold, model, version, training)
    figures = {**found.figures, "training_rows": float(artifact.signature.details["learned_rows"])}
    return Candidate(artifact, found.parameters, found.threshold, found.left_out, figures)


def refit(examples: Examples, split: Split, candidate: Candidate, training: Training) -> Artifact:
    """Fit a judged recipe once more, on everything known at the split's end, the rows it was judged on included: the model that serves.

    Of the two fits only the other can be judged. This one knows one or two weeks more, in which what asked for the training may have happened.
    Its signature says which requests judged (``judged_from_ms``, ``judged_until_ms``) and what taught (``learned_until_ms``, ``learned_rows``).
    """
    judged = candidate.artifact.signature
    details = {"judged_from_ms": str(split.gate_start), "judged_until_ms": str(split.gate_end), "known_until_ms": str(split.end)}
    return fit_at(examples, split, split.end, candidate.parameters, candidate.threshold, judged.model, judged.version, training, details)


def fit_at(
    examples: Examples,
    split: Split,
    end_ms: int,
    parameters: Mapping[str, Any],
    threshold: float,
    model: str,
    version: str,
    training: Training,
    details: Mapping[str, str] | None = None,
) -> Artifact:
    """Fit parameters on what was known at an instant, of all rows of their window.

    Raises
    ------
    TooFewRowsError
        Fewer than `training.min_positives` of a class.
    """
    known = examples.where(np.isin(examples.labels, (0.0, 1.0)))
    rows = split.learning(known, end_ms, parameters["window_days"])
    _check(rows, 1, training, "refit")
    learned = {"learned_until_ms": str(split.learned_until(end_ms)), **(details or {})}
    return _fitted(rows, model, version, training, parameters, threshold, learned)


def _fitted(
    rows: Examples,
    model: str,
    version: str,
    training: Training,
    parameters: Mapping[str, Any],
    threshold: float,
    details: Mapping[str, str],
) -> Artifact:
    encoding = encode(rows.features, rows.labels, rows.request_ms)
    matrix = encoding.matrix
    fitted = fit(matrix, rows.labels, Binary(), parameters, training.seed)
    sample = matrix[:: max(1, len(matrix) // _PARITY_ROWS)][:_PARITY_ROWS]
    signature = Signature(
        model=model,
        version=version,
        family=parameters["family"],
        columns=encoding.columns,
        threshold=threshold,
        parity_rows=tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in sample),
        parity_scores=tuple(fitted.predict(sample).tolist()),
        parity_tolerance=_PARITY_TOLERANCE,
        details={**details, "learned_rows": str(len(rows)), **{name: str(value) for name, value in parameters.items()}},
    )
    return Artifact(signature, fitted.export())


def _check(rows: Examples, least: int, training: Training, what: str) -> None:
    if len(rows) < least:
        raise TooFewRowsError(f"expected at least {least} {what} rows, found {len(rows)}")
    if lack := rows.lack(training.min_positives):
        raise TooFewRowsError(f"expected both classes among the {what} rows, found {lack}")


def _words(lacking: Mapping[int, str]) -> str:
    return "; ".join(f"{f'{days} days' if days else 'all history'}: {words}" for days, words in lacking.items())
