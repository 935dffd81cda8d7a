"""The other end of a fork server: start processes by it, and use them as those of `subprocess`."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

from tidemill.shared.fork_server.process import StartedProcess
from tidemill.shared.lifeline import tie_to, tied_to_parent

log = logging.getLogger(__name__)
# An interpreter and its libraries, on a busy machine.
ANSWERS_WITHIN_S = 120.0
# A server that is ended while it is asked is followed by another one, so often in all.
_TRIES = 2
# Another thread may take up the message that a waiting one is woken by.
_LOOK_AGAIN_S = 0.5


class _ForkedProcess:
    """A `StartedProcess` that the server has forked."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self._server.look()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left_s = _LOOK_AGAIN_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self._server.await_message(min(left_s, _LOOK_AGAIN_S))
        return code

    def send_signal(self, number: signal.Signals) -> None:
        with self._server.lock:
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts ``python -m MODULE`` by forking a process that has loaded libraries and modules already.

    The server starts with the first process. When it ends, the kernel ends what it has started, and the next start begins with a new one. Start from
    a thread that lasts: the kernel ends the server with the thread that started it.

    A server that cannot load its modules, hangs while it does so or does not answer is told once as an error of the log and ended with what it has
    started. From then on every process is started in an interpreter of its own, which loads what it needs by itself.

    Parameters
    ----------
    environment
        Variables of the server: what its libraries read when they are loaded.
    modules
        Loaded before the first fork. None may start a thread of Python or a client of a server.
    log
        Where the server says why it cannot start.
    answers_within_s
        How long it may take to load its modules, and to fork.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str], log: Path, answers_within_s: float = ANSWERS_WITHIN_S) -> None:
        self._environment, self._modules, self._log, self._answers_within_s = dict(environment), tuple(modules), log, answers_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._running: dict[int, _ForkedProcess] = {}
        self._alone: list[subprocess.Popen[bytes]] = []
        self._given_up = self._has_loaded = False
        self.lock = threading.RLock()

    def begin(self) -> None:
        """Start the server without waiting for it: it loads its modules while its starter does something else."""
        with self.lock:
            if self._connection is None and not self._given_up:
                self._launch()

    def start(
        self,
        module: str,
        environment: Mapping[str, str],
        log: Path,
        niceness: int = 0,
        arguments: Sequence[str] = (),
        sockets: Sequence[socket.socket] = (),
    ) -> StartedProcess:
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
            if not self._given_up and (forked := self._forked(task, sockets)) is not None:
                return forked
            words = [sys.executable, "-m", module, *arguments, *(str(handed.fileno()) for handed in sockets)]
            with log.open("ab") as output:
                process = subprocess.Popen(
                    words,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[handed.fileno() for handed in sockets],
                    preexec_fn=partial(_begin_alone, os.getpid(), niceness),
                )
            self._alone = [*(other for other in self._alone if other.poll() is None), process]
            return process

    def look(self) -> None:
        """Take up which processes have ended."""
        with self.lock:
            try:
                while self._connection is not None and self._connection.poll():
                    self._hear()
            except (EOFError, ConnectionError):
                self._lost()

    def await_message(self, timeout_s: float) -> None:
        """Wait until the server has something to tell, `timeout_s` at most. Other threads are not held up."""
        connection = self._connection
        try:
            if connection is None:
                return
            connection.poll(timeout_s)
        except OSError:
            # Another thread has given it up.
            return

    def close(self) -> None:
        """End the server and what it has started."""
        with self.lock:
            self._lost()
            for process in self._alone:
                process.kill()
                process.wait()
            self._alone = []

    def close_if_idle(self) -> None:
        """End the server unless something that it has started runs; the next start begins with a new one."""
        with self.lock:
            self.look()
            if not self._running:
                self._lost()

    def _forked(self, task: Mapping[str, object], sockets: Sequence[socket.socket]) -> StartedProcess | None:
        """Have the server fork. Where it does not come to it: None, and there is no server from then on."""
        failure = ""
        for _ in range(_TRIES):
            try:
                return self._asked(task, sockets)
            except TimeoutError:
                self._lost()
                failure = f"did not answer within {self._answers_within_s:g} s"
                break
            except (EOFError, ConnectionError):
                self._lost()
                failure = "ended"
        self._given_up = True
        log.error(
            "the process that services are forked from %s (it loads %s): from now on each starts in an interpreter of its own. In %s:\n%s",
            failure,
            ", ".join(self._modules),
            self._log,
            _tail(self._log),
        )
        return None

    def _asked(self, task: Mapping[str, object], sockets: Sequence[socket.socket]) -> StartedProcess:
        connection = self._connection or self._launch()
        if not self._has_loaded:
            self._answer("loaded")
        connection.send_bytes(json.dumps(task).encode())
        for handed in sockets:
            send_handle(connection, handed.fileno(), 0)
        pid = self._answer("started")
        process = self._running[pid] = _ForkedProcess(self, pid)
        return process

    def _launch(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.server", str(theirs.fileno()), *self._modules],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                preexec_fn=tied_to_parent(),
            )
        self._connection, self._has_loaded = Connection(ours.detach()), False
        return self._connection

    def _answer(self, kind: str) -> int:
        """Wait for an answer of the server, and take up what it tells before."""
        deadline = time.monotonic() + self._answers_within_s
        while True:
            if self._connection is not None and not self._connection.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"expected that it has {kind}, nothing came")
            message = self._hear()
            if kind in message:
                return message[kind]

    def _hear(self) -> dict[str, int]:
        """Take up one message."""
        connection = self._connection
        if connection is None:
            raise EOFError("the server has ended")
        message: dict[str, int] = json.loads(connection.recv_bytes())
        self._has_loaded |= "loaded" in message
        if "ended" in message:
            process = self._running.pop(message["ended"])
            process.returncode = message["code"]
            connection.send_bytes(json.dumps({"heard": process.pid}).encode())
        return message

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


def _begin_alone(parent: int, niceness: int) -> None:
    tie_to(parent)
    os.nice(niceness)
