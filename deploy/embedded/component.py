"""One server process of the embedded infrastructure: started under a watchdog, waited for, stopped, started again."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WATCHDOG = Path(__file__).with_name("watchdog.py")
TAIL_LINES = 25
POLL_S = 0.05
# Below the range from which Linux takes the ports of outgoing connections, so that a stopped server finds its port free again.
PORTS = range(20_000, 32_000)


class ComponentError(RuntimeError):
    """A server did not come up, or went away: names it, says why and shows the end of its log."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        self.name = name
        self.reason = reason
        self.log = log
        self.tail = log_tail(log)
        super().__init__(f"{name}: {reason}. The end of its log ({log}):\n{self.tail or '(empty)'}")


def log_tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Give the last lines of a log file, or nothing when there is no file yet."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """Find a loopback TCP port that nobody listens on."""
    for _ in range(200):
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"expected a free loopback port between {PORTS.start} and {PORTS.stop}, found none in 200 attempts")


def accepts_connections(port: int) -> bool:
    """Say whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Component:
    """One server process.

    Attributes
    ----------
    name
        What messages call it.
    address
        What clients connect to; the same after every start.
    command
        Program and arguments.
    folder
        Its data; the log is `<name>.log` in it.
    ready
        Says whether the server answers. Called until it does.
    deadline_s, grace_s
        How long it may take to come up, and to go down before it is killed.
    """

    name: str
    address: str
    command: Sequence[str]
    folder: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    deadline_s: float = 90.0
    grace_s: float = 15.0
    _watchdog: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _pid: int = -1

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        if not self.running:
            raise ComponentError(self.name, "expected it to be running, it is not", self.log)
        return self._pid

    @property
    def running(self) -> bool:
        """Say whether the process is alive."""
        return self._watchdog is not None and self._watchdog.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", str(WATCHDOG), str(self.grace_s), *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self._watchdog = watchdog
        if watchdog.stdout is None:
            raise AssertionError("the watchdog was started with a pipe")
        first_line = watchdog.stdout.readline()
        if not first_line:
            watchdog.wait()
            raise ComponentError(self.name, f"could not be started ({self.command[0]})", self.log)
        self._pid = int(first_line)

    def wait_until_ready(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        ComponentError
            The process ended, or the deadline passed; with the end of the log.
        """
        deadline = time.monotonic() + self.deadline_s
        while True:
            if self._watchdog is None or (code := self._watchdog.poll()) is not None:
                raise ComponentError(self.name, f"ended with exit code {code if self._watchdog else None} before it was ready", self.log)
            if self.ready():
                return
            if time.monotonic() > deadline:
                self.stop()
                raise ComponentError(self.name, f"was not ready within {self.deadline_s:g} s at {self.address}", self.log)
            time.sleep(POLL_S)

    def start(self) -> None:
        """Start the server on its port with its data and wait until it answers."""
        self.launch()
        self.wait_until_ready()

    def begin_stop(self) -> None:
        """Ask the server to end, without waiting for it; `stop` waits."""
        self._order(b"")

    def stop(self) -> None:
        """End the server in good order; it is killed when it takes longer than its grace period."""
        self._order(b"")
        self._collect()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        self._order(b"k")
        self._collect()

    def restart(self) -> None:
        """Stop and start again: same port, same data."""
        self.stop()
        self.start()

    def _order(self, order: bytes) -> None:
        if self._watchdog is None or self._watchdog.stdin is None or self._watchdog.stdin.closed:
            return
        with contextlib.suppress(BrokenPipeError):  # It may have ended before it is asked to.
            self._watchdog.stdin.write(order)
        self._watchdog.stdin.close()

    def _collect(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None and watchdog.stdout is not None:
            watchdog.wait(self.grace_s + 10)
            watchdog.stdout.close()
