"""A child that brings a task back once, and forks of it that go ahead: whatever ends a fork, the state before it is still there."""

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

log = logging.getLogger(__name__)
# The base does nothing but wait for orders.
_ANSWERS_S = 60.0
_STAY_ALIVE_EVERY_S = 0.5
MakeWatch = Callable[[WatchedProcess, Connection, float | None], ChildWatch]


@dataclass(slots=True)
class _Fork:
    """A process of the family, whose end its parent knows."""

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
    """The *base* holds the task's state behind all that is known to be survived; its fork, the *scout*, is given what comes next.

    A scout that survives may become the base (`advance`). One that does not costs another fork, which shares the base's memory until either writes to
    it: milliseconds, however long the task takes to be brought back. Threads are not forked, so a base that has any is left alone.

    Parameters
    ----------
    process, connection
        The child that brings the task back.
    offer
        What the child is told first.
    watch
        Watches one process of them; with seconds that a step may take, None: as many as one that decides.
    alive
        Called every half second.
    """

    def __init__(self, process: WatchedProcess, connection: Connection, offer: object, watch: MakeWatch, alive: Callable[[], None]) -> None:
        self._process, self._offer, self._watch, self._alive = process, offer, watch, alive
        self._base = _Fork(process.pid, connection, None)
        self._scout: _Fork | None = None
        self._stayed = time.monotonic()

    def begin(self) -> Ending:
        """Have the task brought back and given what it had before."""
        ending = self._watch(self._process, self._base.connection, None).follow(self._offer)
        self._base.holding = ending.holding
        return ending

    def fork(self) -> bool:
        """Let a scout begin where the base stands, in the place of the one before; False where the base cannot be forked.

        Raises
        ------
        EOFError, ConnectionError
            The base has ended.
        """
        self._end_scout()
        ours, theirs = socket.socketpair()
        line = Connection(ours.detach())
        with theirs:
            self._base.connection.send(("fork",))
            send_handle(self._base.connection, theirs.fileno(), self._base.pid)
            _, pid, threads = _answer(self._base.connection)
        if pid < 0:
            line.close()
            log.info("a task's process cannot be forked: each try brings the task back", extra={"threads": threads})
            return False
        self._scout = _Fork(pid, line, self._base.connection, self._base.holding)
        return True

    def give(self, begin: int, end: int, silence_s: float | None) -> Ending:
        """Let the scout make one step, with these of the rehearsal's records; its `Ending` says whether it held records back before."""
        if time.monotonic() - self._stayed >= _STAY_ALIVE_EVERY_S:
            self._alive()
            self._stayed = time.monotonic()
        scout = self._ahead()
        watch, begun = self._watch(scout, scout.connection, silence_s), time.monotonic()
        watch.at = 0
        ending = replace(watch.follow(("give", begin, end)), slowest_s=time.monotonic() - begun)
        held, scout.holding = scout.holding, ending.holding
        return replace(ending, holding=held)

    def advance(self) -> None:
        """Have the scout be the base: what it was given is survived."""
        if self._base.parent is None:
            self._base.connection.send(("rest",))
        else:
            self._base.connection.close()
        self._base, self._scout = self._ahead(), None

    def condemn(self, row: int, why: str) -> None:
        """Have the base pass over a record, with its next step."""
        self._base.connection.send(("condemn", row, why))

    def close(self) -> None:
        """Give the connections back; the processes end with the child that they come from."""
        for one in (self._scout, self._base if self._base.parent is not None else None):
            if one is not None:
                one.connection.close()

    def _ahead(self) -> _Fork:
        assert self._scout is not None  # noqa: S101 - a fork comes before each use
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
