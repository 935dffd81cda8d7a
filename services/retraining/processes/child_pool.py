"""Tasks on a pool of processes that stay for the next one (`WarmChild`)."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.services.retraining.processes.warm_child import WarmChild

_LOOK_S = 0.02
_TAIL = 400


@dataclass(frozen=True, slots=True)
class ChildTask:
    """One task: its request as text, and where its process writes the result, whole or not at all."""

    name: str
    request: str
    result: Path


@dataclass(frozen=True, slots=True)
class ChildDeath:
    """A task's process ended without a result.

    Attributes
    ----------
    exit_code
        Of the process (negative: the signal that ended it); None where the task took too long and was ended.
    last_line
        What it printed last.
    """

    exit_code: int | None
    last_line: str


@dataclass(slots=True)
class _Worker:
    child: WarmChild
    number: int
    task: ChildTask | None = None
    ends_at: float = 0.0


class ChildPool:
    """So many processes, each with one task at a time; all end with this one.

    A process that ends (too little memory, a crash in a library) or takes too long fails its own task and is replaced.

    Parameters
    ----------
    module
        Its ``__main__`` calls `serve`.
    folder
        Where requests and logs of the processes lie.
    environment
        Of the processes, beside this one's own.
    longest_s
        A task that takes longer is ended; None: none is.
    """

    def __init__(self, module: str, folder: Path, jobs: int, environment: Mapping[str, str] | None = None, longest_s: float | None = None) -> None:
        self._module, self._folder, self._jobs = module, folder, jobs
        self._environment, self._longest_s = environment, float("inf") if longest_s is None else longest_s

    def run(self, tasks: Sequence[ChildTask], done: Callable[[ChildTask, str | ChildDeath], None]) -> None:
        """Run tasks; `done` is told the text of each result, or how its process died, as each ends."""
        waiting = deque(tasks)
        workers = [_Worker(WarmChild(self._module, self._environment), number) for number in range(min(self._jobs, len(waiting)))]
        try:
            while waiting or any(worker.task for worker in workers):
                for worker in workers:
                    if worker.task is not None and (result := self._result(worker, worker.task)) is not None:
                        done(worker.task, result)
                        worker.task = None
                    if worker.task is None and waiting:
                        self._start(worker, waiting.popleft())
                time.sleep(_LOOK_S)
        finally:
            for worker in workers:
                worker.child.kill()

    def _start(self, worker: _Worker, task: ChildTask) -> None:
        request = self._folder / f"worker-{worker.number}.json"
        request.write_text(task.request, encoding="utf-8")
        worker.task, worker.ends_at = task, time.monotonic() + self._longest_s
        task.result.unlink(missing_ok=True)
        worker.child.start(request, task.result, self._log(worker))

    def _result(self, worker: _Worker, task: ChildTask) -> str | ChildDeath | None:
        if not task.result.exists():
            code = worker.child.exit_code()
            late = time.monotonic() >= worker.ends_at
            # It may have ended between the two looks, with its result written.
            if (code is None and not late) or task.result.exists():
                return None
            worker.child.kill()
            lines = self._log(worker).read_text(errors="replace")[-_TAIL:].strip().splitlines() if self._log(worker).exists() else []
            return ChildDeath(code, lines[-1] if lines else "no output")
        return task.result.read_text(encoding="utf-8")

    def _log(self, worker: _Worker) -> Path:
        return self._folder / f"worker-{worker.number}.log"
