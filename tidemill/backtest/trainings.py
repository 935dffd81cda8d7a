"""Trainings of a backtest: the live trainer, whose results are there when virtual time says so."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tidemill.backtest.virtual_time import VirtualClock
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.trainer import Trainer

# A look costs a third of a millisecond of the processor that the training needs: of a long one fewer are worth it.
_LOOK_S = 0.02
_LOOK_SHARE = 0.02


class TimedTrainer(Trainer):
    """Trainer that takes a fixed time on the virtual clock, however long the machine takes.

    A training begins when it is asked for, or when the one before it has ended, if that is later. Its result is there `training_ms` after that:
    `poll` waits for the machine then, and returns nothing before. Nor does it say what processor time a training took: no decision of a backtest
    rests on the machine.

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
            time.sleep(max(_LOOK_S, _LOOK_SHARE * (time.monotonic() - begun)))
        self.waited_s += time.monotonic() - begun
        self._free_ms, self._due_ms = self._due_ms, None
        return replace(result, cpu_s=0.0)


class KeptRegistrar:
    """A registrar that keeps what it is told until the end, when a registry may be told it all: a backtest's models serve nobody."""

    def __init__(self) -> None:
        self._records: dict[str, Mapping[str, Any]] = {}
        self._models: Mapping[str, ServiceTimes] = {}

    def record(self, decision: str, record: Mapping[str, Any]) -> None:
        """Keep a training; a trainer of one's own may have nothing to say of it."""
        if record:
            self._records[decision] = record

    def want(self, models: Mapping[str, ServiceTimes]) -> None:
        """Keep the last word."""
        self._models = models

    def poll(self) -> None:
        """Do nothing."""

    def write(self, app: str, uri: str) -> None:
        """Tell a registry; without a training it is not made."""
        if not self._records:
            return
        from tidemill.shared.models.registry import ModelRegistry

        registry = ModelRegistry(uri)
        for record in self._records.values():
            registry.record(app, **record)
        for model, times in self._models.items():
            if times.champion:
                registry.deployed(app, model, times.versions, times.champion)
