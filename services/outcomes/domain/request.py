"""What is joined: predictions as they were served, truths, and where in the journal they stand."""

from typing import NamedTuple


class At(NamedTuple):
    """Journal coordinates of what is being worked on."""

    time_ms: int
    partition: int
    offset: int


class Request(NamedTuple):
    """A prediction as it was served.

    Attributes
    ----------
    numbers
        What its kind serves beside the score: the probability of each class, or both ends of the interval; NaN where there was none.
    """

    request_id: str
    offset: int
    time_ms: int
    event_time_ms: int
    score: float
    predicted: int
    model_version: str
    deployment_sequence: int
    variant: str
    numbers: tuple[float, ...] = ()


class Label(NamedTuple):
    """A truth and when it happened."""

    value: float
    event_time_ms: int
