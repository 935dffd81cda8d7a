"""The process that the workers of `pytest -n` are forked from: it has imported the libraries and Tidemill, which each of them would do again.

pytest-xdist starts whatever interpreter it is told of: it is told of `tests/forked_worker.py`, which hands its files over to this process and waits
for the end of the worker that got them. The tests themselves are imported after the fork: some of them calculate meanwhile, and begin threads that no
fork would have.
"""

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path

import hypothesis  # noqa: F401
import pytest  # noqa: F401

from tidemill.shared.lifeline import tie_to, tied_to_parent

_STAND_IN = Path(__file__).with_name("forked_worker.py")
_PYTHON = Path(__file__).with_name("forked_python.py")
_CODE_BYTES = 4096
_STANDARD_FILES = 3
_MOST_FILES = 64
# What Tidemill imports when it is needed, and most workers need.
_NEEDED_LATER = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", "sqlalchemy.dialects.sqlite", "skl2onnx")


class WorkerForkServer:
    """Starts the process, and names the interpreter that stands for it.

    Parameters
    ----------
    packages
        Whose modules it imports; where none is named, no module.

    Attributes
    ----------
    python
        An interpreter whose processes are forked by it, as the workers are.
    """

    def __init__(self, packages: Sequence[str] = ("tidemill",)) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tidemill-workers-")
        self._address = str(Path(self._folder.name) / "forks")
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(self._address)
            # Whoever asks before everything is imported waits.
            listener.listen()
            command = [sys.executable, "-m", "tests.worker_fork_server", str(listener.fileno()), *packages]
            # The tests' own terminal is not its business.
            self._process = subprocess.Popen(
                command,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=tied_to_parent(),
            )

        # A file, as `sys.executable` is.
        self.python = str(Path(self._folder.name) / "python")
        Path(self.python).write_text(
            f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", str(_PYTHON), self._address, sys.executable])} "$@"\n'
        )
        Path(self.python).chmod(0o700)

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
    """Import, then fork a worker for each that connects."""
    listener = socket.socket(fileno=int(arguments[0]))
    # The terminal's size, which readline has told child processes: a worker has no terminal, and rich reads it when a module makes its console.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    for package in arguments[1:]:
        _import_all(package)
        for module in _NEEDED_LATER:
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    # The kernel takes away those that have ended; Ctrl-C is meant for who controls the tests, who ends the others.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code, connection, handed = _forked(listener)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    # As in an interpreter that was given its code: children that are spawned find no file to import.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__dict__.update({"connection": connection, "handed": handed} if handed else {})
    exec(code, sys.modules["__main__"].__dict__)
    # ONNX Runtime would wait for a thread that was not forked, and abort.
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        file.flush()
    os._exit(0)


def _forked(listener: socket.socket) -> tuple[str, int, list[int]]:
    """Fork for whoever connects. Return in the child only: what it is to execute, its connection, and what it was given beside its standard files."""
    server = os.getpid()
    while True:
        connection, _ = listener.accept()
        code, files, _, _ = socket.recv_fds(connection, _CODE_BYTES, _MOST_FILES)
        # The child keeps the connection open until it ends: so its stand-in knows.
        if len(files) >= _STANDARD_FILES and os.fork() == 0:
            tie_to(server)
            listener.close()
            standard, handed = files[:_STANDARD_FILES], files[_STANDARD_FILES:]
            for place, file in enumerate(standard):
                os.dup2(file, place)
            _close(standard)
            sys.stdin, sys.stdout, sys.stderr = (open(place, mode, closefd=False) for place, mode in enumerate("rww"))
            return code.decode(), connection.detach(), handed
        _close(files)
        connection.close()


def _import_all(package: str) -> None:
    """Import a package and every module below it but its programs."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            # What cannot be imported is told by the tests of it.
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def _close(files: Sequence[int]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)


if __name__ == "__main__":
    main(sys.argv[1:])
