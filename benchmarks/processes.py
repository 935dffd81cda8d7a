"""What the operating system says about a process tree: CPU time, peak memory, and the cores it may use."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """Return the core of the system under test and the core of broker and driver; one and the same on a machine with one core."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def pin(pid: int, to: Iterable[int]) -> None:
    """Confine every thread of a running process; threads made later inherit it."""
    wanted = set(to)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), wanted)
        except ProcessLookupError:  # the thread ended meanwhile
            continue


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    members, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        members.append(current)
        try:
            for thread in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return members


def cpu_s(pids: Iterable[int]) -> float:
    """Return user and system seconds, ended and waited-for children included."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_S


def peak_memory_mb(pids: Iterable[int]) -> float:
    """Return the sum of the largest resident sizes so far."""
    kilobytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kilobytes / 1024


def _confine(allowed: set[int]) -> None:
    """In the new process: keep to these cores, and end with the benchmark, however it ends."""
    os.sched_setaffinity(0, allowed)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class SystemUnderTest:
    """One system in a session of its own, on its core.

    Parameters
    ----------
    command, environment
        What to run; `environment` is added to this process's.
    log
        Where its output goes.
    on
        Cores it may use.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, on: Iterable[int]) -> None:
        self.log = log
        allowed = set(on)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: _confine(allowed),
            )

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        return tree(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 12) -> str:
        """Last lines of its output."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End it and everything it started with SIGKILL, as a crash would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, patience_s: float = 10.0) -> None:
        """End it: SIGTERM, then SIGKILL for its whole session."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass  # the signal below ends it
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait(patience_s)


class Together:
    """Several processes measured as one system."""

    def __init__(self, members: Sequence[SystemUnderTest]) -> None:
        self._members = members
        self.log = members[0].log

    @property
    def pids(self) -> list[int]:
        """All processes and their descendants."""
        return [pid for member in self._members for pid in member.pids]

    @property
    def exit_code(self) -> int | None:
        """None while all run, else the exit code of one that ended."""
        return next((code for member in self._members if (code := member.exit_code) is not None), None)

    def tail(self, lines: int = 12) -> str:
        """Last lines of each one's output."""
        return "\n".join(member.tail(lines) for member in self._members)

    def stop(self) -> None:
        """End all."""
        for member in self._members:
            member.stop()
