"""Gives trainings to a child process and looks, without waiting, whether they have ended."""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.warm_child import WarmChild
from tidemill.shared.observability.redaction import redacted

log = logging.getLogger(__name__)
_TAIL = 2_000
_ATTEMPTS = 3


class Trainer(Protocol):
    """Where trainings run."""

    def start(self, request: JobRequest) -> None:
        """Begin one; there is one at a time, and one that runs for another request is ended."""
        ...

    def poll(self) -> JobResult | None:
        """Return the result, or None while it runs."""
        ...


class ProcessTrainer:
    """Trainer with a child process, which stays for the next training; it dies with this process, and with nothing else that this process survives.

    A result that an earlier incarnation computed and could not commit is used again: a training is a pure function of its request. A child
    that a signal ended (too little memory, an operator) says nothing about the candidate: it is started again, three times in all.

    One that takes longer than its request allows is killed and has failed: it may hang, and the next request waits for it. The time counts anew when
    it is started again.

    Parameters
    ----------
    folder
        Requests, results and logs, by decision id.
    clock
        Seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._longest_s = self._ends_at = math.inf
        self._child = WarmChild("tidemill.services.retraining.processes.job")
        self._decision = ""
        self._version = ""
        self._attempts = 0
        self._running = ""

    def start(self, request: JobRequest) -> None:
        """Begin a training; the same one goes on when it runs already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._decision, self._version = request.retraining["decision_id"], version_name(request.retraining)
        path = self._folder / f"{self._decision}.json"
        text = json.dumps(asdict(request), sort_keys=True)
        same = path.exists() and path.read_text(encoding="utf-8") == text
        if self._running:
            if same and self._running == self._decision:
                return
            self._child.kill()
            self._running = ""
        if not same:
            self._result().unlink(missing_ok=True)
            path.write_text(text, encoding="utf-8")
        if self._result().exists():
            return
        self._attempts = 0
        self._longest_s = request.max_duration_ms / 1e3
        self._launch()

    def poll(self) -> JobResult | None:
        """Return the result; a child that died without one is a failed training with the end of its log."""
        if not self._result().exists():
            code = self._child.exit_code()
            # It may have ended between the two looks, with its result written.
            if code is None and not self._result().exists() and self._clock() >= self._ends_at:
                return self._timed_out()
            if code is None or self._result().exists():
                return None
            if code < 0 and self._attempts < _ATTEMPTS:
                log.warning("training process killed, starting it again", extra={"decision_id": self._decision, "signal": -code})
                self._launch()
                return None
            self._running = ""
            return self._died(code)
        self._running = ""
        return JobResult(**json.loads(self._result().read_text(encoding="utf-8")))

    def _launch(self) -> None:
        self._attempts += 1
        self._running = self._decision
        self._ends_at = self._clock() + self._longest_s
        self._child.start(self._folder / f"{self._decision}.json", self._result(), self._log())

    def _timed_out(self) -> JobResult:
        self._child.kill()
        self._running = ""
        reason = f"timed out after {self._longest_s:g} s (training.max_duration)"
        log.error("training ended: it took too long", extra={"decision_id": self._decision, "limit_s": self._longest_s})
        return JobResult(False, reason, self._version, False, False, "", "", 0.5, {}, {})

    def _died(self, code: int) -> JobResult:
        tail = redacted(self._log().read_text(errors="replace")[-_TAIL:])
        log.error("training process died", extra={"decision_id": self._decision, "code": code, "log": tail})
        last = tail.strip().splitlines()[-1] if tail.strip() else "no output"
        how = f"was killed by signal {-code}, {self._attempts} times" if code < 0 else f"ended with {code}"
        return JobResult(False, f"the training process {how}: {last}", self._version, False, False, "", "", 0.5, {}, {})

    def _result(self) -> Path:
        return self._folder / f"{self._decision}.result.json"

    def _log(self) -> Path:
        return self._folder / f"{self._decision}.log"
