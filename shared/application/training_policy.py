"""What is searched and learned, and when a retraining is worth asking for, as the application's author writes it."""

from typing import Annotated, Literal

from pydantic import Field

from tidemill.shared.application.families import FamilyName
from tidemill.shared.application.schedule import Schedule
from tidemill.shared.application.values import MOST_ROWS, Duration, Frozen, parse_duration


class Training(Frozen):
    """The search: families, trials, windows of history (days; 0 means all).

    Attributes
    ----------
    families
        Which are searched; without any, a linear model and LightGBM.
    min_positives
        Rows that each class needs wherever something is learned or judged: training, each window of history, validation, gate.
    class_weight
        ``balanced``: while a model learns, the rows of each class weigh the same together; its odds are taken back to the data's. Boosted trees
        with few positives become too sure by it.
    max_duration
        An attempt that takes longer is ended, and begun again as often as `retraining.retries` allows.
    search_every
        While a recipe is admitted, its refits go out without a search until the last one is so long ago; none: until the recipe loses its admission.
    """

    families: tuple[FamilyName, ...] = ()
    trials: int = Field(default=6, ge=1, le=10_000)
    windows_days: Annotated[tuple[Annotated[int, Field(ge=0, le=36_525)], ...], Field(min_length=1)] = (0, 60)
    holdout_days: int | float = Field(default=7, gt=0, le=36_525)
    min_rows: int = Field(default=1_000, ge=10, le=MOST_ROWS)
    min_positives: int = Field(default=10, ge=2, le=MOST_ROWS)
    class_weight: Literal["none", "balanced"] = "none"
    max_duration: Annotated[Duration, Field(gt=0)] = parse_duration("1h")
    search_every: Annotated[Duration, Field(gt=0)] | None = parse_duration("90d")
    seed: int = Field(default=7, ge=0, lt=2**31)


class RetrainingPolicy(Frozen):
    """When a retraining is worth asking for; times are journal time.

    Attributes
    ----------
    labels
        While a model serves, a training is asked for each time that so many further labels have come; none: their number asks for nothing.
    cpu_per_day
        Processor time that the model's trainings of the last day may have taken for another one to be asked for; none: it is not counted.
    """

    bootstrap_labels: int = Field(default=5_000, ge=10, le=MOST_ROWS)
    labels: int | None = Field(default=None, ge=10, le=MOST_ROWS)
    cool_down: Duration = parse_duration("3d")
    schedule: Schedule | None = parse_duration("30d")
    budget_per_30d: int = Field(default=10, ge=1)
    cpu_per_day: Annotated[Duration, Field(gt=0)] | None = None
    retries: int = Field(default=3, ge=0, le=20)
    retry_delay: Annotated[Duration, Field(gt=0)] = parse_duration("10s")
