"""A child process that goes through a rehearsal in the place of its parent: whatever ends it ends nothing else."""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.runner.child_watch import ChildWatch, Ending, WatchedProcess
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.offer import MakeStage, Offer
from tidemill.shared.runner.rehearsal import Rehearsal
from tidemill.shared.runner.scouts import Scouts

log = logging.getLogger(__name__)
_TAIL = 2_000
# One search takes a child after the other: what forks them goes when none has been wanted for so long.
_KEPT_S = 60.0
# Nothing of the stage goes on while that one starts: less than a process that hangs is given.
_SERVER_ANSWERS_S = 30.0


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

    def go(self, rehearsal: Rehearsal, lender: Lender, alive: Callable[[], None]) -> Ending:
        """Let a child go through a rehearsal.

        Parameters
        ----------
        alive
            Called every half second; what it raises ends the child.

        Raises
        ------
        TransientError
            Something outside failed, in the child or in what it was to read: it says nothing of the records (retry).
        """
        with self._started() as (process, connection):
            limit = self._memory_bytes or available_bytes() * 4 // 5
            watch = ChildWatch(process, connection, lender, alive, limit, self._silence_s, self._silence_s)
            ending = watch.follow(Offer(self._make, rehearsal, self._folder / "state"))
            process.kill()
            process.wait()
            said = self._said()
        if not ending.survived:
            detail = {"partition": rehearsal.partition, "stage": rehearsal.stage, "at": ending.at, "ended_by": ending.how, "said": said}
            log.warning("a child process did not survive a rehearsal", extra=detail)
        return ending

    @contextmanager
    def scouts(self, rehearsal: Rehearsal, lender: Lender, alive: Callable[[], None]) -> Iterator[Scouts]:
        """Have a child bring a task back, and scouts go ahead with it: see `Scouts`. All of them end with the context."""
        # Once, before any of them runs: what they share counts for each.
        limit = self._memory_bytes or available_bytes() * 4 // 5

        def watch(which: WatchedProcess, line: Connection, silence_s: float | None) -> ChildWatch:
            return ChildWatch(which, line, lender, alive, limit, min(silence_s or self._silence_s, self._silence_s), self._silence_s)

        with ExitStack() as child:

            def start() -> tuple[WatchedProcess, Connection]:
                child.close()
                return child.enter_context(self._started())

            with closing(Scouts(start, Offer(self._make, rehearsal, self._folder / "state", by_scouts=True), watch, alive)) as scouts:
                yield scouts

    @contextmanager
    def _started(self) -> Iterator[tuple[StartedProcess, Connection]]:
        """Start a child; with the context it ends, and what it has forked."""
        if self._closing is not None:
            self._closing.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        (ours, theirs), (lifeline, its_end) = socket.socketpair(), socket.socketpair()
        with lifeline:
            with theirs, its_end:
                process = self._server.start(f"{__package__}.rehearsal_child", os.environ, self._folder / "output", sockets=[theirs, its_end])
            connection = Connection(ours.detach())
            try:
                yield process, connection
            finally:
                process.kill()
                process.wait()
                connection.close()
                self._close_later()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _close_later(self) -> None:
        self._closing = threading.Timer(_KEPT_S, self._server.close_if_idle)
        self._closing.daemon = True
        self._closing.start()

    def _said(self) -> str:
        try:
            return (self._folder / "output").read_text(errors="replace")[-_TAIL:]
        except OSError:
            return ""


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
