"""The process that the workers of `pytest -n` are forked from: it has imported and collected the tests, which each of them would do again.

A worker that starts as an interpreter of its own pays ten seconds of processor time for its imports; a forked one collects what is imported already.
pytest-xdist starts whatever interpreter it is told of: it is told of `tests/forked_worker.py`, which hands its files over to this process and waits
for the end of the worker that got them.
"""

import atexit
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn
from unittest import mock

import polars
import pytest

from tidemill.shared.lifeline import tie_to, tied_to_parent

_STAND_IN = Path(__file__).with_name("forked_worker.py")
_CODE_BYTES = 4096


class WorkerForkServer:
    """Starts the process, and names the interpreter that stands for it.

    Parameters
    ----------
    tests
        What is collected: arguments of pytest.
    """

    def __init__(self, tests: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tidemill-workers-")
        self._address = str(Path(self._folder.name) / "forks")
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(self._address)
            # Whoever asks before everything is collected waits.
            listener.listen()
            command = [sys.executable, "-m", "tests.worker_fork_server", str(listener.fileno()), *tests]
            # The tests' own terminal is not its business.
            self._process = subprocess.Popen(
                command,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=tied_to_parent(),
            )

    @property
    def specification(self) -> str:
        """Return how execnet starts a worker by it."""
        return f"popen//python={sys.executable} -I -S {_STAND_IN} {self._address}"

    def close(self) -> None:
        """End the process. Its workers have ended before."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def main(arguments: Sequence[str]) -> None:
    """Import and collect, then fork a worker for each that connects."""
    listener = socket.socket(fileno=int(arguments[0]))
    # What cannot be collected is told by the workers, which try it again.
    with _no_pool():
        pytest.main(["--collect-only", "-q", *arguments[1:]])
    gc.collect()
    gc.freeze()
    # The kernel takes away those that have ended; Ctrl-C is meant for who controls the tests, who ends the others.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = _forked(listener)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    # As in an interpreter that was given its code: children that are spawned find no file to import.
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(code, sys.modules["__main__"].__dict__)
    # ONNX Runtime would wait for a thread that was not forked, and abort.
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        file.flush()
    os._exit(0)


def _forked(listener: socket.socket) -> str:
    """Fork for whoever connects. Return in the child only: what it is to execute, with its standard files in their places."""
    server = os.getpid()
    while True:
        connection, _ = listener.accept()
        code, files, _, _ = socket.recv_fds(connection, _CODE_BYTES, 3)
        # The child keeps the connection open until it ends: so its stand-in knows.
        if len(files) == 3 and os.fork() == 0:
            tie_to(server)
            listener.close()
            kept = connection.detach()
            for place, file in enumerate(files):
                os.dup2(file, place)
            _close(files)
            if _has_pool():
                _begin_anew(kept, code.decode())
            sys.stdin, sys.stdout, sys.stderr = (open(place, mode, closefd=False) for place, mode in enumerate("rww"))
            return code.decode()
        _close(files)
        connection.close()


@contextlib.contextmanager
def _no_pool() -> Iterator[None]:
    """Keep polars from beginning its threads, of which a fork has none: modules that calculate while they are imported are left to the workers."""
    with contextlib.ExitStack() as refused:
        for owner, name in ((polars, "from_arrow"), (polars.LazyFrame, "collect"), (polars.LazyFrame, "collect_schema")):
            refused.enter_context(mock.patch.object(owner, name, side_effect=RuntimeError("polars calculates after the fork only")))
        yield


def _has_pool() -> bool:
    """Whether polars had begun its threads before the fork for all that: a child would wait for them for good."""
    return "polars-0" in {name.read_text().strip() for name in Path(f"/proc/{os.getppid()}/task").glob("*/comm")}


def _begin_anew(kept: int, code: str) -> NoReturn:
    """Become an interpreter of its own, with the files that are there and the connection that tells of the end."""
    os.set_inheritable(kept, True)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-u", "-c", code])


def _close(files: Sequence[int]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)


if __name__ == "__main__":
    main(sys.argv[1:])
