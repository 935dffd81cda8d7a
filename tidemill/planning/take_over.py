"""A running application becomes another one: its services are started again one after the other, and all of them go back when one does not come."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tidemill.runs.change_desk import ChangeRefusedError
from tidemill.runs.supervisor import ServiceFailed
from tidemill.shared.service.stage import FUSIBLE


class Services(Protocol):
    """The processes of a run, as a change sees them."""

    def switch(self, name: str, content: Path) -> None:
        """Start a service again with another application, and return when it is ready.

        Raises
        ------
        ServiceFailed
            It does not come: it crashes, says that it is misconfigured, or is not ready in time.
        RunEndedError
        """
        ...

    def wait_covered(self, name: str) -> None:
        """Return when a service has covered all that the one before it has written, which stands still; at once for one that nothing waits for.

        Raises
        ------
        ServiceFailed
            It does not get that far.
        RunEndedError
        """
        ...

    def end(self, name: str) -> None:
        """End a service, and leave it down until it is switched."""
        ...


def switch_all(services: Services, order: Sequence[str], before: Path, after: Path, say: Callable[[str], None]) -> None:
    """Let every service read the changed application.

    Each is ended, which commits or aborts its transaction, and goes on at its offsets with state that it makes again from the journal: nothing is
    lost or doubled, and requests wait meanwhile in their topics.

    Ingestion, features and scoring as separate processes are ended first, in the order of the data, each when it has covered what the one before has
    written. Then scoring begins, features and ingestion after it: no request is on the way while two of them have different applications, so that one
    mark of features says for all three which requests were answered by which. The others, and the three in one process, follow one by one.

    Parameters
    ----------
    order
        Names of the services, in the order of the data.

    Raises
    ------
    ChangeRefusedError
        One did not come; those that had changed have been started again with the application that they had.
    ServiceFailed
        One did not come back either: the run cannot go on.
    RunEndedError
    """
    path = [name for name in FUSIBLE if name in order]
    begun: list[str] = []
    try:
        for name in path:
            say(f"{name} ends when it has covered what was written for it")
            begun.append(name)
            _rest(services, name)
        for name in [*reversed(path), *(name for name in order if name not in path)]:
            say(f"{name} takes over the changed application")
            begun.append(name)
            services.switch(name, after)
    except ServiceFailed as problem:
        failed = begun[-1]
        say(f"{failed} does not take over the changed application: all go back to the one before")
        # It is down for good, and who waits for the others looks after all of them.
        services.end(failed)
        for name in path:
            if name in begun and name != failed:
                _rest(services, name)
        for name in [*reversed(path), *dict.fromkeys(name for name in begun if name not in path)]:
            if name in begun:
                services.switch(name, before)
        raise ChangeRefusedError(
            f"{failed} did not come up with the changed application, and the run goes on with the one it had: {problem}"
        ) from problem


def _rest(services: Services, name: str) -> None:
    services.wait_covered(name)
    services.end(name)
