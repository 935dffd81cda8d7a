"""What control has asked the worker for: a fold over control's decisions and over what the worker itself has said."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL = frozenset({"finished", "failed", "refused"})
"""Events of a training that end it."""
STEP, QUEUED = "step", "queued"
"""Events of a training that has come further, and of one that waits for its turn."""
_NOBODY = {"version": "", "serving": "", "operator": "", "issued_at": None}


@dataclass(slots=True)
class TrainingRequest:
    """An open request.

    Attributes
    ----------
    offset
        Where its decision stands; -1 of one that a version of the worker before decisions had their own topic has left open.
    judged_against
        SHA-256 of the champion and of the champion before it (empty: there is none), as its training compares them; None while no training runs.
    """

    offset: int
    decision: Mapping[str, Any]
    judged_against: tuple[str, str] | None = None

    @property
    def is_training(self) -> bool:
        """Whether it takes a training; else it is a command to the lifecycle."""
        return bool(self.decision["action"] == "train")


@dataclass(slots=True)
class Requests:
    """Requests that have no answer yet, in control's order.

    An answer is a record of the worker's own (the end of a training, an event of the lifecycle log) with the decision's id. It is visible together
    with everything else of its transaction, so that after any restart a request is either open or answered, and reading a decision again changes
    nothing.

    Decisions carry how many came before them, so the last one that was read tells how many have been read: nothing is counted from the beginning.
    That is why the position never passes it.
    """

    open: dict[str, TrainingRequest] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    steps: dict[str, set[Hashable]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    _last: tuple[int, int] | None = None
    _set_aside: list[int] = field(default_factory=list)

    def ask(self, offset: int, decision: Mapping[str, Any]) -> None:
        """Read a decision of control."""
        self._last = offset, decision["sequence"]
        self._set_aside = [other for other in self._set_aside if other > offset]
        identity = decision["decision_id"]
        if decision["verdict"] == "requested" and identity not in self.answered:
            self.open.setdefault(identity, TrainingRequest(offset, decision))

    def adopt(self, record: Mapping[str, Any]) -> None:
        """Read a request of a version before decisions had their own topic."""
        action = record["details"].get("action", "train")
        decision = {**record, "action": action, "cause": record["details"].get("cause", ""), **_NOBODY}
        if record["decision_id"] not in self.answered:
            self.open.setdefault(record["decision_id"], TrainingRequest(-1, decision))

    def set_aside(self, offsets: Iterable[int]) -> None:
        """Pass over decisions that are quarantined."""
        self._set_aside += offsets

    def start(self, identity: str) -> None:
        """A training was said to have started."""
        self.started.add(identity)

    def queue(self, identity: str, details: Mapping[str, str]) -> None:
        """A training was said to wait in this place."""
        self.places[identity] = details.get("place", "")

    def step(self, identity: str, reason: str, details: Mapping[str, str]) -> None:
        """A training was said to have come so far."""
        self.steps.setdefault(identity, set()).add(_said(reason, details))

    def is_told(self, identity: str, reason: str, details: Mapping[str, str]) -> bool:
        """Whether a training was said to have come so far: one that is begun again takes the same steps again."""
        return _said(reason, details) in self.steps.get(identity, ())

    def answer(self, identity: str) -> None:
        """A request got its answer."""
        self.answered.add(identity)
        self.steps.pop(identity, None)
        self.places.pop(identity, None)
        self.open.pop(identity, None)

    @property
    def read(self) -> int:
        """How many decisions have been read since the first of all."""
        offset, sequence = self._last or (-1, -1)
        return sequence + 1 + sum(other > offset for other in self._set_aside)

    @property
    def position(self) -> int | None:
        """Offset to read from after a restart; None: from the beginning."""
        if self._last is None:
            return None
        return min([self._last[0], *(request.offset for request in self.open.values() if request.offset >= 0)])

    @property
    def commands(self) -> list[TrainingRequest]:
        """Open commands to the lifecycle; they wait for no training."""
        return [request for request in self.open.values() if not request.is_training]

    @property
    def trainings(self) -> list[TrainingRequest]:
        """The trainings whose turn it is: one at a time of each model, in control's order."""
        turns: dict[str, TrainingRequest] = {}
        for request in self.open.values():
            if request.is_training:
                turns.setdefault(request.decision["model"], request)
        return list(turns.values())

    @property
    def waiting(self) -> list[TrainingRequest]:
        """All trainings that have not begun, in control's order; one that had begun before a restart is none of them."""
        return [request for name, request in self.open.items() if request.is_training and request.judged_against is None and name not in self.started]

    @property
    def oldest_ms(self) -> int | None:
        """Journal time of the oldest open request; None when none is open."""
        return min((request.decision["journal_time"] for request in self.open.values()), default=None)


def _said(reason: str, details: Mapping[str, str]) -> Hashable:
    """Return what tells a step from others of its training; the cause is its decision's."""
    return reason, frozenset((name, value) for name, value in details.items() if name != "cause")
