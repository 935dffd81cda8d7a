"""Trials on a pool of processes, one thread each."""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidemill.experiments.configuration import Configuration
from tidemill.experiments.subject import write_whole
from tidemill.services.retraining.processes.warm_child import WarmChild

_LOOK_S = 0.02
_TAIL = 400
# Whatever number of threads a family asks for: OpenMP gives it one, and as many processes as processors keep the machine busy.
ENVIRONMENT = {"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


@dataclass(slots=True)
class _Worker:
    child: WarmChild
    number: int
    configuration: Configuration | None = None
    ends_at: float = 0.0


class ProcessPool:
    """So many processes, each with one trial at a time.

    A process that ends (too little memory, a crash in a library) or takes too long fails its own trial and is replaced. Results are files, written by
    the processes themselves, so what is finished stays when this process is killed. The processes end with this one.

    Parameters
    ----------
    folder
        Of the experiment: rows and subject. Results lie in ``results``, by configuration.
    longest_s
        A trial that takes longer is ended and has failed.
    """

    def __init__(self, folder: Path, application: Path, jobs: int, longest_s: float) -> None:
        self._folder, self._application, self._jobs, self._longest_s = folder, application, jobs, longest_s

    def run(self, configurations: Sequence[Configuration], done: Callable[[Configuration, dict[str, Any]], None]) -> None:
        """Run trials; `done` is told of each as it ends."""
        waiting = deque(configurations)
        (self._folder / "results").mkdir(parents=True, exist_ok=True)
        count = min(self._jobs, len(waiting))
        workers = [_Worker(WarmChild("tidemill.experiments.worker", ENVIRONMENT), number) for number in range(count)]
        try:
            while waiting or any(worker.configuration for worker in workers):
                for worker in workers:
                    if worker.configuration is not None and (result := self._result(worker, worker.configuration)) is not None:
                        done(worker.configuration, result)
                        worker.configuration = None
                    if worker.configuration is None and waiting:
                        self._start(worker, waiting.popleft())
                time.sleep(_LOOK_S)
        finally:
            for worker in workers:
                worker.child.kill()

    def _start(self, worker: _Worker, configuration: Configuration) -> None:
        request = self._folder / f"worker-{worker.number}.json"
        places = {"folder": str(self._folder.absolute()), "application": str(self._application.absolute())}
        write_whole(request, json.dumps({**places, "configuration": asdict(configuration)}))
        worker.configuration, worker.ends_at = configuration, time.monotonic() + self._longest_s
        result_path(self._folder, configuration).unlink(missing_ok=True)
        worker.child.start(request, result_path(self._folder, configuration), self._log(worker))

    def _result(self, worker: _Worker, configuration: Configuration) -> dict[str, Any] | None:
        path = result_path(self._folder, configuration)
        if not path.exists():
            code = worker.child.exit_code()
            late = time.monotonic() >= worker.ends_at
            # It may have ended between the two looks, with its result written.
            if (code is None and not late) or path.exists():
                return None
            worker.child.kill()
            return {"status": "died", "reason": self._why(worker, code), "configuration": asdict(configuration)}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _why(self, worker: _Worker, code: int | None) -> str:
        if code is None:
            return f"took longer than {self._longest_s:g} s (--longest)"
        if code < 0:
            return f"its process was ended by signal {-code}; 9 is mostly too little memory: fewer --jobs or --rows"
        tail = self._log(worker).read_text(errors="replace")[-_TAIL:].strip().splitlines() if self._log(worker).exists() else []
        return f"its process ended with {code}: {tail[-1] if tail else 'no output'}"

    def _log(self, worker: _Worker) -> Path:
        return self._folder / f"worker-{worker.number}.log"


def result_path(folder: Path, configuration: Configuration) -> Path:
    """Return where a trial's result lies."""
    return folder / "results" / f"{configuration.identity}.json"
