"""Processes that live and die together: the instances of the prediction path, and what works behind it."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import psutil

from campaigns.chaos.points import CLOCK, STRUCK, VARIABLE
from tidemill.deploy.embedded.component import free_port
from tidemill.runs.pipeline import stage_spec
from tidemill.runs.supervisor import LOADED_ONCE, Supervisor
from tidemill.shared.fork_server.client import ForkServer

_HOOK = Path(__file__).with_name("hook")
_ROOT = Path(__file__).parents[2]
_STOP_S = 10.0


def fork_server(environment: Mapping[str, str], folder: Path) -> ForkServer:
    """Return the process that the services of all machines are forked from: it has loaded their libraries, and the hook.

    Parameters
    ----------
    environment
        Of every service.
    folder
        Where it says why it cannot start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return ForkServer({**environment, "PYTHONPATH": _python_path()}, LOADED_ONCE, folder / "fork-server.log")


def _python_path() -> str:
    return os.pathsep.join([str(_HOOK), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


class Machine:
    """Services under one supervisor, that of `tidemill up`: it starts again what has ended.

    Parameters
    ----------
    name
        Of the instance.
    stages
        Its processes.
    environment
        Of every service of the application.
    folder
        Logs, orders and state of all machines.
    forks
        Forks the processes of all machines (`fork_server`).
    """

    def __init__(self, name: str, stages: Sequence[str], environment: Mapping[str, str], folder: Path, forks: ForkServer) -> None:
        self.name, self.stages = name, tuple(stages)
        self._folder = folder
        self._ports = {stage: free_port() for stage in stages}
        shared = {"TIDEMILL_INSTANCE": name, "TIDEMILL_RUNNER__STATE_FOLDER": str((folder / "state" / name).absolute()), "PYTHONPATH": _python_path()}
        self._supervisor = Supervisor(folder / "logs" / name, {**environment, **shared}, server=forks)
        specs = []
        for stage in stages:
            self.orders(stage).mkdir(parents=True, exist_ok=True)
            spec = stage_spec(stage, environment)
            own = {"TIDEMILL_HEALTH__PORT": str(self._ports[stage]), VARIABLE: str(self.orders(stage).absolute())}
            specs.append(replace(spec, environment={**spec.environment, **own}))
        self._supervisor.start(specs)

    def check(self) -> None:
        """Start again what has ended; ServiceFailed when that does not help."""
        self._supervisor.check()

    def stop(self) -> None:
        """End every process in good order."""
        self._supervisor.stop(_STOP_S)

    def kill_all(self) -> None:
        """End every process as a power cut does."""
        for pid in self._supervisor.pids().values():
            self._send(pid, signal.SIGKILL)
        self._supervisor.stop(_STOP_S)

    def restarts(self) -> int:
        """Restarts of all processes so far."""
        return sum(self._supervisor.restarts().values())

    def pid(self, stage: str) -> int:
        """Process id of a stage."""
        return self._supervisor.pids()[stage]

    def send(self, stage: str, number: signal.Signals) -> None:
        """Send a signal; one that has ended already gets none."""
        self._send(self.pid(stage), number)

    def kill(self, stage: str) -> None:
        """SIGKILL, now."""
        self._supervisor.kill(stage)

    def children(self, stage: str) -> list[psutil.Process]:
        """Processes below a stage."""
        try:
            return list(psutil.Process(self.pid(stage)).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def is_ready(self, *stages: str) -> bool:
        """Whether the stages (all, by default) have what the group gives them, with its state."""
        return all(self._answer(stage, "ready") for stage in stages or self.stages)

    def is_live(self, *stages: str) -> bool:
        """Whether the stages' loops go on: an instance that has no partition yet is not ready."""
        return all(self._answer(stage, "live") for stage in stages or self.stages)

    def unready(self, stage: str) -> str:
        """What a stage says of why it is not ready; nothing when it is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[stage]}/ready", timeout=0.5):
                return ""
        except urllib.error.HTTPError as answer:
            try:
                return f"({answer.read().decode(errors='replace').strip()})"
            except (OSError, HTTPException):  # It was stopped or killed in the middle of its answer.
                return "(an answer without an end)"
        except OSError:
            return "(no answer)"

    def orders(self, stage: str) -> Path:
        """Where a stage looks for orders."""
        return self._folder / "orders" / self.name / stage

    def order(self, stage: str, point: str, how: str, seconds: float = 0.0) -> None:
        """Have a stage struck at the next call of a point."""
        file = self.orders(stage) / point
        file.with_name(point + STRUCK).unlink(missing_ok=True)
        draft = file.with_name(point + ".draft")
        draft.write_text(f"{how} {seconds}", encoding="utf-8")
        draft.rename(file)

    def was_struck(self, stage: str, point: str) -> bool:
        """Whether an order was carried out."""
        return (self.orders(stage) / (point + STRUCK)).exists()

    def withdraw(self, stage: str, point: str) -> None:
        """Take an order back."""
        (self.orders(stage) / point).unlink(missing_ok=True)

    def set_clock(self, ahead_s: float) -> None:
        """Set the machine's wall clock."""
        for stage in self.stages:
            (self.orders(stage) / CLOCK).write_text(str(ahead_s), encoding="utf-8")

    def _answer(self, stage: str, what: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[stage]}/{what}", timeout=0.5) as answer:
                return bool(json.load(answer)[what])
        except (urllib.error.URLError, OSError, ValueError):
            return False

    @staticmethod
    def _send(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
