"""Everything the worker knows, with the transitions that change it: a fold over decisions, its own records and how far others have come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill.services.retraining.domain.admissions import Admissions
from tidemill.services.retraining.domain.requests import FINAL, QUEUED, STEP, Requests
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.domain.waiting_candidate import WaitingCandidate
from tidemill.shared.models.deployments import Lifecycle, Lifecycles


@dataclass(slots=True)
class WorkerState:
    """Where requests, models and the stages around the worker stand.

    Attributes
    ----------
    lifecycles, times
        Of the models: what serves, and since when.
    admissions
        Of the models: which recipe's refits go out, and what levels were spent.
    waiting
        Of the models: the candidate that an A/B test keeps waiting.
    archived_ms
        By partition: journal time before which everything is in the lake.
    covered_ms
        Journal time up to which everything that was asked for is answered.
    """

    requests: Requests = field(default_factory=Requests)
    lifecycles: Lifecycles = field(default_factory=Lifecycles)
    times: Mapping[str, ServiceTimes] = field(default_factory=dict)
    admissions: Mapping[str, Admissions] = field(default_factory=dict)
    waiting: Mapping[str, WaitingCandidate] = field(default_factory=dict)
    archived_ms: dict[int, int] = field(default_factory=dict)
    covered_ms: int = -1
    _control: tuple[int, int] = (0, -1)

    def trained(self, record: Mapping[str, Any]) -> None:
        """A record of the worker's own topic: a training has started or has ended.

        Versions before decisions had their own topic wrote requests there; one that they left open is taken up.
        """
        identity = record["decision_id"]
        if record["event"] == "started":
            self.requests.start(identity)
        elif record["event"] == QUEUED:
            self.requests.queue(identity, record["details"])
        elif record["event"] == STEP:
            self.requests.step(identity, record["reason"], record["details"])
        elif record["event"] in FINAL:
            self.requests.answer(identity)
        elif record["event"] == "requested":
            self.requests.adopt(record)

    def deployed(self, event: Mapping[str, Any]) -> None:
        """A record of the lifecycle log; whatever asked for it is answered in the same transaction."""
        name = str(event["model"])
        before = self.lifecycles.of(name)
        self.lifecycles = self.lifecycles.apply(dict(event))
        self.times = {**self.times, name: self.times.get(name, ServiceTimes()).apply(event, before, self.lifecycles.of(name))}
        self.admissions = {**self.admissions, name: self.admission(name).deployed(event, before, self.lifecycles.of(name))}
        waiting = self.waiting.get(name, WaitingCandidate()).deployed(event, before, self.lifecycles.of(name))
        self.waiting = {**self.waiting, name: waiting}
        self.requests.answer(event["decision_id"])

    def archive_covered(self, partition: int, time_ms: int) -> None:
        """The archive holds everything before an instant."""
        self.archived_ms[partition] = time_ms

    def control_covered(self, decisions: int, time_ms: int) -> None:
        """Control has decided everything before an instant, with so many decisions in all."""
        self._control = decisions, time_ms

    def cover(self) -> int:
        """Pass what is answered; returns the journal time that is covered then."""
        decisions, time_ms = self._control
        if self.requests.read >= decisions:
            waiting = self.requests.oldest_ms
            self.covered_ms = max(self.covered_ms, time_ms if waiting is None else min(time_ms, waiting - 1))
        return self.covered_ms

    def is_archived(self, time_ms: int, partitions: int) -> bool:
        """Whether the archive holds, of all partitions, everything before an instant."""
        return min(self.archived_ms.get(partition, -1) for partition in range(partitions)) >= time_ms

    def lifecycle(self, model: str) -> Lifecycle:
        """Return where a model stands."""
        return self.lifecycles.of(model)

    def admission(self, model: str) -> Admissions:
        """Return what a model's gate has decided so far."""
        return self.admissions.get(model, Admissions())
