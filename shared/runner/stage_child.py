"""A child process that goes through a rehearsal in the place of its parent: whatever ends it ends nothing else."""

import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.rehearsal import RESTORING, Rehearsal, StepObserver

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.05
_STAY_ALIVE_EVERY_S = 0.5
# Bringing a task back is one call for a task that merges its inputs, and longer than a step.
_RESTORING_TAKES = 5.0
# An interpreter and its libraries, on a busy machine: that says nothing of the task.
_STARTS_S = 120.0
_TAIL = 2_000
# One search takes a child after the other: what forks them goes when none has been wanted for so long.
_KEPT_S = 60.0
# Nothing of the stage goes on while that one starts: less than a process that hangs is given.
_SERVER_ANSWERS_S = 30.0


class Rehearses(Protocol):
    """What a child makes: `tidemill.shared.runner.runner.Runner`."""

    def rehearse(self, rehearsal: Rehearsal, told: StepObserver) -> None:
        """Go through a rehearsal."""
        ...


# Makes the stage in the child, with a broker that is lent and a folder of its own. It is pickled: a function of a module, or a partial of one.
MakeStage = Callable[[Broker, Path], Rehearses]


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
    slowest_s
        Time that the slowest piece took; None when it got over none.
    """

    at: int | None
    how: str | None = None
    holding: bool = False
    slowest_s: float | None = None

    @property
    def survived(self) -> bool:
        """Whether the task went through all of it."""
        return self.how is None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a child is told first."""

    make: MakeStage
    rehearsal: Rehearsal
    folder: Path


class StageChild:
    """Starts a child for each rehearsal and watches it.

    The child is never a fork of this process, whose clients have threads, but of an interpreter that has loaded libraries only
    (`tidemill.shared.fork_server`). It gets the rehearsal, asks its parent for what it reads
    (`LentBroker`), and says before each step where it is. It is the first that the kernel ends when memory runs out, has a limit of its own
    below what is free, and ends with its parent. The parent stays in its group meanwhile.

    Parameters
    ----------
    make
        Makes the stage in the child.
    folder
        Emptied before and after each rehearsal.
    silence_s
        A child that says nothing for longer hangs; five times that while it restores.
    memory_bytes
        Limit; None: four fifths of what is available when it starts.
    modules
        What the interpreter loads before it is forked.
    """

    def __init__(self, make: MakeStage, folder: Path, silence_s: float, memory_bytes: int | None = None, modules: Sequence[str] = ()) -> None:
        self._make, self._folder, self._silence_s, self._memory_bytes = make, folder, silence_s, memory_bytes
        self._server = ForkServer({}, modules, folder.with_name(f"{folder.name}.log"), _SERVER_ANSWERS_S)
        self._closing: threading.Timer | None = None

    def go(self, rehearsal: Rehearsal, lender: Lender, alive: Callable[[], None], silence_s: float | None = None) -> Ending:
        """Let a child go through a rehearsal.

        Parameters
        ----------
        alive
            Called every half second; what it raises ends the child.
        silence_s
            A shorter limit for its steps, when it is known how long they take.

        Raises
        ------
        TransientError
            Something outside failed, in the child or in what it was to read: it says nothing of the records (retry).
        """
        if self._closing is not None:
            self._closing.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._server.start(f"{__package__}.rehearsal_child", os.environ, self._folder / "output", sockets=[theirs])
        connection = Connection(ours.detach())
        try:
            limit = self._memory_bytes or available_bytes() * 4 // 5
            watch = _Watch(process, connection, lender, alive, limit, min(silence_s or self._silence_s, self._silence_s), self._silence_s)
            ending = watch.follow(Offer(self._make, rehearsal, self._folder / "state"))
        finally:
            process.kill()
            process.wait()
            connection.close()
            said = self._said()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._close_later()
        if not ending.survived:
            detail = {"partition": rehearsal.partition, "stage": rehearsal.stage, "at": ending.at, "ended_by": ending.how, "said": said}
            log.warning("a child process did not survive a rehearsal", extra=detail)
        return ending

    def _close_later(self) -> None:
        self._closing = threading.Timer(_KEPT_S, self._server.close_if_idle)
        self._closing.daemon = True
        self._closing.start()

    def _said(self) -> str:
        try:
            return (self._folder / "output").read_text(errors="replace")[-_TAIL:]
        except OSError:
            return ""


@dataclass(slots=True)
class _Watch:
    """The parent's end of one child."""

    process: StartedProcess
    connection: Connection
    lender: Lender
    alive: Callable[[], None]
    memory_bytes: int
    step_s: float
    silence_s: float
    at: int | None = None
    holding: bool = False
    slowest_s: float | None = None
    began: float = 0.0

    def follow(self, offer: Offer) -> Ending:
        heard = stayed = time.monotonic()
        try:
            self.connection.send(offer)
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

    def _ending(self, how: str | None) -> Ending:
        return Ending(self.at, how, self.holding, self.slowest_s)

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
                now = time.monotonic()
                if self.at is not None and self.at >= 0:
                    self.slowest_s = max(self.slowest_s or 0.0, now - self.began)
                self.at, self.holding, self.began = number, holding, now
            case ("survived",):
                return self._ending(None)
            case ("raised", error):
                return self._ending(error)
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


def available_bytes() -> int:
    """Memory that is free for the taking: of the machine, or of this process's control group where that is less."""
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return available
    return available if limit == "max" else max(0, min(available, int(limit) - int(used)))


def _said_of(code: int) -> str:
    if code >= 0:
        return f"the process left with exit code {code}"
    return f"the process was ended by signal {-code} ({signal.Signals(-code).name})"
