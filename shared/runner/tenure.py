"""The time for which a process may work on what its group has assigned to it."""

import threading

from tidemill.shared.log.broker import Assignment, Source
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.runner.restore import SupersededError


class Tenure:
    """Knows under which assignment the tasks were taken over, and whether it still holds.

    Parameters
    ----------
    source
        Its assignment has a number (`epoch`) that grows with each rebalance.
    health
        Learns that the process advances while a task is restored or tried.

    Attributes
    ----------
    stop
        Set when the process is to stop.
    """

    def __init__(self, source: Source, health: ProcessHealth) -> None:
        self._source = source
        self._health = health
        self._epoch: int | None = None
        self.stop = threading.Event()

    def begin(self) -> Assignment:
        """Work under the assignment of now, and return it."""
        assignment = self._source.assignment
        self._epoch = assignment.epoch
        return assignment

    def end(self) -> None:
        """Work under none: what is assigned has to be taken over again."""
        self._epoch = None

    @property
    def is_over(self) -> bool:
        """Whether the tasks have to be taken over (again)."""
        return self._epoch != self._source.assignment.epoch

    def keep(self) -> None:
        """Keep the place in the group while something takes long.

        Raises
        ------
        SupersededError
            The assignment has changed, or the process is to stop.
        """
        self._health.advanced()
        self._source.consume(1, 0.0)
        if self.is_over or self.stop.is_set():
            raise SupersededError
