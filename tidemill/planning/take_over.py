"""A running application becomes another one: its services are started again one after the other, and all of them go back when one does not come."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tidemill.runs.change_desk import ChangeRefusedError
from tidemill.runs.supervisor import ServiceFailed


class RunEndedError(RuntimeError):
    """Somebody ended the run while it took a change over: nothing is put back, as nothing goes on."""


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


def switch_all(services: Services, order: Sequence[str], before: Path, after: Path, say: Callable[[str], None]) -> None:
    """Let every service read the changed application, in the order of the data.

    Each is ended, which commits or aborts its transaction, and goes on at its offsets with state that it makes again from the journal: nothing is
    lost or doubled, and requests wait meanwhile in their topics.

    Raises
    ------
    ChangeRefusedError
        One did not come; those that had changed have been started again with the application that they had.
    ServiceFailed
        One did not come back either: the run cannot go on.
    """
    begun: list[str] = []
    try:
        for name in order:
            begun.append(name)
            say(f"{name} takes over the changed application")
            services.switch(name, after)
    except ServiceFailed as problem:
        say(f"{begun[-1]} does not take over the changed application: all go back to the one before")
        for name in begun:
            services.switch(name, before)
        raise ChangeRefusedError(
            f"{begun[-1]} did not come up with the changed application, and the run goes on with the one it had: {problem}"
        ) from problem
