"""Keeps the model registry up to date with the lifecycle log, in a child process.

Run as ``python -m tidemill.services.retraining.processes.registrar FILE``.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.shared.lifeline import tied_to_parent
from tidemill.shared.models.registry import ModelRegistry
from tidemill.shared.observability.redaction import redact_tracebacks, redacted

log = logging.getLogger(__name__)
_REST_S, _LONGEST_REST_S = 10.0, 60.0
# It rests so many times as long as it ran: a tenth of a processor at most, on a machine of any speed.
_RESTS = 9.0
_TAIL = 1_000


class Registrar(Protocol):
    """Tells a registry what serves."""

    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        """Take note of a training that has ended: once, however often it is said."""
        ...

    def want(self, models: Mapping[str, ServiceTimes]) -> None:
        """Take note of what the registry should say, by model; only the last word counts."""
        ...

    def poll(self) -> None:
        """Bring the registry nearer to it, without waiting."""
        ...


class ProcessRegistrar:
    """Registrar on MLflow.

    The lifecycle log decides, the registry shows: neither a training nor a roll-back waits for it. A registry that does not answer is told later,
    and after a restart it is told everything again (which changes nothing). Trainings wait for it as files, versions in service in memory, since the
    lifecycle log has them. Loading MLflow costs several CPU seconds, hence the child process. It gives way to everything else on the machine, and
    rests ten seconds at least, and nine times as long as it ran, up to a minute.

    Parameters
    ----------
    folder
        Its input and log.
    app, uri
        The application and the registry's address.
    """

    def __init__(self, folder: Path, app: str, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._app, self._uri, self._clock = folder, app, uri, clock
        self._queue = folder / "to-register"
        self._wanted: dict[str, Any] = {}
        self._telling: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._wait_s, self._not_before, self._began = _REST_S, 0.0, 0.0

    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        """Queue a training as a file, which survives this process and is deleted once the registry has it."""
        self._queue.mkdir(parents=True, exist_ok=True)
        part = self._queue / f"{decision}.part"
        part.write_text(json.dumps(dict(record)), encoding="utf-8")
        part.replace(self._queue / f"{decision}.json")

    def want(self, models: Mapping[str, ServiceTimes]) -> None:
        """Take note of the last word."""
        self._wanted = {name: asdict(times) for name, times in models.items() if times.champion}

    def poll(self) -> None:
        """Look after the child; start one when there is something to tell."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._process = None
            if code == 0:
                self._told, self._wait_s = self._telling, _REST_S
                rest_s = _RESTS * (self._clock() - self._began)
                self._not_before = self._clock() + min(_LONGEST_REST_S, max(_REST_S, rest_s))
            else:
                tail = self._log().read_text(errors="replace")[-_TAIL:]
                told = {"wait_s": self._wait_s, "registry": redacted(self._uri), "log": redacted(tail)}
                log.warning("the model registry was not told, trying again", extra=told)
                self._not_before = self._clock() + self._wait_s
                self._wait_s = min(_LONGEST_REST_S, 2 * self._wait_s)
        if self._clock() >= self._not_before and (self._wanted != self._told or any(self._queue.glob("*.json"))):
            self._tell()

    def _tell(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._telling, self._began = self._wanted, self._clock()
        path = self._folder / "registrar.json"
        path.touch(mode=0o600)  # The address may hold a password.
        path.write_text(json.dumps({"app": self._app, "uri": self._uri, "models": self._telling, "queue": str(self._queue)}), encoding="utf-8")
        with self._log().open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tidemill.services.retraining.processes.registrar", str(path)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, preexec_fn=tied_to_parent(),
            )  # fmt: skip

    def _log(self) -> Path:
        return self._folder / "registrar.log"


def main(arguments: list[str]) -> int:
    """Tell the registry what a file says."""
    redact_tracebacks()
    (source,) = map(Path, arguments)
    os.nice(19)
    told = json.loads(source.read_text(encoding="utf-8"))
    registry = ModelRegistry(told["uri"])
    # In the order in which they ended, so that versions are numbered as they came.
    for path in sorted(Path(told["queue"]).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        one = json.loads(path.read_text(encoding="utf-8"))
        registry.record(told["app"], **one)
        path.unlink()
    for model, times in told["models"].items():
        registry.deployed(told["app"], model, times["versions"], times["champion"])
    return 0


if __name__ == "__main__":
    for library in ("pandas", "polars"):
        # MLflow loads them where they are installed, for tables that it is not given here: a quarter of its start. None says that there is no such.
        sys.modules[library] = None  # type: ignore[assignment]
    raise SystemExit(main(sys.argv[1:]))
