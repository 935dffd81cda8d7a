"""What a candidate has to show before it serves, as the application's author writes it."""

from typing import Annotated

from pydantic import Field, model_validator

from tidemill.shared.application.values import MOST_ROWS, Duration, Frozen, parse_duration


class Fairness(Frozen):
    """How differently groups may be answered by a binary model.

    Attributes
    ----------
    columns
        Sensitive columns, of those that the model reads.
    demographic_parity, equalized_odds
        Largest difference between two groups: of the share answered with yes; of the share answered with yes among positives, or among negatives.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    demographic_parity: float = Field(default=0.2, gt=0, le=1)
    equalized_odds: float = Field(default=0.2, gt=0, le=1)


class Latency(Frozen):
    """What scoring a row may cost, beyond which a candidate does not serve.

    Attributes
    ----------
    row_us
        Microseconds on the machine that trains.
    times_champion
        Times what the champion takes on the same rows in the same process.
    """

    row_us: Annotated[float, Field(gt=0)] | None = None
    times_champion: Annotated[float, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> "Latency":
        if self.row_us is None and self.times_champion is None:
            raise ValueError("a limit: row_us, times_champion or both")
        return self


class Gate(Frozen):
    """How sure it must be that a recipe is not worse than what serves.

    Attributes
    ----------
    alpha
        Probability with which anything that is worse by the margin gets into service within any 365 days; also the level of the first model's test.
    min_rows
        Labelled requests to judge on.
    margin, slice_margin
        How much worse a recipe may be on the whole and in a slice: nats of log loss (0.005 and 0.02 by default), for regression a share of the
        champion's mean squared error (0.01 and 0.04).
    span
        The last so long is judged on, or a third of the history where that is shorter.
    block
        Requests of so long share their error: its means are the observations of the test.
    fairness
        Limits on how differently groups are answered; none: not judged.
    latency
        Limits on what scoring costs; none: not measured.
    """

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    min_rows: int = Field(default=500, ge=10, le=MOST_ROWS)
    margin: Annotated[float, Field(gt=0)] | None = None
    slice_margin: Annotated[float, Field(gt=0)] | None = None
    span: Annotated[Duration, Field(gt=0)] = parse_duration("28d")
    block: Annotated[Duration, Field(gt=0)] = parse_duration("1d")
    fairness: Fairness | None = None
    latency: Latency | None = None

    @model_validator(mode="after")
    def _some_blocks(self) -> "Gate":
        if self.span < 7 * self.block:
            raise ValueError(f"a span of at least seven blocks: {self.span} ms is less than 7 times {self.block} ms")
        return self

    def margins(self, kind: str) -> tuple[float, float]:
        """Return the margins on the whole and in a slice for a kind of model."""
        whole, part = (0.01, 0.04) if kind == "regression" else (0.005, 0.02)
        return whole if self.margin is None else self.margin, part if self.slice_margin is None else self.slice_margin
