"""Where a candidate that has passed goes first: a pure decision on the application's stages and on who serves."""

from dataclasses import dataclass, replace
from typing import Literal

from tidemill.shared.application.stages import ABStage, CanaryStage, Stages
from tidemill.shared.models.deployments import Lifecycle

REFIT = "refit of an admitted recipe"
"""Admission of a candidate that was not judged as a recipe: its recipe serves."""

Tried = Literal["unknown", "champion's", "candidate's", "another"]
"""Whose recipe a challenger has; another: neither that of what serves nor the candidate's."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Where a candidate goes.

    Attributes
    ----------
    event
        Lifecycle event that puts it there: shadow, canary, ab or promoted.
    share
        Of the requests that it answers then.
    keeps_trial
        Whether the trial of the present challenger goes on.
    """

    event: str
    share: float
    keeps_trial: bool = False


def first_stage(stages: Stages, lifecycle: Lifecycle, admission: str, tried: Tried = "unknown", trigger: str = "") -> FirstStage:
    """Return where a candidate goes that has passed its gate.

    A first model is compared with nobody and serves at once. So does a refit of an admitted recipe, unless the application says otherwise. If another
    recipe is tried meanwhile, its trial goes on: it is held against whatever the champion's recipe serves.

    Parameters
    ----------
    admission
        Of the candidate, as its training says.
    tried
        Recipe of the present challenger, seen from the champion and the candidate.
    trigger
        What asked for the training.
    """
    if lifecycle.champion is None:
        return FirstStage("promoted", 1.0)
    if admission == REFIT:
        goes = _answering("canary", stages.canary if stages.refit_bakes(trigger) else None)
        return replace(goes, keeps_trial=goes.event == "promoted" and tried == "another")
    if stages.shadow is not None:
        return FirstStage("shadow", 0.0)
    return _answering("ab", stages.ab) if stages.canary is None else _answering("canary", stages.canary)


def held_back(lifecycle: Lifecycle, stages: Stages | None = None, admission: str = "", tried: Tried = "unknown", trigger: str = "") -> str:
    """Return why a candidate that has passed goes nowhere; empty where nothing holds it back.

    While two versions are compared both stay what they are: a refit that takes the champion's place, or a newer candidate that takes the other's,
    would end the test without an answer. Nor does a refit that would answer a share itself (`stages.refits`) take that from another recipe on trial,
    or another fit of a recipe begin the trial anew in which the recipe is already: where trainings come more often than a trial lasts, no recipe
    would ever be judged. Parameters as of `first_stage`.
    """
    if lifecycle.pin is not None:
        return f"not promoted while {lifecycle.pin}"
    if lifecycle.compares and lifecycle.challenger is not None:
        return f"not tried while the A/B test of {lifecycle.challenger.version} runs; it waits for its end"
    if lifecycle.challenger is None:
        return ""
    on_trial = f"{lifecycle.challenger.version} ({lifecycle.challenger.stage})"
    if admission != REFIT:
        return f"not tried: its recipe is on trial already, as {on_trial}" if tried == "candidate's" else ""
    if tried == "another" and stages is not None and stages.refit_bakes(trigger):
        return f"not tried while another recipe is on trial, as {on_trial}; the next training after it refits what serves then"
    return ""


def _answering(event: str, stage: CanaryStage | ABStage | None) -> FirstStage:
    return FirstStage("promoted", 1.0) if stage is None else FirstStage(event, stage.share)
