"""The search of a recipe: what is drawn, and what is found by validation loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from tidemill.services.retraining.domain.calibrating import choose_calibration
from tidemill.services.retraining.domain.enough_rows import window_words
from tidemill.services.retraining.domain.examples import Examples, Split
from tidemill.services.retraining.domain.families.family import Scores
from tidemill.services.retraining.domain.families.registry import suggest
from tidemill.services.retraining.domain.fitting import fit
from tidemill.services.retraining.domain.held_out import CALIBRATION, CLASS_WEIGHT, INTERVAL, calibration_of, residual_interval
from tidemill.services.retraining.domain.kept_answers import FitAnswers, anew, identity_of
from tidemill.services.retraining.domain.steps import TrainingObserver, nobody
from tidemill.services.retraining.domain.stretches import LearningWindow, Stretches
from tidemill.services.retraining.domain.threshold import best_threshold
from tidemill.shared.application.families import families_of
from tidemill.shared.application.training_policy import Training
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.statistics.propensity import weighted_mean

_KEPT_OF = 2
_NO_THRESHOLD = 0.5
_GENERAL = ("family", "window_days")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    parameters, threshold
        The best by validation loss, with what its held-out scores say (`held_out`), and the score from which a binary model answers yes.
    left_out
        Windows of history that were not tried for want of a class; empty when all were.
    figures
        Of the validation.
    trials
        Every trial: number, state, parameters, and the loss over the stretches so far after each of them.
    """

    parameters: Mapping[str, Any]
    threshold: float
    left_out: str
    figures: Mapping[str, float]
    trials: Sequence[Mapping[str, Any]] = ()


def search(
    examples: Examples,
    split: Split,
    training: Training,
    kind: Kind,
    known: Mapping[str, Any] | None = None,
    told: TrainingObserver = nobody,
    kept: FitAnswers = anew,
) -> SearchResult:
    """Search and choose by validation loss, before the gate's rows were asked about.

    Recipes are compared on up to three stretches of `training.holdout_days`, the newest first, each by a model that learned what was known when it
    began, without the requests of the label horizon before it (`Stretches`). A recipe that is not in the better half of those so far after one or two
    stretches is given up. Rows whose label is none of the kind teach nothing and are left out.

    Parameters
    ----------
    known
        Parameters of a recipe that is tried first: what serves now. When it is the best, it is found as it was.
    told
        Of each trial that begins.
    kept
        Answers of fits that an attempt before has made. Every trial is drawn and judged again, in its order, so the result is that of a search which
        nothing ended.

    Raises
    ------
    TooFewRowsError
        Fewer than `training.min_rows` rows to search on, or fewer than `training.min_positives` of a class to search or validate on.
    FamilyError
        A family cannot learn this.

    References
    ----------
    Li et al.: A system for massively parallel hyperparameter tuning. MLSys 2020 (successive halving without waiting).
    """
    labelled = kind.is_label(examples.labels)
    stretches = Stretches(examples if labelled.all() else examples.where(labelled), split, training, kind)
    families = families_of(training.families, kind.name)
    again = known is not None and known["family"] in families and known["window_days"] in stretches.windows
    trials = _Trials(stretches, training, kind, families, training.trials + again, told, kept)
    study = _study(training)
    if known is not None and again:
        study.enqueue_trial({name if name in _GENERAL else f"{known['family']}.{name}": value for name, value in _drawn(known).items()})
    for family in families:
        study.enqueue_trial({"family": family})
    study.optimize(trials.loss, n_trials=trials.count)
    best = study.best_trial.number
    figures = {
        "validation_loss": float(study.best_value),
        "validation_rows": float(len(stretches.labels)),
        "validation_folds": float(len(stretches.validations)),
        "trials": float(len(study.trials)),
        "trials_pruned": float(sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)),
        "fits": float(sum(map(len, trials.answers.values()))),
    }
    parameters, scores, gain = _calibrated(stretches, kind, trials.recipes[best], np.concatenate(trials.answers[best]), known)
    figures |= {} if gain is None else {"calibration_gain": gain}
    labels, weights = stretches.labels, stretches.weights
    threshold = best_threshold(labels, scores, weights) if kind.name == "binary" else _NO_THRESHOLD
    validated = kind.figures(labels, scores, kind.decide(scores, threshold), weights)
    figures |= {f"validation_{name}": value for name, value in validated.items()}
    return SearchResult(parameters, threshold, window_words(stretches.lacking), figures, trials.described(study))


@dataclass(frozen=True, slots=True)
class _Trials:
    """The trials of one search, in their order: the recipe that each has drawn, and what its fits answered on the stretches so far."""

    stretches: Stretches
    training: Training
    kind: Kind
    families: Sequence[str]
    count: int
    told: TrainingObserver
    kept: FitAnswers
    recipes: dict[int, dict[str, Any]] = field(default_factory=dict)
    answers: dict[int, list[Scores]] = field(default_factory=dict)

    def loss(self, trial: Any) -> float:  # optuna is untyped
        """Return a trial's loss over the stretches, which the pruner may cut short."""
        stretches, training, kind = self.stretches, self.training, self.kind
        self.told("searching", trial.number, self.count)
        weighing = {CLASS_WEIGHT: training.class_weight} if training.class_weight != "none" and kind.name != "regression" else {}
        parameters = self.recipes[trial.number] = {**suggest(trial, self.families, stretches.windows), **weighing}
        losses: list[NDArray[np.float64]] = []
        loss = np.nan
        mine = self.answers[trial.number] = []
        for fold, rows in enumerate(stretches.validations):
            window = stretches.window(fold, parameters["window_days"])
            identity = partial(identity_of, window, kind, parameters, training.seed, training.class_weight)
            mine.append(self.kept(identity, partial(self._answers_of, window, parameters)))
            losses.append(kind.losses(rows.labels, mine[-1]))
            so_far = np.concatenate(losses)
            loss = weighted_mean(so_far, None if stretches.weights is None else stretches.weights[: len(so_far)])
            trial.report(loss, fold + 1)
            if fold + 1 < len(stretches.validations) and trial.should_prune():
                raise optuna.TrialPruned
        return loss

    def described(self, study: optuna.Study) -> list[dict[str, Any]]:
        """Return what is told of every trial."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "parameters": self.recipes.get(trial.number, {}),
                "losses": [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)],
            }
            for trial in study.trials
        ]

    def _answers_of(self, window: LearningWindow, parameters: Mapping[str, Any]) -> Scores:
        training = self.training
        model = fit(window.matrix, window.labels, self.kind, parameters, training.seed, window.weights, training.class_weight)
        return model.predict(window.asked)


def _study(training: Training) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=training.seed, n_startup_trials=max(2, training.trials // 2))
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_KEPT_OF)
    return optuna.create_study(sampler=sampler, pruner=pruner)


def _calibrated(
    stretches: Stretches, kind: Kind, recipe: Mapping[str, Any], scores: Scores, known: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Scores, float | None]:
    """Return the best recipe with what its held-out scores say, these scores, and what calibrating them gains; a known recipe stays as it was."""
    if known is not None and _drawn(known) == _drawn(recipe) and known.get(CLASS_WEIGHT) == recipe.get(CLASS_WEIGHT):
        calibration = calibration_of(known)
        return dict(known), scores if calibration is None else calibration.apply(scores), None
    choice = choose_calibration(kind, stretches.labels, scores, stretches.request_ms, CLASS_WEIGHT in recipe, stretches.weights)
    scores = scores if choice.calibration is None else choice.calibration.apply(scores)
    parameters = {**recipe, **({} if choice.calibration is None else {CALIBRATION: choice.calibration.model_dump_json()})}
    parameters |= {INTERVAL: residual_interval(stretches.labels, scores)} if kind.name == "regression" else {}
    return parameters, scores, choice.gain


def _drawn(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search draws of a recipe."""
    return {name: value for name, value in parameters.items() if name not in (CALIBRATION, INTERVAL, CLASS_WEIGHT)}
