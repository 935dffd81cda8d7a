"""What a child process is told first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidemill.shared.log.broker import Broker
from tidemill.shared.runner.rehearsal import Rehearsal, RehearsedTask, StepObserver


class Rehearses(Protocol):
    """What a child makes: `tidemill.shared.runner.runner.Runner`."""

    def bring_back(self, rehearsal: Rehearsal, told: StepObserver) -> RehearsedTask:
        """Bring the task of a rehearsal back."""
        ...


# Makes the stage in the child, with a broker that is lent and a folder of its own. It is pickled: a function of a module, or a partial of one.
MakeStage = Callable[[Broker, Path], Rehearses]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a child is told first.

    Attributes
    ----------
    by_scouts
        Whether the child gives the pieces to its task as it is told (`tidemill.shared.runner.scouts`), and not by itself.
    condemned
        Rows of the pieces that are to be passed over, and why.
    """

    make: MakeStage
    rehearsal: Rehearsal
    folder: Path
    by_scouts: bool = False
    condemned: Sequence[tuple[int, str]] = ()
