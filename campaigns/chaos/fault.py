"""What a fault is: a course of steps that strikes, waits, and puts right what no system can."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from campaigns.chaos.world import World


class Strikes:
    """Said by a course in its steps: not its beginning but this moment is when the fault strikes."""


Wait = float | Callable[[], bool] | Strikes
"""So many seconds, or until something is so."""


class MissedError(Exception):
    """The moment that a fault was to strike at did not come: it does not count."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes
    ----------
    targets
        What it may strike now; nothing when all of that is held by other faults.
    course
        Strikes with its first step and yields what it waits for; when it ends, everything that it took away is back.
    weight
        How often it comes, among the others.
    embedded
        Whether it needs servers that may be struck.
    long
        Whether it takes minutes, for campaigns only.
    """

    name: str
    targets: Callable[[World], Sequence[str]]
    course: Callable[[World, str, Random], Iterator[Wait]]
    weight: int = 1
    embedded: bool = False
    long: bool = False
