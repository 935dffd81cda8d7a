"""A child that brings a task back, and scouts that go ahead with it: forks of the child, or the child itself where it cannot be forked."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

from tidemill.shared.runner.child_watch import ChildWatch, Ending, WatchedProcess
from tidemill.shared.runner.offer import Offer

log = logging.getLogger(__name__)
# The base does nothing but wait for orders.
_ANSWERS_S = 60.0
_STAY_ALIVE_EVERY_S = 0.5
StartChild = Callable[[], tuple[WatchedProcess, Connection]]
MakeWatch = Callable[[WatchedProcess, Connection, float | None], ChildWatch]


@dataclass(slots=True)
class _Process:
    """The child, or a fork of it, whose end its parent knows."""

    pid: int
    connection: Connection
    parent: Connection | None
    holding: bool = False
    code: int | None = None

    def wait(self) -> int:
        assert self.parent is not None  # noqa: S101 - only forks are waited for
        if self.code is None:
            self.parent.send(("fate", self.pid))
            self.code = int(_answer(self.parent)[1])
        return self.code


class Scouts:
    """The *base* holds the task's state behind all that is known to be survived; a *scout* is given what comes next.

    A scout is a fork of the base, which shares its memory until either writes to it: milliseconds, however long the task takes to be brought back.
    One that survives may become the base (`advance`); one that does not costs another fork. Threads are not forked, so a base that has any (polars
    begins its own when an expression is compiled) goes ahead itself. After what it does not survive it brings the task back and gives it, in large
    steps, what was survived: in the same process after an exception, in another child after anything else.

    Parameters
    ----------
    start
        Starts a child in the place of the one before.
    offer
        What a child is told first.
    watch
        Watches one process of them; with seconds that a step may take, None: as many as one that decides.
    alive
        Called every half second.
    """

    def __init__(self, start: StartChild, offer: Offer, watch: MakeWatch, alive: Callable[[], None]) -> None:
        self._start, self._offer, self._watch, self._alive = start, offer, watch, alive
        self._child, self._base = self._started()
        self._scout: _Process | None = None
        # Rows of the rehearsal that the base and the scout have behind them, what is passed over of them, and how a child that went ahead was lost.
        self._settled = self._reached = 0
        self._condemned: list[tuple[int, str]] = []
        self._lost: Ending | None = None
        self._stayed = time.monotonic()

    @property
    def forks(self) -> bool:
        """Whether scouts are forks."""
        return self._scout is not self._base

    def begin(self) -> Ending:
        """Have the task brought back and given what it had before."""
        return self._bring_back(self._offer)

    def stand(self) -> None:
        """Let a scout stand where the base stands, in the place of the one before.

        Raises
        ------
        EOFError, ConnectionError
            The base has ended, or the task cannot be brought back any more.
        TransientError
            Something outside failed meanwhile (retry).
        """
        if self.forks:
            self._reached = self._settled
            if self._fork():
                return
            self._scout = self._base
            if self._base.parent is not None:
                # Another child takes its place: how a fork ends only its parent knows, which may have gone.
                self._lost = Ending(None, "it cannot be forked")
        if self._lost is not None or self._reached != self._settled:
            self._return()
            self._reached = self._settled

    def give(self, begin: int, end: int, silence_s: float | None) -> Ending:
        """Let the scout make one step, with these of the rehearsal's records; its `Ending` says whether it held records back before."""
        if time.monotonic() - self._stayed >= _STAY_ALIVE_EVERY_S:
            self._alive()
            self._stayed = time.monotonic()
        scout = self._ahead()
        watch, begun = self._watch(self._watched(scout), scout.connection, silence_s), time.monotonic()
        watch.at = 0
        ending = replace(watch.follow(("give", begin, end)), took_s=time.monotonic() - begun)
        held, scout.holding = scout.holding, ending.holding
        if ending.survived:
            self._reached = end
        elif not self.forks:
            self._lost = ending
        return replace(ending, holding=held)

    def advance(self) -> None:
        """Have the scout be the base: what it was given is survived."""
        self._settled = self._reached
        if not self.forks:
            return
        if self._base.parent is None:
            self._base.connection.send(("rest",))
        else:
            self._base.connection.close()
        self._base, self._scout = self._ahead(), None

    def condemn(self, row: int, why: str) -> None:
        """Have the base pass over a record, with its next step."""
        self._condemned.append((row, why))
        if self._lost is None:
            self._base.connection.send(("condemn", row, why))

    def close(self) -> None:
        """Give the connections back; the processes end with the child that they come from."""
        for one in (self._scout, self._base):
            if one is not None and one.parent is not None:
                one.connection.close()

    def _started(self) -> tuple[WatchedProcess, _Process]:
        child, connection = self._start()
        return child, _Process(child.pid, connection, None)

    def _watched(self, process: _Process) -> WatchedProcess:
        return self._child if process.parent is None else process

    def _bring_back(self, order: object) -> Ending:
        ending = self._watch(self._watched(self._base), self._base.connection, None).follow(order)
        self._base.holding = ending.holding
        return ending

    def _return(self) -> None:
        """Bring the task back to where the base stood, for a child that goes ahead itself."""
        if self._lost is None or self._lost.raised:
            order: object = ("again", self._condemned)
        else:
            self._child, self._base = self._started()
            self._scout, order = self._base, replace(self._offer, condemned=self._condemned)
        ending, self._lost = self._bring_back(order), None
        size = self._offer.rehearsal.max_batch
        for begin in range(0, self._settled, size):
            if ending.survived:
                ending = self.give(begin, min(begin + size, self._settled), None)
        if not ending.survived:
            raise ConnectionError(f"the task does not come back to where it was: {ending.how}")

    def _fork(self) -> bool:
        """Fork the base; False where it cannot be."""
        self._end_scout()
        ours, theirs = socket.socketpair()
        line = Connection(ours.detach())
        with theirs:
            self._base.connection.send(("fork",))
            send_handle(self._base.connection, theirs.fileno(), self._base.pid)
            _, pid, threads = _answer(self._base.connection)
        if pid < 0:
            line.close()
            log.info("a task's process has threads and goes ahead itself: what it does not survive costs a restore", extra={"threads": threads})
            return False
        self._scout = _Process(pid, line, self._base.connection, self._base.holding)
        return True

    def _ahead(self) -> _Process:
        assert self._scout is not None  # noqa: S101 - one stands before each use
        return self._scout

    def _end_scout(self) -> None:
        if self._scout is not None:
            if self._scout.code is None:
                # Until its parent has asked for its fate no other process has its number.
                os.kill(self._scout.pid, signal.SIGKILL)
            self._scout.connection.close()
            self._scout.wait()
            self._scout = None


def _answer(connection: Connection) -> tuple[str, int, int]:
    """Hear what a base answers."""
    if not connection.poll(_ANSWERS_S):
        raise ConnectionError("a process that waits for orders does not answer")
    answer: tuple[str, int, int] = connection.recv()
    return answer
