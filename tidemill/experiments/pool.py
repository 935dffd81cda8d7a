"""Trials on a pool of processes, one thread each."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidemill.experiments.configuration import Configuration
from tidemill.services.retraining.processes.child_pool import ChildDeath, ChildPool, ChildTask

# Whatever number of threads a family asks for: OpenMP gives it one, and as many processes as processors keep the machine busy.
ENVIRONMENT = {"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


class ProcessPool:
    """So many processes, each with one trial at a time.

    Results are files, written by the processes themselves, so what is finished stays when this process is killed.

    Parameters
    ----------
    folder
        Of the experiment: rows and subject. Results lie in ``results``, by configuration.
    longest_s
        A trial that takes longer is ended and has failed.
    """

    def __init__(self, folder: Path, application: Path, jobs: int, longest_s: float) -> None:
        self._folder, self._application, self._longest_s = folder, application, longest_s
        self._pool = ChildPool("tidemill.experiments.worker", folder, jobs, ENVIRONMENT, longest_s)

    def run(self, configurations: Sequence[Configuration], done: Callable[[Configuration, dict[str, Any]], None]) -> None:
        """Run trials; `done` is told of each as it ends."""
        (self._folder / "results").mkdir(parents=True, exist_ok=True)
        places = {"folder": str(self._folder.absolute()), "application": str(self._application.absolute())}
        named = {one.identity: one for one in configurations}

        def ended(task: ChildTask, answer: str | ChildDeath) -> None:
            configuration = named[task.name]
            if isinstance(answer, ChildDeath):
                done(configuration, {"status": "died", "reason": self._why(answer), "configuration": asdict(configuration)})
            else:
                done(configuration, json.loads(answer))

        tasks = [
            ChildTask(one.identity, json.dumps({**places, "configuration": asdict(one)}), result_path(self._folder, one)) for one in configurations
        ]
        self._pool.run(tasks, ended)

    def _why(self, death: ChildDeath) -> str:
        if death.exit_code is None:
            return f"took longer than {self._longest_s:g} s (--longest)"
        if death.exit_code < 0:
            return f"its process was ended by signal {-death.exit_code}; 9 is mostly too little memory: fewer --jobs or --rows"
        return f"its process ended with {death.exit_code}: {death.last_line}"


def result_path(folder: Path, configuration: Configuration) -> Path:
    """Return where a trial's result lies."""
    return folder / "results" / f"{configuration.identity}.json"
