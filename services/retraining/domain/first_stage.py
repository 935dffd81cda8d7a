"""Where a candidate that has passed goes first: a pure decision on the application's stages and on who serves."""

from dataclasses import dataclass

from tidemill.shared.application.stages import CanaryStage, Stages
from tidemill.shared.models.deployments import Lifecycle

REFIT = "refit of an admitted recipe"
"""Admission of a candidate that was not judged as a recipe: its recipe serves."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The lifecycle event that puts a candidate there: shadow, canary or promoted; and the share of requests that it answers then."""

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
        return _canary(stages.canary if stages.refits == "canary" else None)
    return FirstStage("shadow", 0.0) if stages.shadow is not None else _canary(stages.canary)


def _canary(stage: CanaryStage | None) -> FirstStage:
    return FirstStage("promoted", 1.0) if stage is None else FirstStage("canary", stage.share)
