"""What is joined: predictions as they were served, truths, and where in the journal they stand."""

from typing import NamedTuple


class At(NamedTuple):
    """Journal coordinates of what is being worked on."""

    time_ms: int
    partition: int
    offset: int


class Pair(NamedTuple):
    """What the other one of champion and challenger said of a request: the challenger, or the champion where the canary answered.

    Attributes
    ----------
    score, predicted
        NaN and -1 where it has no score.
    numbers
        Probability of each class.
    slices
        The request's values of slices and sensitive columns as a JSON object; empty where none are declared.
    share, stage
        Of the requests that the challenger answers, and the stage of its trial.
    draw
        What the request drew of the challenger, which answers below the share; -1 in shadow.
    """

    version: str
    sequence: int
    score: float
    predicted: int
    numbers: tuple[float, ...] = ()
    slices: str = ""
    share: float = 0.0
    stage: str = ""
    draw: float = -1.0


class Request(NamedTuple):
    """A prediction as it was served.

    Attributes
    ----------
    numbers
        What its kind serves beside the score: the probability of each class, or both ends of the interval; NaN where there was none.
    pair
        What the other one said; None where nobody was tried.
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
    pair: Pair | None = None


class TimedLabel(NamedTuple):
    """A truth and when it happened.

    Attributes
    ----------
    value
        NaN of a model that learns its classes: which number a class has depends on the version that answered.
    name
        The class, of such a model.
    """

    value: float
    event_time_ms: int
    name: str = ""
