"""The processes of a run as a change sees them: ended, started again with another application, and seen to be ready."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidemill.deploy.embedded.component import free_port
from tidemill.runs.former_requests import RunEndedError
from tidemill.runs.gateway_ready import wait_for_gateway
from tidemill.runs.path_backlog import PathBacklog, answer_what_waits, patiently
from tidemill.runs.running import Running
from tidemill.runs.supervisor import ServiceFailed
from tidemill.shared.application.planning import load_plan
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import BrokerUnreachableError

_APPLICATION, _PORT = "TIDEMILL_APPLICATION", "TIDEMILL_HEALTH__PORT"
_READY_WITHIN_S = 900.0
_LOOKS_EVERY_S = 0.1
# Alerts is ready when its first assignment has come, which nobody waits for.
_LIVE_IS_ENOUGH = "alerts"


@dataclass(frozen=True, slots=True)
class RunServices:
    """The services of a run.

    Attributes
    ----------
    backlog
        Of its prediction path.
    goes_on
        Looks after all servers and services; false when the run is to end.
    """

    run: Running
    backlog: PathBacklog
    goes_on: Callable[[], bool]

    def switch(self, name: str, content: Path) -> None:
        """Start a service again with an application, and wait until its partitions are assigned and their state is there.

        Features and scoring as processes of their own have also committed then under that application, if there is anything to commit: whoever starts
        the run again after a kill learns from their progress which application has to answer what waits.
        """
        port = free_port()
        self.run.supervisor.replace(name, {_APPLICATION: str(content), **({} if name == "gateway" else {_PORT: str(port)})})
        if name == "gateway":
            if not wait_for_gateway(self.run.gateway, self._still_runs):
                raise ServiceFailed(f"service gateway did not answer at {self.run.gateway}:\n{self.run.supervisor.log_tail(name)}")
            return
        look = self._watched(name, "is not ready")
        while not _answers(f"http://127.0.0.1:{port}/{'live' if name == _LIVE_IS_ENOUGH else 'ready'}"):
            look()
        if name in self.backlog.stages:
            expected = load_plan(content).application_hash
            with _asking(name):
                while patiently(lambda: self.backlog.applications(name), look) - {expected}:
                    look()
        # By the next start another process may have taken that port.
        self.run.supervisor.set_variables(name, {_PORT: "0"})

    def wait_covered(self, name: str) -> None:
        """Wait until a stage of the prediction path has covered what was written for it."""
        if name not in self.backlog.stages:
            return
        with _asking(name):
            answer_what_waits(self.backlog, name, self._watched(name, "has not covered what was written for it"))

    def end(self, name: str) -> None:
        """End a service until it is switched."""
        self.run.supervisor.halt(name)

    def _watched(self, name: str, what: str) -> Callable[[], None]:
        """Return what is called between two looks: it waits a moment, and raises when it has waited for too long."""
        deadline = time.monotonic() + _READY_WITHIN_S

        def look() -> None:
            self._still_runs()
            if time.monotonic() > deadline:
                raise ServiceFailed(f"service {name} {what} after {_READY_WITHIN_S:.0f} s:\n{self.run.supervisor.log_tail(name)}")
            time.sleep(_LOOKS_EVERY_S)

        return look

    def _still_runs(self) -> bool:
        if not self.goes_on():
            raise RunEndedError("the run was ended while it took the change over; it goes on with the application that it is started with")
        return True


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Take a broker that gives no answer for a service that does not come: the change is put back."""
    try:
        yield
    except (BrokerUnreachableError, KafkaFailureError) as problem:
        raise ServiceFailed(f"how far service {name} has come could not be asked: {problem}") from problem


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2.0):  # noqa: S310 - an address of this run
            return True
    except (urllib.error.URLError, OSError):
        return False
