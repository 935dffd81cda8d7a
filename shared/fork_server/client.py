"""The other end of a fork server: start processes by it, and use them as those of `subprocess`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

from tidemill.shared.lifeline import tied_to_parent

_LOOK_EVERY_S = 0.02


class ForkServerError(RuntimeError):
    """The server cannot load its modules: carries what it said."""


class ForkedProcess:
    """A process that a fork server has started; its methods are those of `subprocess.Popen`.

    Attributes
    ----------
    pid
        Process id, which no other process gets before `returncode` is known.
    returncode
        Exit code, or the number of the signal that ended it below zero; None while it is not known that it has ended.
    """

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Look whether it has ended."""
        if self.returncode is None:
            self._server.look()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises
        ------
        subprocess.TimeoutExpired
            It runs on after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(_LOOK_EVERY_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with self._server.lock:
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it (SIGKILL)."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts ``python -m MODULE`` by forking a process that has loaded libraries and modules already.

    The server starts with the first process. When it ends, the kernel ends what it has started, and the next start begins with a new one. Start from
    a thread that lasts: the kernel ends the server with the thread that started it.

    Parameters
    ----------
    environment
        Variables of the server: what its libraries read when they are loaded.
    modules
        Loaded before the first fork. None may start a thread of Python or a client of a server.
    log
        Where the server says why it cannot start.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], log: Path) -> None:
        self._environment, self._modules, self._log = dict(environment), tuple(modules), log
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._running: dict[int, ForkedProcess] = {}
        self.lock = threading.RLock()

    def start(
        self,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        niceness: int = 0,
        arguments: Sequence[str] = (),
        sockets: Sequence[socket.socket] = (),
    ) -> ForkedProcess:
        """Start a module as a process.

        Parameters
        ----------
        environment
            All of its variables.
        log
            Both of its outputs are appended to it.
        niceness
            How far it steps back when the processors are busy (0 to 19).
        arguments
            Of its command line.
        sockets
            It gets them too; their numbers in the process are its last arguments.

        Raises
        ------
        ForkServerError
            The modules cannot be loaded.
        OSError
            The log cannot be written.
        """
        task = {
            "module": module, "environment": dict(environment), "log": str(log.absolute()), "niceness": niceness, "folder": os.getcwd(),
            "arguments": list(arguments), "sockets": len(sockets),
        }  # fmt: skip
        log.touch()
        with self.lock:
            self.look()
            for last in (False, True):
                try:
                    return self._started(task, sockets)
                except (EOFError, ConnectionError):
                    self._lost()
                    if last:
                        raise ForkServerError(f"the modules {', '.join(self._modules)} cannot be loaded:\n{_tail(self._log)}") from None
        raise AssertionError("unreachable")

    def look(self) -> None:
        """Take up which processes have ended."""
        with self.lock:
            try:
                while self._connection is not None and self._connection.poll():
                    self._hear()
            except (EOFError, ConnectionError):
                self._lost()

    def close(self) -> None:
        """End the server; what it has started is ended by the kernel."""
        with self.lock:
            self._lost()

    def close_if_idle(self) -> None:
        """End the server unless something that it has started runs; the next start begins with a new one."""
        with self.lock:
            self.look()
            if not self._running:
                self._lost()

    def _started(self, task: Mapping[str, object], sockets: Sequence[socket.socket]) -> ForkedProcess:
        connection = self._connection or self._launch()
        connection.send_bytes(json.dumps(task).encode())
        for handed in sockets:
            send_handle(connection, handed.fileno(), 0)
        while (pid := self._hear()) is None:
            pass
        process = self._running[pid] = ForkedProcess(self, pid)
        return process

    def _launch(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.server", str(theirs.fileno()), *self._modules],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                preexec_fn=tied_to_parent(),
            )
        self._connection = Connection(ours.detach())
        return self._connection

    def _hear(self) -> int | None:
        """Take up one message; the process id when it tells of a start."""
        connection = self._connection
        if connection is None:
            raise EOFError("the server has ended")
        message = json.loads(connection.recv_bytes())
        if "started" in message:
            return int(message["started"])
        process = self._running.pop(message["ended"])
        process.returncode = message["code"]
        connection.send_bytes(json.dumps({"heard": process.pid}).encode())
        return None

    def _lost(self) -> None:
        """Give up the server, and with it what it has started."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for process in self._running.values():
            process.returncode = -signal.SIGKILL
        self._running.clear()


def _tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
