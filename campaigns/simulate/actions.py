"""What a scheduler can do to a simulated system: a run is a list of these, and can be kept as a test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Action:
    """One decision of the scheduler.

    Attributes
    ----------
    kind
        ``step`` a process, ``zombie`` (step one that was replaced), ``fault`` (arm one), ``kill``, ``start``, ``expire`` (its session ends while it
        lives on), ``publish`` a record, ``advance`` time, ``jump`` a host's clock, ``flush`` or ``away`` (the online store), ``tear`` (its crash log
        is cut, as after a loss of power), ``handover`` (every instance changes its topology), ``intrude`` (an instance of another name joins, whole,
        in either topology, or goes again), ``compact`` and ``retain`` (what the broker does with old records), ``forget`` (a group's offsets are
        gone), ``flood`` (junk in the stream that may be paused, so many records), ``resume`` (an operator lets it go on), ``command`` (an operator
        commands something of the model), ``slow`` (challengers take so many microseconds more to score), ``rush`` (so many orders, and everybody
        works on each), ``settle`` (faults stop until everything is drained).
    actor
        ``<stage>/<instance>``.
    number
        Milliseconds, number of a record, or calls to let pass before a fault strikes.
    text
        Kind of record, ``<point>:<mode>`` of a fault, or what is commanded.
    inner
        What the others do while a paused call stands still.
    """

    kind: str
    actor: str = ""
    number: int = 0
    text: str = ""
    inner: tuple["Action", ...] = ()

    def to_json(self) -> list[Any]:
        """Return it as JSON can hold it."""
        return [self.kind, self.actor, self.number, self.text, [one.to_json() for one in self.inner]]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> "Action":
        """Return what `to_json` gave."""
        kind, actor, number, text, inner = value
        return cls(kind, actor, number, text, tuple(cls.from_json(one) for one in inner))


def dump(actions: Sequence[Action]) -> str:
    """Return a list of actions as JSON, one a line."""
    return "[\n" + ",\n".join(json.dumps(action.to_json()) for action in actions) + "\n]\n"


def load(text: str) -> list[Action]:
    """Return what `dump` gave."""
    return [Action.from_json(value) for value in json.loads(text)]
