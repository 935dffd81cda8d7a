"""Runs the services as child processes: starts, watches, restarts with back-off, stops; none outlives the parent."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_STABLE_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process to keep alive: ``python -m module`` with an environment of its own."""

    name: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


class ServiceFailed(RuntimeError):
    """A service kept crashing: carries its name and the tail of its log."""


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(slots=True)
class _Child:
    spec: ServiceSpec
    process: subprocess.Popen[bytes]
    started: float
    restarts: int = 0
    crashes: deque[float] = field(default_factory=lambda: deque(maxlen=8))


class Supervisor:
    """Keeps a set of services running.

    A service that ends while the supervisor runs is restarted after a back-off; one that crashes more than `crash_limit`
    times within half a minute each is given up, and `check` raises with the tail of its log.

    Parameters
    ----------
    folder
        Where the logs go, one file a service.
    environment
        Variables every service gets.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *, crash_limit: int = 6) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._crash_limit = crash_limit
        self._children: dict[str, _Child] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, specs: Sequence[ServiceSpec]) -> None:
        """Start every service (call from the main thread: children are tied to the thread's life)."""
        for spec in specs:
            self._children[spec.name] = _Child(spec, self._spawn(spec), time.monotonic())

    def check(self) -> None:
        """Restart what has ended; raise ServiceFailed for what keeps crashing."""
        with self._lock:
            for child in self._children.values():
                code = child.process.poll()
                if code is None:
                    continue
                now = time.monotonic()
                if now - child.started > _STABLE_AFTER_S:
                    child.crashes.clear()
                child.crashes.append(now)
                if len(child.crashes) > self._crash_limit:
                    raise ServiceFailed(
                        f"service {child.spec.name} ended with {code}, {len(child.crashes)} times in a row:\n{self.log_tail(child.spec.name)}"
                    )
                child.restarts += 1
                child.process = self._spawn(child.spec)
                child.started = now

    def kill(self, name: str) -> int:
        """SIGKILL one service (chaos tests); `check` restarts it. Returns the pid that was killed."""
        process = self._children[name].process
        process.kill()
        process.wait()
        return process.pid

    def restarts(self) -> dict[str, int]:
        """Restarts so far per service."""
        return {name: child.restarts for name, child in self._children.items()}

    def pids(self) -> dict[str, int]:
        """Process ids of the running services."""
        return {name: child.process.pid for name, child in self._children.items()}

    def log_tail(self, name: str, lines: int = 30) -> str:
        """Last lines of a service's log."""
        path = self._folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def stop(self, timeout_s: float = 10.0) -> None:
        """End every service: SIGTERM, then SIGKILL after the time-out."""
        with self._lock:
            children, self._children = self._children, {}
        for child in children.values():
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + timeout_s
        for child in children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def _spawn(self, spec: ServiceSpec) -> subprocess.Popen[bytes]:
        with (self._folder / f"{spec.name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", spec.module],
                env={**os.environ, **self._environment, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
