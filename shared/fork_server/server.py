"""The process that forks: ``python -m tidemill.shared.fork_server.server SOCKET MODULE...`` loads the modules, then forks whoever is asked for.

It has one thread of Python and no client of any server, so a fork of it is whole. What it forks becomes ``python -m MODULE`` in an environment of its
own. It tells when it has loaded the modules, and of each end, and keeps the process id until that was heard. When the other end of its socket is
closed it ends, and the kernel ends what it has forked.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from typing import Any

from setproctitle import setproctitle

import tidemill.shared.rare_collections  # noqa: F401 - before the libraries
from tidemill.shared.lifeline import tie_to

_LOOK_EVERY_S = 1.0
_HOOK = "sitecustomize"


class _Server:
    """Forks on request and tells of ends; `serve` returns in the parent None, and in each child what the child is to become."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._running: set[int] = set()
        self._ended: set[int] = set()
        self._woken, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        # Ctrl-C is meant for who started it, who then ends this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._tell({"loaded": os.getpid()})

    def serve(self) -> Mapping[str, Any] | None:
        while True:
            ready = wait([self._connection, self._woken], _LOOK_EVERY_S)
            if self._woken in ready:
                os.read(self._woken, 4096)
            try:
                if self._connection in ready:
                    request: dict[str, Any] = json.loads(self._connection.recv_bytes())
                    if "heard" in request:
                        self._forget(request["heard"])
                    elif self._forked(request, [recv_handle(self._connection) for _ in range(request["sockets"])]):
                        return request
                self._tell_of_ends()
            except (EOFError, ConnectionError):
                return None

    def _forked(self, request: dict[str, Any], sockets: list[int]) -> bool:
        """Fork; says whether this is the child."""
        server = os.getpid()
        pid = os.fork()
        if pid:
            for socket in sockets:
                os.close(socket)
            self._running.add(pid)
            self._tell({"started": pid})
            return False
        tie_to(server)
        self._connection.close()
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wakes)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request["sockets"] = sockets
        return True

    def _tell_of_ends(self) -> None:
        for pid in self._running - self._ended:
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is not None:
                self._ended.add(pid)
                self._tell({"ended": pid, "code": end.si_status if end.si_code == os.CLD_EXITED else -end.si_status})

    def _forget(self, pid: int) -> None:
        """Let the kernel give the process id to another."""
        os.waitpid(pid, 0)
        self._running.discard(pid)
        self._ended.discard(pid)

    def _tell(self, message: Mapping[str, int]) -> None:
        self._connection.send_bytes(json.dumps(message).encode())


def _nothing(*_: object) -> None:
    """Be called, so that the signal wakes who waits."""


def _become(request: Mapping[str, Any]) -> None:
    """Be ``python -m MODULE``, as a new interpreter would be."""
    # Before the environment changes: the arguments are found by it.
    setproctitle(" ".join([sys.executable, "-m", request["module"], *request["arguments"]]))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    os.nice(request["niceness"])
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.argv = [request["module"], *request["arguments"], *map(str, request["sockets"])]
    if _HOOK in sys.modules:
        # A new interpreter would have run it in this environment.
        importlib.reload(sys.modules[_HOOK])
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def main(arguments: Sequence[str]) -> None:
    """Load modules and serve, until the socket is closed."""
    socket, *modules = arguments
    connection = Connection(int(socket))
    for module in modules:
        importlib.import_module(module)
    # What was loaded is shared with the children as long as nobody writes to it: their collector leaves it alone.
    gc.collect()
    gc.freeze()
    request = _Server(connection).serve()
    if request is not None:
        _become(request)


if __name__ == "__main__":
    main(sys.argv[1:])
