"""Where a candidate that has passed goes first: a pure decision on the application's stages and on who serves."""

from dataclasses import dataclass

from tidemill.shared.application.stages import ABStage, CanaryStage, Stages
from tidemill.shared.models.deployments import Lifecycle

REFIT = "refit of an admitted recipe"
"""Admission of a candidate that was not judged as a recipe: its recipe serves."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The lifecycle event that puts a candidate there: shadow, canary, ab or promoted; and the share of requests that it answers then."""

    event: str
    share: float


def first_stage(stages: Stages, lifecycle: Lifecycle, admission: str) -> FirstStage:
    """Return where a candidate goes that has passed its gate.

    A first model is compared with nobody and serves at once. So does a refit of an admitted recipe, unless the application says otherwise.

    Parameters
    ----------
    admission
        Of the candidate, as its training says.
    """
    if lifecycle.champion is None:
        return FirstStage("promoted", 1.0)
    if admission == REFIT:
        return _answering("canary", stages.canary if stages.refits == "canary" else None)
    if stages.shadow is not None:
        return FirstStage("shadow", 0.0)
    return _answering("ab", stages.ab) if stages.canary is None else _answering("canary", stages.canary)


def held_back(lifecycle: Lifecycle) -> str:
    """Return why a candidate that has passed goes nowhere; empty where nothing holds it back.

    While two versions are compared both stay what they are: a refit that takes the champion's place, or a newer candidate that takes the other's,
    would end the test without an answer.
    """
    if lifecycle.pin is not None:
        return f"not promoted while {lifecycle.pin}"
    if lifecycle.compares and lifecycle.challenger is not None:
        return f"not tried while the A/B test of {lifecycle.challenger.version} runs"
    return ""


def _answering(event: str, stage: CanaryStage | ABStage | None) -> FirstStage:
    return FirstStage("promoted", 1.0) if stage is None else FirstStage(event, stage.share)
