"""A child process that stays for the next task, because loading its libraries takes longer than many a task."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pyarrow as pa

from tidemill.shared.lifeline import tied_to_parent
from tidemill.shared.observability.redaction import redact_tracebacks

_LIBC = ctypes.CDLL(None)
# Threads that spin while they wait for each other take the processor from the services, and on a busy machine from each other.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


class WarmChild:
    """The parent's end: one task at a time, as two files; the child ends with this process.

    A task that raises ends the child, with the traceback in the task's log; the next task gets a new child.

    Parameters
    ----------
    module
        Its ``__main__`` calls `serve`.
    environment
        Of the child, beside this process's own.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._module, self._environment = module, dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._times: psutil.Process | None = None

    def start(self, request: Path, result: Path, log: Path) -> None:
        """Hand a task over; the result is a file that is there when the task is done."""
        task = json.dumps([str(request), str(result), str(log)]).encode() + b"\n"
        if self._process is None or self._process.poll() is not None or not _told(self._process, task):
            self.kill()
            # A session of its own: Ctrl-C in a terminal goes to the whole group, and a task that it ends would count as failed.
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module],
                    env={**_ENVIRONMENT, **os.environ, **self._environment}, stdin=subprocess.PIPE, stdout=output, stderr=output,
                    start_new_session=True, preexec_fn=tied_to_parent(),
                )  # fmt: skip
            self._times = psutil.Process(self._process.pid)
            _told(self._process, task)  # A child that has ended already is noticed by its exit code.

    def exit_code(self) -> int | None:
        """Return how the child ended (negative: the signal), or None while it lives."""
        return self._process.poll() if self._process is not None else None

    def cpu_s(self) -> float:
        """Return the processor time that the child has taken since it was begun, in seconds; 0 of one that is no more."""
        if self._times is None:
            return 0.0
        try:
            times = self._times.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def kill(self) -> None:
        """End the child and what it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = self._times = None


def _told(process: subprocess.Popen[bytes], task: bytes) -> bool:
    if process.stdin is None:
        return False
    try:
        process.stdin.write(task)
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return True


def serve(task: Callable[[Path, Path], None]) -> int:
    """Work off tasks until the parent closes the pipe: the child's end.

    Parameters
    ----------
    task
        Reads the request, writes the result whole (a part file, then a rename).
    """
    redact_tracebacks()
    for line in sys.stdin:
        request, result, log = map(Path, json.loads(line))
        with log.open("wb") as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        task(request, result)
        gc.collect()
        pa.default_memory_pool().release_unused()
        _LIBC.malloc_trim(0)
    return 0
