"""Runs the services as processes of their own: starts, watches, restarts with back-off, stops; none outlives the parent."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.runner.death_note import advances
from tidemill.shared.service.service_process import MISCONFIGURED

_STABLE_AFTER_S = 30.0
_BACK_OFF_S = 0.25
_LONGEST_BACK_OFF_S = 5.0
_STATE_FOLDER = "TIDEMILL_RUNNER__STATE_FOLDER"
LOADED_ONCE = (f"{__package__}.loaded_once",)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process to keep alive: ``python -m module`` with an environment of its own.

    `niceness` is how far it steps back when the processors are busy (0 to 19). One that `stops_last` is ended when the others have: it
    still takes up what they have written. Without one that is not `vital` the others work on: however often it crashes, it is started again.
    """

    name: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    stops_last: bool = False
    vital: bool = True


class ServiceFailed(RuntimeError):
    """A service kept crashing: carries its name and the tail of its log."""


@dataclass(slots=True)
class _Child:
    spec: ServiceSpec
    process: StartedProcess
    started: float
    restarts: int = 0
    crashes: int = 0
    advances: int = 0
    due: float | None = None
    halted: bool = False


class Supervisor:
    """Keeps a set of services running, each in a process that is forked from one that has loaded their libraries.

    A service that ends while the supervisor runs is restarted: at once the first time, then after a back-off that doubles. One that crashes more
    than `crash_limit` times within half a minute each without having come further is given up, one that says it is misconfigured at once (a restart
    would not help); `check` then raises with the tail of its log. To come further is to have committed something or narrowed the search for a record
    that crashes it, as the runner notes (`tidemill.shared.runner.death_note`): any number of such records in a row is overcome.

    Parameters
    ----------
    folder
        Where the logs go, one file a service.
    environment
        Variables every service gets.
    modules
        What is loaded once for all of them (`tidemill.shared.fork_server.client.ForkServer`).
    server
        Forks them, and goes on when this supervisor has stopped; by default one of its own.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        modules: Sequence[str] = LOADED_ONCE,
        crash_limit: int = 6,
        server: ForkServer | None = None,
    ) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._server, self._closes_server = server or ForkServer(environment, modules, folder / "fork-server.log"), server is None
        self._crash_limit = crash_limit
        self._children: dict[str, _Child] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables every service gets."""
        return self._environment

    def start(self, specs: Sequence[ServiceSpec]) -> None:
        """Start every service (call from the main thread: they are tied to the thread's life)."""
        for spec in specs:
            self._children[spec.name] = _Child(spec, self._spawn(spec), time.monotonic())

    def check(self) -> None:
        """Restart what has ended; raise ServiceFailed for what cannot be helped by that."""
        with self._lock:
            now = time.monotonic()
            for child in self._children.values():
                code = child.process.poll()
                if code is None or child.halted:
                    continue
                if child.due is None:
                    further = self._advances(child.spec)
                    fresh = now - child.started > _STABLE_AFTER_S or further > child.advances
                    child.crashes, child.advances = 1 if fresh else child.crashes + 1, further
                    if code == MISCONFIGURED or (child.spec.vital and child.crashes > self._crash_limit):
                        why = "its settings or the application are wrong" if code == MISCONFIGURED else f"{child.crashes} times in a row"
                        raise ServiceFailed(f"service {child.spec.name} ended with {code}, {why}:\n{self.log_tail(child.spec.name)}")
                    child.due = now + (0.0 if child.crashes == 1 else min(_LONGEST_BACK_OFF_S, _BACK_OFF_S * 2 ** min(child.crashes - 2, 10)))
                if now >= child.due:
                    child.restarts += 1
                    child.process, child.started, child.due = self._spawn(child.spec), now, None

    def halt(self, name: str, timeout_s: float = 10.0) -> None:
        """End one service (SIGTERM, then SIGKILL) and leave it down until it is replaced."""
        with self._lock:
            child = self._children[name]
            child.halted = True
            _end([child.process], timeout_s)

    def replace(self, name: str, environment: Mapping[str, str], timeout_s: float = 10.0) -> None:
        """End one service and start it again with other variables, which it keeps however often it is restarted; that is no crash of it."""
        self.halt(name, timeout_s)
        self.set_variables(name, environment)
        with self._lock:
            child = self._children[name]
            child.process, child.started = self._spawn(child.spec), time.monotonic()
            child.crashes, child.due, child.halted = 0, None, False

    def set_variables(self, name: str, environment: Mapping[str, str]) -> None:
        """Change what a service finds in its environment when it is started the next time."""
        with self._lock:
            child = self._children[name]
            child.spec = replace(child.spec, environment={**child.spec.environment, **environment})

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
        """End every service: SIGTERM, then SIGKILL after the time-out; those that stop last after the others."""
        with self._lock:
            children, self._children = self._children, {}
        for last in (False, True):
            _end([child.process for child in children.values() if child.spec.stops_last == last], timeout_s)
        if self._closes_server:
            self._server.close()

    def _advances(self, spec: ServiceSpec) -> int:
        """How often the processes of a service have come further, by their notes."""
        folder = {**os.environ, **self._environment, **spec.environment}.get(_STATE_FOLDER)
        notes = Path(folder).glob(f"*-{spec.name}-*.note") if folder else ()
        return sum(map(advances, notes))

    def _spawn(self, spec: ServiceSpec) -> StartedProcess:
        environment = {**os.environ, **self._environment, **spec.environment}
        return self._server.start(spec.module, environment, self._folder / f"{spec.name}.log", spec.niceness)


def _end(processes: Sequence[StartedProcess], timeout_s: float) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + timeout_s
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
