"""Starts trainings in child processes and looks, without waiting, whether they have ended."""

import ctypes
import json
import logging
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from services.retraining.job import JobRequest, JobResult, version_name

log = logging.getLogger(__name__)
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_TAIL = 2_000


class Trainer(Protocol):
    """Where trainings run."""

    def start(self, request: JobRequest) -> None:
        """Begin one; there is one at a time."""
        ...

    def poll(self) -> JobResult | None:
        """Return the result, or None while it runs."""
        ...


class ProcessTrainer:
    """Trainer with one child process a training; the child dies with this process.

    A result that an earlier incarnation computed and could not commit is used again: a training is a pure function of its request.

    Parameters
    ----------
    folder
        Requests, results and logs, by decision id.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._decision = ""
        self._version = ""

    def start(self, request: JobRequest) -> None:
        """Begin a training."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._decision, self._version = request.retraining["decision_id"], version_name(request.retraining)
        path = self._folder / f"{self._decision}.json"
        text = json.dumps(asdict(request), sort_keys=True)
        if not (path.exists() and path.read_text(encoding="utf-8") == text):
            self._result().unlink(missing_ok=True)
            path.write_text(text, encoding="utf-8")
        if self._result().exists():
            self._process = None
            return
        with self._log().open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.retraining.job", str(path), str(self._result())],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def poll(self) -> JobResult | None:
        """Return the result; a child that died without one is a failed training with the end of its log."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return None
            self._process = None
            if code != 0:
                tail = self._log().read_text(errors="replace")[-_TAIL:]
                log.error("training process died", extra={"decision_id": self._decision, "code": code, "log": tail})
                last = tail.strip().splitlines()[-1] if tail.strip() else "no output"
                return JobResult(False, f"the training process ended with {code}: {last}", self._version, False, False, "", "", 0.5, {}, {})
        return JobResult(**json.loads(self._result().read_text(encoding="utf-8")))

    def _result(self) -> Path:
        return self._folder / f"{self._decision}.result.json"

    def _log(self) -> Path:
        return self._folder / f"{self._decision}.log"


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
