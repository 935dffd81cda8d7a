"""Retraining's worker as a task: requests in; trainings in a child process; their results and the lifecycle of models out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retraining.domain.service_times import ServiceTimes
from services.retraining.job_files import JobRequest, JobResult
from services.retraining.registrar import Registrar
from services.retraining.trainer import Trainer
from shared.application.plan import Plan
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.models.deployments import Lifecycles, ModelDeployment
from shared.short_text import LONGEST_TEXT
from shared.streaming.progress import Progress
from shared.streaming.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from shared.streaming.task import StepContext, Task, TaskInputs
from shared.version import CODE_VERSION

log = logging.getLogger(__name__)
_SCHEMAS = Path(__file__).parents[2] / "schemas"


def task_inputs(plan: Plan) -> TaskInputs:
    """Requests, how far control and archive have come, and the lifecycle log, which is the task's own memory."""
    topics = plan.topics
    inputs = (topics.retraining, topics.progress("control"), topics.progress("archive"))
    return TaskInputs(inputs, broadcast=(topics.deployments,), gathered=True)


@dataclass(frozen=True, slots=True)
class Places:
    """Where data and models lie."""

    application: str
    lake: str
    artifacts: str


@dataclass(slots=True)
class _Request:
    """An open request; `champion` is the SHA-256 of what its training is to beat, None while none runs."""

    offset: int
    record: dict[str, Any]
    started: bool = False
    champion: str | None = None

    @property
    def rolls_back(self) -> bool:
        """Whether it needs no training."""
        return bool(self.record["details"].get("action") == "roll_back")


class RetrainingTask(Task):
    """The one task of the stage: one training at a time, in the order of the requests.

    A request's position is passed only in the transaction that publishes its result, so a restart takes it up again. It waits until the
    archive holds everything that was known when it was made; that, and not the moment of training, decides what is learned from.

    A roll-back waits for no training. A candidate that was judged against a champion which has been rolled back in the meantime is trained
    and judged again. After a restart nothing is done before everything this task had said is read: that tells which requests are answered.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, trainer: Trainer, registrar: Registrar, places: Places) -> None:
        topics = plan.topics
        self._plan, self._trainer, self._registrar, self._places = plan, trainer, registrar, places
        self._input = TopicPartition(topics.retraining, 0)
        self._control, self._archive = topics.progress("control"), topics.progress("archive")
        self._retraining = self._codec(registry, topics.retraining, "Retraining")
        self._deployment = self._codec(registry, topics.deployments, "Deployment")
        self._progress = {topic: self._codec(registry, topic, "Progress") for topic in (self._control, self._archive)}
        self._lifecycles = Lifecycles()
        self._times: dict[str, ServiceTimes] = {}
        self._pending: list[_Request] = []
        self._registry_told = False
        self._said_read = 0
        self._said_written = 0
        self._read_to: int | None = None
        self._seen = 0
        self._log = TopicPartition(topics.deployments, 0)
        self._events_read = 0
        self._events_written = 0
        self._positions: dict[TopicPartition, int] = {}
        self._archived: dict[int, int] = {}
        self._decided = (0, -1)
        self._coverage = Coverage()

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Nothing: the lifecycle log says where models stand, the positions say which requests are open."""

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        self._positions = dict(positions)
        self._read_to = positions.get(self._input)
        self._events_written = outputs.get(self._log.topic, 0)
        self._said_written = outputs.get(self._input.topic, 0)
        self._coverage = Coverage(coverage_offset, coverage_time_ms)

    def replay(self, inputs: Sequence[Records]) -> None:
        """Fold the lifecycle log and count the decisions that are done with."""
        self._read(inputs, open_requests=False)

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:
        """Count records that were quarantined, so that nothing waits for them (only a request can crash this task)."""
        if topic == self._input.topic:
            self._seen += len(offsets)
        elif topic == self._log.topic:
            self._events_read += len(offsets)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Start what can start, publish what has ended."""
        self._read(inputs, open_requests=True)
        said: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        if self._events_read >= self._events_written and self._said_read >= self._said_written:
            if not self._registry_told:
                self._registrar.want(self._times)
                self._registry_told = True
            for request in [one for one in self._pending if one.rolls_back]:
                said += self._follow_operator(request, events)
            if self._pending:
                said += self._train(self._pending[0], events)
            self._registrar.poll()
        self._advance()
        return Step(self._emissions(said, events), self._positions, self._coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Nothing but where to replay from: decisions and lifecycle log are read from their beginning."""
        return Checkpoint((), {**self._positions, self._input: 0, self._log: 0})

    def committed(self) -> None:
        """Let the registry know what is committed."""
        self._registrar.want(self._times)

    def versions(self) -> Mapping[str, str]:
        """Code and application."""
        return {"code": CODE_VERSION, "application": self._plan.application_hash}

    def _read(self, inputs: Sequence[Records], *, open_requests: bool) -> None:
        for records in inputs:
            if not len(records):
                continue
            if records.topic == self._input.topic:
                for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                    if value is not None:
                        self._hear(offset, self._retraining.decode(value), open_requests=open_requests)
                self._read_to = int(records.offsets[-1]) + 1
            elif records.topic == self._log.topic:
                # What was written since the start is folded already: the fold ignores events that do not follow its head.
                for value in records.values:
                    if value is not None:
                        self._fold(self._deployment.decode(value))
                        self._events_read += 1
                self._positions[self._log] = int(records.offsets[-1]) + 1
            else:
                # The last progress record is read again after a restart: it says how far things stand.
                # One without a value is a claim, which says nothing of it.
                written = [(offset, value) for offset, value in zip(records.offsets.tolist(), records.values, strict=True) if value is not None]
                if not written:
                    continue
                offset, value = written[-1]
                last = Progress.decode(value, self._progress[records.topic])
                self._positions[TopicPartition(records.topic, records.partition)] = offset
                if records.topic == self._archive:
                    self._archived[last.partition] = last.covered_time
                else:
                    self._decided = (last.outputs.get(self._input.topic, 0), last.covered_time)

    def _hear(self, offset: int, record: dict[str, Any], *, open_requests: bool) -> None:
        if record["event"] in ("requested", "skipped"):
            self._seen += 1
            if record["event"] == "requested" and open_requests:
                self._pending.append(_Request(offset, record))
            return
        self._said_read += 1
        for request in self._pending:
            if request.record["decision_id"] == record["decision_id"]:
                request.started = True
                if record["event"] != "started":
                    self._pending.remove(request)
                break

    def _fold(self, event: dict[str, Any]) -> None:
        name = str(event["model"])
        before = self._lifecycles.of(name)
        self._lifecycles = self._lifecycles.apply(event)
        self._times[name] = self._times.get(name, ServiceTimes()).apply(event, before, self._lifecycles.of(name))

    def _follow_operator(self, request: _Request, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._pending.remove(request)
        record = request.record
        retired = self._lifecycles.of(record["model"]).retired
        if not retired:
            return [self._record(record, "failed", "there is no earlier champion to roll back to", {}, {})]
        self._roll_back(record, retired[-1], f"asked for: {record['reason']}", {}, events)
        return [self._record(record, "finished", f"rolled back to {retired[-1].version}", {}, {})]

    def _train(self, request: _Request, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if request.champion is None:
            archived = [self._archived.get(partition, -1) for partition in range(self._plan.application.partitions)]
            return self._start(request) if min(archived) >= int(request.record["journal_time"]) else []
        result = self._trainer.poll()
        if result is None:
            return []
        champion = self._lifecycles.of(request.record["model"]).champion
        if request.champion != (champion.artifact_sha256 if champion else ""):
            log.warning("another model serves than the candidate was judged against: again", extra={"decision_id": request.record["decision_id"]})
            return self._start(request)
        self._pending.remove(request)
        return self._finish(request.record, result, events)

    def _start(self, request: _Request) -> list[dict[str, Any]]:
        lifecycle = self._lifecycles.of(request.record["model"])
        request.champion = lifecycle.champion.artifact_sha256 if lifecycle.champion else ""
        predecessor = lifecycle.retired[-1].artifact_sha256 if lifecycle.retired else ""
        places, longest_ms = self._places, self._plan.models[request.record["model"]].settings.training.max_duration
        self._trainer.start(JobRequest(places.application, places.lake, places.artifacts, request.record, request.champion, predecessor, longest_ms))
        if request.started:
            return []
        request.started = True
        return [self._record(request.record, "started", request.record["reason"], {}, {})]

    def _finish(self, request: dict[str, Any], result: JobResult, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not result.finished:
            return [self._record(request, "failed", result.reason, result.figures, result.details)]
        self._registrar.record(request["decision_id"], result.record)
        candidate = ModelDeployment(result.version, result.artifact_sha256, -1, result.threshold)
        self._deploy(request, "registered", candidate, result, result.reason, events)
        self._deploy(request, "gate_passed" if result.passed else "gate_refused", candidate, result, result.reason, events)
        if result.passed:
            self._deploy(request, "promoted", candidate, result, result.reason, events)
        elif result.roll_back:
            reason = "the champion before does significantly better on labels that neither learned from"
            self._roll_back(request, self._lifecycles.of(request["model"]).retired[-1], reason, result.figures, events)
        words = "promoted" if result.passed else "refused"
        return [self._record(request, "finished", f"{result.version} {words}: {result.reason}", result.figures, result.details)]

    def _roll_back(
        self, request: dict[str, Any], target: ModelDeployment, reason: str, figures: Mapping[str, float], events: list[dict[str, Any]]
    ) -> None:
        self._append(self._event(request, "rolled_back", target, reason, figures, {}, ""), events)

    def _deploy(
        self, request: dict[str, Any], event: str, candidate: ModelDeployment, result: JobResult, reason: str, events: list[dict[str, Any]]
    ) -> None:
        self._append(self._event(request, event, candidate, reason, result.figures, result.details, result.artifact_uri), events)

    def _event(
        self,
        request: dict[str, Any],
        event: str,
        deployment: ModelDeployment,
        reason: str,
        figures: Mapping[str, float],
        details: Mapping[str, str],
        uri: str,
    ) -> dict[str, Any]:
        head = self._lifecycles.of(request["model"]).head
        return {
            **{name: request[name] for name in ("decision_id", "model", "journal_partition", "journal_offset", "journal_time")},
            "sequence": head + 1,
            "parent": head,
            "event": event,
            "version": deployment.version,
            "artifact_sha256": deployment.artifact_sha256,
            "artifact_uri": uri,
            "share": 1.0 if event in ("promoted", "rolled_back") else 0.0,
            "threshold": deployment.threshold,
            "figures": dict(figures),
            "details": dict(details),
            "reason": reason,
        }

    def _append(self, event: dict[str, Any], events: list[dict[str, Any]]) -> None:
        self._fold(event)
        events.append(event)

    def _record(self, request: dict[str, Any], event: str, reason: str, figures: Mapping[str, float], details: Mapping[str, str]) -> dict[str, Any]:
        return {**request, "event": event, "reason": reason, "figures": dict(figures), "details": {**request["details"], **details}}

    def _advance(self) -> None:
        """Pass what is done with, and say up to which instant everything is decided."""
        if self._read_to is not None:
            self._positions = {**self._positions, self._input: self._pending[0].offset if self._pending else self._read_to}
        produced, covered = self._decided
        if self._seen < produced:
            return
        time = min(covered, self._pending[0].record["journal_time"] - 1) if self._pending else covered
        if time > self._coverage.time_ms:
            self._coverage = Coverage(0, time)

    def _emissions(self, said: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[Emission]:
        topics, emissions = self._plan.topics, []
        if events:
            keys: list[bytes | None] = [event["model"].encode() for event in events]
            emissions.append(Emission(topics.deployments, 0, keys, [self._deployment.encode(event) for event in events]))
        if said:
            keys = [record["model"].encode() for record in said]
            emissions.append(Emission(topics.retraining, 0, keys, [self._retraining.encode(record) for record in said]))
        return emissions

    def _codec(self, registry: SchemaRegistry, topic: str, name: str) -> RecordCodec:
        return RecordCodec(registry, f"{topic}-tidemill.{name}", (_SCHEMAS / f"{name.lower()}.avsc").read_text(encoding="utf-8"), LONGEST_TEXT)
