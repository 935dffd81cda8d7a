"""Follows a child process until it has done what it was told, ends, takes too much memory, or says nothing for too long."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.rehearsal import RESTORING

_LOOK_EVERY_S = 0.05
_STAY_ALIVE_EVERY_S = 0.5
# Bringing a task back is one call for a task that merges its inputs, and longer than a step.
_RESTORING_TAKES = 5.0
# An interpreter and its libraries, on a busy machine: that says nothing of the task.
_STARTS_S = 120.0


class WatchedProcess(Protocol):
    """A process whose end can be asked for."""

    @property
    def pid(self) -> int: ...  # noqa: D102

    def wait(self) -> int:
        """Wait for its end; its exit code, or the number of the signal that ended it below zero."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child has ended.

    Attributes
    ----------
    at
        The piece it was at (`tidemill.shared.runner.rehearsal.perform`); None when it could not be used, so nothing is known of the task.
    how
        What ended it, for people; None when it survived.
    holding
        Whether the task, before that piece, held back what it had been given.
    took_s
        Time that a scout's step took; None for a whole rehearsal.
    raised
        Whether it has raised an exception: its process is still there.
    """

    at: int | None
    how: str | None = None
    holding: bool = False
    took_s: float | None = None
    raised: bool = False

    @property
    def survived(self) -> bool:
        """Whether the task went through all of it."""
        return self.how is None


@dataclass(slots=True)
class ChildWatch:
    """The parent's end of one child.

    Attributes
    ----------
    alive
        Called every half second; what it raises ends the watch.
    memory_bytes
        More than this and it has run out of memory.
    step_s, silence_s
        How long a piece may take; how long one may that decides, and a fifth of the restore.
    at, holding
        Where it is, and whether the task holds back what it was given before.
    """

    process: WatchedProcess
    connection: Connection
    lender: Lender
    alive: Callable[[], None]
    memory_bytes: int
    step_s: float
    silence_s: float
    at: int | None = None
    holding: bool = False

    def follow(self, order: object) -> Ending:
        """Give the child an order and listen until it is done, or the child's end is near.

        Raises
        ------
        TransientError
            Something outside failed, in the child or in what it was to read (retry).
        """
        heard = stayed = time.monotonic()
        try:
            self.connection.send(order)
            while True:
                now = time.monotonic()
                if now - stayed >= _STAY_ALIVE_EVERY_S:
                    self.alive()
                    stayed = now
                # Its own limit (RLIMIT_DATA) would count what is reserved only: the feature state reserves its address space at once.
                if resident_bytes(self.process.pid) > self.memory_bytes:
                    return self._ending(f"lack of memory: it took more than {self.memory_bytes >> 20} MiB")
                if self.connection.poll(_LOOK_EVERY_S):
                    end = self._hear(self.connection.recv())
                    if end is not None:
                        return end
                    heard = time.monotonic()
                elif now - heard > self._patience_s():
                    return self._ending(f"a hang: it did not come back within {self._patience_s():.0f} s")
        except (EOFError, ConnectionError):
            return self._ending(_said_of(self.process.wait()))

    def _ending(self, how: str | None, raised: bool = False) -> Ending:
        return Ending(self.at, how, self.holding, raised=raised)

    def _patience_s(self) -> float:
        if self.at is None:
            return _STARTS_S
        if self.at == RESTORING:
            return _RESTORING_TAKES * self.silence_s
        return self.step_s

    def _hear(self, message: tuple[Any, ...]) -> Ending | None:
        match message:
            case ("ask", what, about):
                self.connection.send(self.lender.answer(what, about))
            case ("at", number, holding):
                self.at, self.holding = number, holding
            case ("survived", holding):
                self.holding = holding
                return self._ending(None)
            case ("raised", error):
                return self._ending(error, raised=True)
            case ("unusable", error):
                return Ending(None, error)
            case ("away", error):
                raise ServerAwayError(f"in a child process: {error}")
            case ("outside", error):
                raise TransientError(f"in a child process: {error}")
            case _:
                raise ValueError(f"expected a message of a rehearsal's child, got {message!r}")
        return None


def resident_bytes(pid: int) -> int:
    """Memory that a process occupies; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def _said_of(code: int) -> str:
    if code >= 0:
        return f"the process left with exit code {code}"
    return f"the process was ended by signal {-code} ({signal.Signals(-code).name})"
