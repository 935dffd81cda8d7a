"""Gives trainings to a child process and looks, without waiting, whether they have ended."""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from tidemill.services.retraining.processes.job_files import PASSING, JobNews, JobRequest, JobResult, progress_file, trials_folder, version_name
from tidemill.services.retraining.processes.last_words import last_words
from tidemill.services.retraining.processes.warm_child import WarmChild
from tidemill.shared.observability.redaction import redacted

log = logging.getLogger(__name__)
_TAIL = 20_000


class Trainer(Protocol):
    """Where trainings run."""

    def start(self, request: JobRequest) -> None:
        """Begin one; there is one at a time, and one that runs for another request is ended."""
        ...

    def poll(self) -> JobResult | None:
        """Return the result, or None while it runs."""
        ...

    def news(self) -> list[JobNews]:
        """Return what has happened to the training since the last call: nothing, where nobody tells."""
        return []

    def close(self) -> None:
        """End what still runs, or waits for the next training; nothing where there is no such thing."""
        return None


class ProcessTrainer(Trainer):
    """Trainer with a child process, which stays for the next training; it dies with this process, and with nothing else that this process survives.

    A result that an earlier incarnation computed and could not commit is used again: a training is a pure function of its request.

    What ends a child and may pass says nothing about the candidate: a signal (too little memory, an operator), a lake or a store that does not
    answer, a disk. The training is begun again, as often as its request allows, each time after twice as long, give or take a half by its
    decision's id; how often it was is kept on the disk. What the training itself says (too few rows, an error in the code) ends it.

    One that takes longer than its request allows is killed: it may hang, on a lake or a machine that swaps. It is begun again like the others, with
    the whole time, because a hang passes as a lake does, and one that was only slow finds the trials it has finished.

    A result says the processor time of the whole training: its attempt tells its own, and of those that ended without a result it is what was seen
    last, which stands on the disk beside how many they were.

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
        self._retries, self._delay_s = 0, 0.0
        self._failures = 0
        self._spent_s = self._begun_at_s = self._seen_s = 0.0
        self._again_at: float | None = None
        self._running = ""
        self._news: list[JobNews] = []
        self._step = ""

    def start(self, request: JobRequest) -> None:
        """Begin a training; the same one goes on when it runs already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._again_at = None if self._running != request.retraining["decision_id"] else self._again_at
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
            self._failures_file().unlink(missing_ok=True)
            self._spent_file().unlink(missing_ok=True)
            self._forget_trials()
            path.write_text(text, encoding="utf-8")
        if self._result().exists():
            self._spent_s = self._spent_before()
            return
        self._failures = int(self._failures_file().read_text(encoding="utf-8")) if self._failures_file().exists() else 0
        self._spent_s = self._spent_before()
        self._retries, self._delay_s = request.retries, request.retry_delay_ms / 1e3
        self._longest_s = request.max_duration_ms / 1e3
        self._news = []
        self._launch()

    def poll(self) -> JobResult | None:
        """Return the result; a child that died without one is a failed training with the end of its log."""
        if self._again_at is not None:
            if self._clock() >= self._again_at:
                self._launch()
            return None
        written = self._result()
        if not written.exists():
            self._seen_s = max(self._seen_s, self._child.cpu_s() - self._begun_at_s)
            code = self._child.exit_code()
            # It may have ended between the two looks, with its result written.
            if code is None and not written.exists() and self._clock() >= self._ends_at:
                self._child.kill()
                return self._ended(f"timed out after {self._longest_s:g} s (training.max_duration)", may_pass=True)
            if code is None or written.exists():
                return None
            how, last = self._end(code)
            return self._ended(f"the training process {how}", may_pass=code < 0 or code == PASSING, last=last)
        self._running = ""
        self._forget_trials()
        result = JobResult(**json.loads(written.read_text(encoding="utf-8")))
        return replace(result, cpu_s=result.cpu_s + self._spent_s)

    def news(self) -> list[JobNews]:
        """Return what has happened to the training since the last call: how far it has come, and why it is begun again."""
        self._note_step()
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """End the child process."""
        self._child.kill()
        self._running = ""

    def _note_step(self) -> None:
        """Take note of the step that the attempt is at, where it has come further."""
        if self._running and (step := self._last_step()) != self._step and step:
            self._step = step
            name, done, of = json.loads(step)
            words = f"{name}, {done} of {of} done" if of > 1 else name
            self._news.append(JobNews("step", words, {"step": name, "done": str(done), "of": str(of), "attempt": str(self._failures + 1)}))

    def _last_step(self) -> str:
        try:
            return self._progress().read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _ended(self, how: str, may_pass: bool, last: str = "") -> JobResult | None:
        """Take note of an attempt that ended without a result: begin it again after a while (None), or give up."""
        self._note_step()
        self._spent_s += self._seen_s
        self._spent_file().write_text(repr(self._spent_s), encoding="utf-8")
        why = f": {last}" if last else ""
        if not may_pass or self._failures >= self._retries:
            self._running = ""
            self._forget_trials()
            log.error("training ended without a result", extra={"decision_id": self._decision, "how": how, "last": last})
            times = f", attempt {self._failures + 1} of {self._retries + 1}" if self._failures else ""
            return JobResult(finished=False, reason=f"{how}{times}{why}", version=self._version, cpu_s=self._spent_s)
        self._failures += 1
        self._failures_file().write_text(str(self._failures), encoding="utf-8")
        wait_s = self._delay_s * 2 ** (self._failures - 1) * (0.5 + _share(f"{self._decision}/{self._failures}"))
        self._again_at = self._clock() + wait_s
        log.warning("training ended, beginning it again", extra={"decision_id": self._decision, "how": how, "wait_s": wait_s})
        details = {"attempt": str(self._failures), "of": str(self._retries + 1), "wait_s": f"{wait_s:.1f}"}
        self._news.append(JobNews("retrying", f"{how}{why}; again in {wait_s:.0f} s", details))
        return None

    def _launch(self) -> None:
        self._again_at = None
        self._running, self._step = self._decision, ""
        self._progress().unlink(missing_ok=True)
        self._ends_at = self._clock() + self._longest_s
        self._child.start(self._folder / f"{self._decision}.json", self._result(), self._log())
        # A child that stays has earlier trainings behind it; a new one its libraries, which the attempt itself does not count.
        self._begun_at_s, self._seen_s = self._child.cpu_s(), 0.0

    def _end(self, code: int) -> tuple[str, str]:
        """Return how the child ended, and why by its log."""
        tail = redacted(self._log().read_text(errors="replace")[-_TAIL:]) if self._log().exists() else ""
        return f"was killed by signal {-code}" if code < 0 else f"ended with {code}", last_words(tail)

    def _result(self) -> Path:
        return self._folder / f"{self._decision}.result.json"

    def _failures_file(self) -> Path:
        return self._folder / f"{self._decision}.failures"

    def _spent_file(self) -> Path:
        return self._folder / f"{self._decision}.cpu"

    def _spent_before(self) -> float:
        return float(self._spent_file().read_text(encoding="utf-8")) if self._spent_file().exists() else 0.0

    def _progress(self) -> Path:
        return progress_file(self._folder / f"{self._decision}.json")

    def _forget_trials(self) -> None:
        """Remove what the search kept for a further attempt: there is none."""
        shutil.rmtree(trials_folder(self._folder / f"{self._decision}.json"), ignore_errors=True)

    def _log(self) -> Path:
        return self._folder / f"{self._decision}.log"


def _share(text: str) -> float:
    """Return a number in [0, 1) that follows from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
