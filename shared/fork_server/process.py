"""What whoever starts a service holds of its process."""

import signal
from typing import Protocol


class StartedProcess(Protocol):
    """A process that a fork server has started: methods and attributes are those of `subprocess.Popen`.

    Attributes
    ----------
    pid
        Process id, which no other process gets before `returncode` is known.
    returncode
        Exit code, or the number of the signal that ended it below zero; None while it is not known that it has ended.
    """

    @property
    def pid(self) -> int: ...  # noqa: D102

    @property
    def returncode(self) -> int | None: ...  # noqa: D102

    def poll(self) -> int | None:
        """Look whether it has ended."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; subprocess.TimeoutExpired where it runs on after `timeout` seconds."""
        ...

    def send_signal(self, number: signal.Signals, /) -> None:
        """Send a signal, unless it has ended."""
        ...

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        ...

    def kill(self) -> None:
        """End it (SIGKILL)."""
        ...
