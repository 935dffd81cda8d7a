"""One set of servers for a whole test run, however many processes run its tests.

With `pytest -n`, pytest-xdist runs the tests in worker processes, which come and go. The servers belong to the process that controls them: it starts
them when the first test asks, hands every worker their addresses, and ends them with the run. When it is killed, the servers' own watchdogs end them.
"""

import contextlib
import tempfile
import threading
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from tests.infrastructure import test_infrastructure as running_infrastructure
from tidemill.deploy.embedded.infrastructure import VARIABLES, Infrastructure

_WORKERS = 64


class ServerDesk:
    """Answers the workers' question for the servers' addresses, in a thread of the controlling process.

    Attributes
    ----------
    address
        Where to ask: a Unix socket in a folder that only this user can enter.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tidemill-tests-")
        self.address = str(Path(self._folder.name) / "servers")
        self._listener = Listener(self.address, "AF_UNIX", backlog=_WORKERS)
        self._servers = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._answer: dict[str, str] | str | None = None
        threading.Thread(target=self._serve, name="test-servers", daemon=True).start()

    def close(self) -> None:
        """Answer no more and end the servers, if any were started."""
        with self._lock:
            self._answer = "the test run is over"
            self._listener.close()
            self._servers.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        while True:
            try:
                worker = self._listener.accept()
            except OSError:  # Closed: the run is over.
                return
            with worker, contextlib.suppress(BrokenPipeError):  # The worker may have ended while the servers started.
                worker.send(self._addresses())

    def _addresses(self) -> dict[str, str] | str:
        """Return the addresses, starting the servers at the first question; what is wrong when they do not start, to this and to every later one."""
        with self._lock:
            if self._answer is None:
                try:
                    self._answer = self._servers.enter_context(running_infrastructure()).environment
                except Exception as error:
                    self._answer = f"{type(error).__name__}: {error}"
            return self._answer


def ask_for_servers(address: str) -> Infrastructure:
    """Return the run's servers, as given ones: nobody stops them from a worker.

    Raises
    ------
    RuntimeError
        They did not start; says why.
    """
    desk: Connection
    with Client(address, "AF_UNIX") as desk:
        answer = desk.recv()
    if isinstance(answer, str):
        raise RuntimeError(f"the test run's servers did not start: {answer}")
    return Infrastructure.given(*(answer[name] for name in VARIABLES))
