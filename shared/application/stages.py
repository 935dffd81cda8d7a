"""Through which stages a candidate goes before it answers everybody, as the application's author writes it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tidemill.shared.application.values import MOST_ROWS, Duration, Frozen, parse_duration

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
    labels: int = Field(default=200, ge=1, le=MOST_ROWS)


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
    labels: int = Field(default=200, ge=1, le=MOST_ROWS)


class ABStage(Frozen):
    """A candidate and the champion answer a share each, always the same entities, until one of them is shown to be better or the time is over.

    Attributes
    ----------
    share
        Of the requests by the hash of their keys, which the candidate answers.
    duration
        How long at most, in journal time (`for` in the file).
    metric
        ``loss``: of both on all requests, paired. ``label``: mean label of the requests of each, for labels that answers influence.
    better
        Which labels are better; with `metric: label`.
    margin
        Differences within it on either side are none: the test ends once that is shown. By default the gate's margin for a loss, and none for labels.
    """

    share: float = Field(default=0.5, gt=0, lt=1)
    duration: Annotated[Duration, Field(gt=0, le=parse_duration("90d"))] = Field(default=parse_duration("14d"), alias="for")
    metric: Literal["loss", "label"] = "loss"
    better: Literal["lower", "higher"] | None = None
    margin: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "ABStage":
        if self.metric == "label" and self.better is None:
            raise ValueError("better: lower or higher, with metric: label, not nothing")
        if self.metric == "loss" and self.better is not None:
            raise ValueError(f"better: nothing with metric: loss (a lower loss is better), not {self.better}")
        return self


class ScoringTimeLimit(Frozen):
    """How much slower than the champion a candidate may score the same requests; it is too slow in a window in which it exceeds both limits.

    Attributes
    ----------
    times_champion
        In times of what the champion takes.
    excess_us
        In microseconds a request above it: what nobody would notice is no fault of a candidate, however many times it is.
    window
        Means are of so long, in journal time.
    """

    times_champion: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    excess_us: float = Field(default=250.0, gt=0, allow_inf_nan=False)
    window: _POSITIVE_MS = parse_duration("1m")


class StageLimits(Frozen):
    """What sends a candidate back, in any stage.

    Attributes
    ----------
    calibration
        Its mean score may be farther from the mean label than the champion's by so much (classes).
    errors
        Share of requests for which it has no score.
    scoring_time
        How much longer it may take than the champion; None: that is not measured.
    """

    calibration: float = Field(default=0.05, gt=0, le=1)
    errors: float = Field(default=0.01, gt=0, le=1)
    scoring_time: ScoringTimeLimit | None = ScoringTimeLimit()


class Stages(Frozen):
    """The way of a candidate that has passed its gate; a first model has nobody to be compared with and serves at once.

    Attributes
    ----------
    shadow, canary, ab
        None: the stage is left out; without any a candidate that has passed serves at once.
    refits
        Way of a refit of an admitted recipe: it serves at once (`direct`), or answers a share first, which one that an alarm asked for need not
        (`canary_unless_drift`).
    longest
        A candidate that has not been shown to be no worse after so long, in shadow and as a canary, leaves.
    """

    shadow: ShadowStage | None = None
    canary: CanaryStage | None = None
    ab: ABStage | None = None
    refits: Literal["direct", "canary", "canary_unless_drift"] = "direct"
    longest: _POSITIVE_MS = parse_duration("28d")
    limits: StageLimits = StageLimits()

    @model_validator(mode="after")
    def _fits(self) -> "Stages":
        baking = sum(stage.duration for stage in (self.shadow, self.canary) if stage is not None)
        if baking > self.longest:
            raise ValueError(f"longest: a time that holds both stages ({baking / 86_400_000:g} d), not {self.longest / 86_400_000:g} d")
        if self.refits != "direct" and self.canary is None:
            raise ValueError(f"refits: direct where there is no canary, not {self.refits}")
        return self

    @property
    def tries_recipes(self) -> bool:
        """Whether another recipe that has passed the gate has to show itself before it answers everybody."""
        return self.shadow is not None or self.canary is not None or self.ab is not None

    def refit_bakes(self, trigger: str) -> bool:
        """Whether a refit answers a share first.

        Parameters
        ----------
        trigger
            What asked for its training: ``drift`` where an alarm did.
        """
        return self.refits == "canary" or (self.refits == "canary_unless_drift" and trigger != "drift")
