"""Through which stages a candidate goes before it answers everybody, as the application's author writes it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tidemill.shared.application.values import Duration, Frozen, parse_duration

_POSITIVE_MS = Annotated[Duration, Field(gt=0)]


class ShadowStage(Frozen):
    """A candidate scores every request and answers none.

    Attributes
    ----------
    duration
        How long at least, in journal time (`for` in the file).
    labels
        How many labelled requests at least.
    """

    duration: _POSITIVE_MS = Field(default=parse_duration("7d"), alias="for")
    labels: int = Field(default=200, ge=1)


class CanaryStage(Frozen):
    """A candidate answers a share of the requests, always the same entities.

    Attributes
    ----------
    share
        Of the requests, by the hash of their keys.
    duration, labels
        As of a shadow; labels count from the stage's begin.
    """

    share: float = Field(default=0.1, gt=0, lt=1)
    duration: _POSITIVE_MS = Field(default=parse_duration("3d"), alias="for")
    labels: int = Field(default=200, ge=1)


class StageLimits(Frozen):
    """What sends a candidate back, in any stage.

    Attributes
    ----------
    calibration
        Its mean score may be farther from the mean label than the champion's by so much (classes).
    errors
        Share of requests for which it has no score.
    """

    calibration: float = Field(default=0.05, gt=0, le=1)
    errors: float = Field(default=0.01, gt=0, le=1)


class Stages(Frozen):
    """The way of a candidate that has passed its gate; a first model has nobody to be compared with and serves at once.

    Attributes
    ----------
    shadow, canary
        None: the stage is left out; without both a candidate that has passed serves at once.
    refits
        Way of a refit of an admitted recipe: it serves at once (`direct`), or answers a share first.
    longest
        A candidate that has not been shown to be no worse after so long leaves.
    """

    shadow: ShadowStage | None = None
    canary: CanaryStage | None = None
    refits: Literal["direct", "canary"] = "direct"
    longest: _POSITIVE_MS = parse_duration("28d")
    limits: StageLimits = StageLimits()

    @property
    def are_direct(self) -> bool:
        """Whether a candidate that has passed serves at once."""
        return self.shadow is None and self.canary is None

    @model_validator(mode="after")
    def _fits(self) -> "Stages":
        baking = sum(stage.duration for stage in (self.shadow, self.canary) if stage is not None)
        if baking > self.longest:
            raise ValueError(f"longest: a time that holds both stages ({baking / 86_400_000:g} d), not {self.longest / 86_400_000:g} d")
        if self.refits == "canary" and self.canary is None:
            raise ValueError("refits: direct where there is no canary, not canary")
        return self
