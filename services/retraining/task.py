"""Retraining's worker as a task: decisions in; trainings in a child process; their results and the lifecycle of models out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.retraining.accounts import asked, commanded, judged, judged_before, retired, rolled_back, training
from tidemill.services.retraining.domain.admissions import RECIPE
from tidemill.services.retraining.domain.first_stage import first_stage, held_back
from tidemill.services.retraining.domain.lifecycle_commands import obey
from tidemill.services.retraining.domain.requests import QUEUED, STEP, TrainingRequest
from tidemill.services.retraining.domain.service_times import ServiceTimes
from tidemill.services.retraining.domain.state import WorkerState
from tidemill.services.retraining.domain.waiting_candidate import WaitingCandidate, waits
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.registrar import Registrar
from tidemill.services.retraining.processes.slots import Slots
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.stages import ABStage
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.models.deployments import GOES_ON, TRIAL, ModelDeployment
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import StepContext, Task, TaskInputs
from tidemill.shared.short_text import LONGEST_TEXT
from tidemill.shared.version import CODE_VERSION

log = logging.getLogger(__name__)
_WORDS = {"promoted": "promoted", "shadow": "in shadow", "canary": "answers a share of the requests", "ab": "is compared in an A/B test"}


def task_inputs(plan: Plan) -> TaskInputs:
    """Control's decisions and how far control and archive have come; what the task itself has said is its memory."""
    topics = plan.topics
    read, said = (topics.decisions, topics.progress("control"), topics.progress("archive")), (topics.retraining, topics.deployments)
    return TaskInputs(read, restores_from_outputs=said, gathered=True, sole_outputs=said)


@dataclass(frozen=True, slots=True)
class Places:
    """Where data and models lie."""

    application: str
    lake: str
    artifacts: str


class RetrainingTask(Task):
    """The one task of the stage: one training at a time of each model, so many in all (`Slots`), in the order of the requests.

    A request is open until the transaction that publishes its answer, so a restart takes it up again. It waits until the archive holds everything
    that was known when it was made; that, and not the moment of training, decides what is learned from.

    A candidate that has passed goes into the application's first stage; what control decides of its trial, and what operators command, moves it on or
    sends it back. A command to the lifecycle waits for no training. A candidate that was judged against a champion which has been rolled back in the
    meantime is trained and judged again; while a version is pinned, candidates are judged and go nowhere.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, slots: Slots, registrar: Registrar, places: Places) -> None:
        topics = plan.topics
        self._plan, self._slots, self._registrar, self._places = plan, slots, registrar, places
        names = {topics.decisions: "decision", topics.retraining: "retraining", topics.deployments: "deployment"}
        names |= dict.fromkeys((topics.progress("control"), topics.progress("archive")), "progress")
        self._codecs = {topic: message_codec(registry, topic, name, LONGEST_TEXT) for topic, name in names.items()}
        self._state = WorkerState()
        self._told: Mapping[str, ServiceTimes] | None = None
        self._positions: dict[TopicPartition, int] = {}

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Nothing: what this task has said tells where models and requests stand."""

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        self._positions = dict(positions)
        self._state.covered_ms = coverage_time_ms

    def replay(self, inputs: Sequence[Records]) -> None:
        """Take in what earlier incarnations have said."""
        for records in inputs:
            take = self._state.trained if records.topic == self._plan.topics.retraining else self._state.deployed
            for value in records.values:
                if value is not None:
                    take(self._codecs[records.topic].decode(value))

    def skipped(self, topic: str, partition: int, offsets: NDArray[np.int64]) -> None:
        """Count records that were quarantined, so that nothing waits for them."""
        if topic == self._plan.topics.decisions:
            self._state.requests.set_aside(offsets.tolist())

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Carry out commands, start what can start, publish what has ended."""
        # What the state holds at the beginning of a step is committed.
        if self._state.times is not self._told:
            self._told = self._state.times
            self._registrar.want(self._told)
        self._registrar.poll()
        self._read(inputs)
        said: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        for request in self._state.requests.commands:
            lifecycle = self._state.lifecycle(request.decision["model"])
            obeyed = obey(request.decision, lifecycle, self._state.admission(request.decision["model"]).is_refit)
            self._deploy(commanded(request.decision, obeyed, lifecycle, self._share(request)), events)
        for name, lifecycle in self._state.lifecycles.models.items():
            if name not in self._plan.models and lifecycle.champion is not None:
                self._deploy(retired(name, lifecycle, self._state.covered_ms), events)
        for name in self._plan.models:
            self._place_waiting(name, events)
        turns = self._state.requests.trainings
        self._slots.retain([request.decision["decision_id"] for request in turns])
        for request in turns:
            self._train(request, said, events)
        self._tell_places(said)
        covered = Coverage(0, self._state.cover())
        position = self._state.requests.position
        if position is not None:
            self._positions[TopicPartition(self._plan.topics.decisions, 0)] = position
        topics = self._plan.topics
        return Step([self._emission(topics.deployments, events), self._emission(topics.retraining, said)], dict(self._positions), covered)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Nothing: the task's own topics hold everything."""
        return Checkpoint()

    def versions(self) -> Mapping[str, str]:
        """Code and application."""
        return {"code": CODE_VERSION, "application": self._plan.application_hash}

    def _read(self, inputs: Sequence[Records]) -> None:
        topics = self._plan.topics
        for records in inputs:
            written = [(offset, value) for offset, value in zip(records.offsets.tolist(), records.values, strict=True) if value is not None]
            if records.topic == topics.decisions:
                for offset, value in written:
                    self._state.requests.ask(offset, self._codecs[records.topic].decode(value))
            elif written:
                # The last progress record is read again after a restart: it says how far things stand.
                # One without a value is a claim, which says nothing of it.
                offset, value = written[-1]
                last = Progress.decode(value, self._codecs[records.topic])
                self._positions[TopicPartition(records.topic, records.partition)] = offset
                if last.stage == "archive":
                    self._state.archive_covered(last.partition, last.covered_time)
                else:
                    self._state.control_covered(last.outputs.get(topics.decisions, 0), last.covered_time)

    def _train(self, request: TrainingRequest, said: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        decision = request.decision
        if decision["model"] not in self._plan.models:
            reason = f"expected one of the application's models ({', '.join(self._plan.models)}), got {decision['model']}: was it removed?"
            self._say(training(decision, "refused", reason), said)
        elif request.judged_against is None:
            archived = self._state.is_archived(decision["journal_time"], self._plan.application.partitions)
            if archived and self._slots.takes(decision["decision_id"]):
                self._start(request, said)
        elif (result := self._polled(decision, said)) is not None:
            if request.judged_against == self._state.lifecycle(decision["model"]).compared:
                self._finish(decision, result, said, events)
            else:
                known = {"decision_id": decision["decision_id"]}
                log.warning("another model serves, or served before, than the training compared: again", extra=known)
                self._start(request, said)

    def _tell_places(self, said: list[dict[str, Any]]) -> None:
        """Tell each training that could begin, but for others that run, its place among those; once for each place."""
        if not self._slots.tells_places:
            return
        running = {asked["model"] for asked in self._slots.running}
        requests, count = self._state.requests, self._plan.application.partitions
        waiting = [request for request in requests.waiting if self._state.is_archived(request.decision["journal_time"], count)]
        for place, request in enumerate(waiting, 1):
            identity, model = request.decision["decision_id"], request.decision["model"]
            if running and requests.places.get(identity) != str(place):
                one = (
                    "another training of the model runs"
                    if model in running
                    else f"{len(running)} of {self._slots.places} places for trainings are taken"
                )
                self._say(training(request.decision, QUEUED, f"{one}: place {place} in the queue", details={"place": str(place)}), said)

    def _polled(self, decision: Mapping[str, Any], said: list[dict[str, Any]]) -> JobResult | None:
        """Look at the training that runs, and tell what has happened to it."""
        result, told = self._slots.look(decision["decision_id"])
        for news in told:
            if news.event == STEP and self._state.requests.is_told(decision["decision_id"], news.reason, news.details):
                continue
            self._say(training(decision, news.event, news.reason, details=news.details), said)
        return result

    def _start(self, request: TrainingRequest, said: list[dict[str, Any]]) -> None:
        decision = request.decision
        champion, predecessor = request.judged_against = self._state.lifecycle(decision["model"]).compared
        places, own = self._places, self._plan.models[decision["model"]].settings
        gate = self._state.admission(decision["model"])
        looks = [[at_ms, level] for at_ms, level in gate.spent]
        job = JobRequest(
            places.application, places.lake, places.artifacts, asked(decision), champion, predecessor, own.training.max_duration,
            gate.serving, gate.is_admitted, gate.searched_ms, looks, retries=own.retraining.retries, retry_delay_ms=own.retraining.retry_delay,
            classes=list(self._state.lifecycle(decision["model"]).classes),
        )  # fmt: skip
        self._slots.start(job)
        if decision["decision_id"] not in self._state.requests.started:
            self._say(training(decision, "started", decision["reason"]), said)

    def _finish(self, decision: Mapping[str, Any], result: JobResult, said: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
        figures = result.figures | ({"cpu_s": result.cpu_s} if result.cpu_s else {})
        if not result.finished:
            self._say(training(decision, "refused" if result.skipped else "failed", result.reason, figures, result.details), said)
            return
        self._registrar.record(decision["decision_id"], result.record)
        model = decision["model"]
        candidate = ModelDeployment(result.version, result.artifact_sha256, -1, result.threshold)
        stages, admission = self._plan.models[model].settings.stages, result.details.get("admission", "")
        challenger = self._state.lifecycle(model).challenger
        tried = self._state.admission(model).tried(challenger.version if challenger else "", result.details.get(RECIPE, ""))
        held = held_back(self._state.lifecycle(model), stages, admission, tried, decision["trigger"])
        self._deploy(judged(decision, "registered", candidate, result, self._state.lifecycle(model)), events)
        verdict = judged(decision, "gate_passed" if result.passed else "gate_refused", candidate, result, self._state.lifecycle(model))
        if result.passed:
            verdict["details"] |= waits(self._state.lifecycle(model))
        self._deploy(verdict, events)
        goes = None
        if result.passed and not held:
            goes = first_stage(stages, self._state.lifecycle(model), admission, tried, decision["trigger"])
            moved = judged(decision, goes.event, candidate, result, self._state.lifecycle(model), goes.share)
            if goes.keeps_trial:
                moved["details"] |= {TRIAL: GOES_ON}
            self._deploy(moved, events)
        if result.roll_back and not result.passed and self._state.lifecycle(model).pin is None:
            reason = "the champion before does significantly better on labels that neither learned from"
            self._deploy(rolled_back(decision, reason, result, self._state.lifecycle(model)), events)
        words = _WORDS[goes.event] if goes else f"passed, {held}" if result.passed else "refused"
        self._say(training(decision, "finished", f"{result.version} {words}: {result.reason}", figures, result.details), said)

    def _place_waiting(self, model: str, events: list[dict[str, Any]]) -> None:
        """Try the candidate that an A/B test has kept waiting, once nothing does any more."""
        waiting, lifecycle = self._state.waiting.get(model, WaitingCandidate()), self._state.lifecycle(model)
        if waiting.event is None:
            return
        version = lifecycle.challenger.version if lifecycle.challenger else ""
        tried = self._state.admission(model).tried(version, waiting.event["details"].get(RECIPE, ""))
        goes = waiting.freed(lifecycle, self._plan.models[model].settings.stages, tried)
        if isinstance(goes, str):
            self._deploy(judged_before(waiting.event, "gate_refused", goes, lifecycle, 0.0, waiting.ended_at), events)
        elif goes is not None:
            moved = judged_before(waiting.event, goes.event, waiting.event["reason"], lifecycle, goes.share, waiting.ended_at)
            if goes.keeps_trial:
                moved["details"] = {**moved["details"], TRIAL: GOES_ON}
            self._deploy(moved, events)

    def _share(self, request: TrainingRequest) -> float:
        """Return the share of the requests that a challenger answers after a decision: as commanded, else as the application says."""
        model = self._plan.models.get(request.decision["model"])
        if model is None:
            return 0.0
        stages = model.settings.stages
        if request.decision["action"] == "ab":
            return float(request.decision["share"] or (stages.ab or ABStage()).share)
        return 0.0 if stages.canary is None else stages.canary.share

    def _deploy(self, event: dict[str, Any], events: list[dict[str, Any]]) -> None:
        self._state.deployed(event)
        events.append(event)

    def _say(self, record: dict[str, Any], said: list[dict[str, Any]]) -> None:
        self._state.trained(record)
        said.append(record)

    def _emission(self, topic: str, records: Sequence[dict[str, Any]]) -> Emission:
        return Emission(topic, 0, [record["model"].encode() for record in records], [self._codecs[topic].encode(record) for record in records])
