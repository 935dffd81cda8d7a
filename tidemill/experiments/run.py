"""An experiment: configurations of a model trained and judged side by side on the rows that retraining would learn from."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tidemill.experiments.comparison import Comparison, Trial, compare
from tidemill.experiments.configuration import Configuration
from tidemill.experiments.pool import result_path
from tidemill.experiments.subject import SUBJECT, Subject
from tidemill.experiments.trial import Rules
from tidemill.services.retraining.domain.examples import DAY_MS, label_horizon_ms
from tidemill.services.retraining.domain.folds import Folds
from tidemill.services.retraining.labelled_rows import examples_of
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.lake.journal import UnfitArchiveError
from tidemill.shared.lake.training_set import TrainingSet

KEPT = ("done", "failed")


class Pool(Protocol):
    """Where trials run."""

    def run(self, configurations: Sequence[Configuration], done: Callable[[Configuration, dict[str, Any]], None]) -> None:
        """Run trials; `done` is told of each as it ends."""
        ...


@dataclass(frozen=True, slots=True)
class Cuts:
    """How rows are cut.

    Attributes
    ----------
    folds
        Most stretches of `training.holdout_days` that are judged on.
    rows
        Most rows that a model learns from; 0: all.
    """

    folds: int = 3
    rows: int = 50_000


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is going to be done.

    Attributes
    ----------
    folder
        Of this subject: other rows, cuts or rules have another one beside it.
    kept
        Trials of an earlier run that stay.
    earlier
        Subjects that were tried before in the same place, and why they do not count, in words.
    """

    subject: Subject
    folder: Path
    configurations: Sequence[Configuration]
    kept: Mapping[str, dict[str, Any]]
    earlier: Sequence[str]


def prepare(
    plan: Plan, model: ModelPlan, made: TrainingSet, configurations: Sequence[Configuration], cuts: Cuts, seed: int, folder: Path
) -> Experiment:
    """Cut the rows, write down what workers read, and find what an earlier run has left.

    Raises
    ------
    UnfitArchiveError
        There are too few labelled rows.
    """
    examples, training, label = examples_of(made, model), model.settings.training, model.settings.label
    if not len(examples):
        others = made.version["rows_of_other_views"]
        raise UnfitArchiveError(f"expected labelled rows of {model.name}, found none ({others} of other versions of the views)")
    before = int(made.version["before_ms"])
    horizon = label_horizon_ms(examples, before, label.max_delay, label.on_timeout != "unlabelled")
    earliest = int(examples.request_ms.min())
    folds = Folds.of(before - horizon, before, horizon, round(training.holdout_days * DAY_MS), cuts.folds, earliest)
    for fold in range(len(folds)):
        for what, rows in (("to learn from before", folds.learning(examples, fold, 0)), ("to judge on in", folds.validation(examples, fold))):
            if lack := model.kind.lack(rows.labels, training.min_positives) if len(rows) else "none":
                raise UnfitArchiveError(
                    f"expected {training.min_positives} rows of each class {what} fold {fold + 1} of {len(folds)}, found {lack}:"
                    f" {len(examples)} labelled rows are too few for validation weeks of training.holdout_days {training.holdout_days:g}"
                )
    rules = Rules(cuts.rows, training.min_positives, training.class_weight, seed)
    subject = Subject(plan.application.app, model.name, model.kind.name, model.kind.classes, dict(made.version), folds, rules)
    place = folder / subject.identity
    earlier = _earlier(folder, subject)
    subject.write(place, made.rows)
    return Experiment(subject, place, configurations, _kept(place, configurations), earlier)


def prepare_first(
    plan: Plan, choices: Sequence[tuple[ModelPlan, TrainingSet]], configurations: Sequence[Configuration], cuts: Cuts, seed: int, folder: Path
) -> tuple[ModelPlan, Experiment]:
    """Prepare the first of several choices of classes that there are rows enough for, as a training would take it.

    Raises
    ------
    UnfitArchiveError
        There are too few labelled rows for each of them.
    """
    *more, (fewest, rows) = choices
    for model, made in more:
        with suppress(UnfitArchiveError):
            return model, prepare(plan, model, made, configurations, cuts, seed, folder)
    return fewest, prepare(plan, fewest, rows, configurations, cuts, seed, folder)


def run(experiment: Experiment, model: ModelPlan, pool: Pool, told: Callable[[Trial], None]) -> Comparison:
    """Run what is not done yet, and compare everything."""
    numbers = {one.identity: number for number, one in enumerate(experiment.configurations, start=1)}
    trials = {name: _trial(numbers[name], experiment.configurations[numbers[name] - 1], result) for name, result in experiment.kept.items()}

    def done(configuration: Configuration, result: dict[str, Any]) -> None:
        trial = trials[configuration.identity] = _trial(numbers[configuration.identity], configuration, result)
        told(trial)

    left = [one for one in experiment.configurations if one.identity not in trials]
    if left:
        pool.run(left, done)
    return compare(model.kind, list(trials.values()), model.settings.gate.margins(model.kind.name)[0])


def _trial(number: int, configuration: Configuration, result: Mapping[str, Any]) -> Trial:
    status = str(result["status"])
    return Trial(number, configuration, status, str(result["reason"]), result if status == "done" else {})


def _kept(folder: Path, configurations: Sequence[Configuration]) -> dict[str, dict[str, Any]]:
    kept = {}
    for one in configurations:
        path = result_path(folder, one)
        if path.exists() and (result := json.loads(path.read_text(encoding="utf-8")))["status"] in KEPT:
            kept[one.identity] = result
    return kept


def _earlier(folder: Path, subject: Subject) -> list[str]:
    """Say of each other subject in the same place what is different."""
    results = []
    for path in sorted(folder.glob(f"*/{SUBJECT}")):
        said, trials = json.loads(path.read_text(encoding="utf-8")), len(list((path.parent / "results").glob("*.json")))
        if path.parent.name == subject.identity or not trials:
            continue
        changes = [
            f"{name} {_short(before)} instead of {_short(now)}"
            for name, before, now in (
                ("rows with SHA-256", said["dataset"]["sha256"], subject.dataset["sha256"]),
                ("folds", said["folds"], subject.said["folds"]),
                ("rules", said["rules"], subject.said["rules"]),
                ("classes", said["classes"], list(subject.classes)),
                ("code", said["code"], subject.code),
            )
            if before != now and not (name == "folds" and said["dataset"]["sha256"] != subject.dataset["sha256"])
        ]
        results.append(f"{trials} trials in {path.parent.name} are of {', '.join(changes) or 'another application'}")
    return results


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {len(one) if isinstance(one, list) else one}" for name, one in value.items()) + ")"
    return value[:12] if isinstance(value, str) else str(value)
