"""Trainings of a backtest: the live trainer, whose results are there when virtual time says so."""

import time
from collections.abc import Mapping
from typing import Any

from tidemill.backtest.virtual_time import VirtualClock
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.trainer import Trainer

_LOOK_S = 0.005


class TimedTrainer:
    """Trainer that takes a fixed time on the virtual clock, however long the machine takes.

    A training begins when it is asked for, or when the one before it has ended, if that is later. Its result is there `training_ms` after that:
    `poll` waits for the machine then, and returns nothing before.

    Parameters
    ----------
    trainer
        Does the work.
    training_ms
        Event time that a training takes.
    """

    def __init__(self, trainer: Trainer, clock: VirtualClock, training_ms: int) -> None:
        self._trainer, self._clock, self._training_ms = trainer, clock, training_ms
        self._free_ms = 0
        self._due_ms: int | None = None
        self.waited_s = 0.0

    @property
    def due_ms(self) -> int | None:
        """Instant at which the training that runs has its result; None when none runs."""
        return self._due_ms

    @property
    def is_due(self) -> bool:
        """Whether a training runs that has its result by now."""
        return self._due_ms is not None and self._due_ms <= self._clock.now_ms()

    def start(self, request: JobRequest) -> None:
        """Begin a training."""
        self._trainer.start(request)
        self._due_ms = max(int(request.retraining["journal_time"]), self._free_ms) + self._training_ms

    def poll(self) -> JobResult | None:
        """Return the result once it is due, waiting for the machine; None before."""
        if self._due_ms is None or not self.is_due:
            return None
        begun = time.monotonic()
        while (result := self._trainer.poll()) is None:
            time.sleep(_LOOK_S)
        self.waited_s += time.monotonic() - begun
        self._free_ms, self._due_ms = self._due_ms, None
        return result


class NoRegistrar:
    """A registrar that tells nobody: a backtest's models serve nobody."""

    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def want(self, models: Mapping[str, ServiceTimes]) -> None:
        """Do nothing."""

    def poll(self) -> None:
        """Do nothing."""
