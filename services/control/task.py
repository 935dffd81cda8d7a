"""Control as a task: findings, trials, scoring times, incidents and commands in; decisions, marks for the archive, and incidents out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidemill.services.control.domain.decision import JournalPlace
from tidemill.services.control.domain.incident_actions import IncidentActions
from tidemill.services.control.domain.policy import UNREADABLE, UNSIGNED, Policy, RetrainingDecisions
from tidemill.services.control.domain.scoring_times import ScoringTimeWatch
from tidemill.services.control.domain.stages import StageWatch
from tidemill.services.control.domain.trial_state import StagePolicy
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import NOT_FOR_CONTROL, is_signed
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.merge.merge import MergeInput, Released
from tidemill.shared.merge.merging_task import MergingTask
from tidemill.shared.runner.task import StepContext, TaskInputs
from tidemill.shared.short_text import LONGEST_TEXT

_UPSTREAM = "drift"
_VERSION = "control-5"
_STATE, _MERGE, _TRIALS, _TIMES, _INCIDENTS = b"policy", b"merge", b"trials", b"scoring-times", b"incidents"


def task_inputs(plan: Plan) -> TaskInputs:
    """Findings, trials and incidents, how far they are complete, operators' commands, what became of decisions, and scoring times."""
    topics = plan.topics
    merged = (topics.drift, topics.trials, topics.found_incidents, topics.progress(_UPSTREAM))
    read = (*merged, topics.commands, topics.retraining, topics.deployments, topics.scoring_times)
    return TaskInputs(read, gathered=True, sole_outputs=(topics.decisions, topics.flush_marks, topics.incidents))


def stage_policy(model: ModelPlan) -> StagePolicy:
    """Return what a model's challengers have to show: the margins and the level of its gate."""
    gate = model.settings.gate
    return StagePolicy(model.name, model.kind.name, model.settings.stages, *gate.margins(model.kind.name), gate.alpha, gate.fairness)


class ControlTask(MergingTask):
    """The one task of the stage.

    Findings are followed in journal order up to what drift has covered; schedules run on that journal time. A command takes effect at the
    journal time it is read at; one for a training waits until there is any. How it fell between the findings is written nowhere but in the
    state, so the state (it is small) goes out with every step that changes it and nothing is ever replayed. So it is with what became of decisions,
    which is told of their incidents, and with scoring times, which are measured.

    Parameters
    ----------
    key
        Commands that are not signed with it are answered and not obeyed. None obeys everybody: for simulations without operators.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, key: bytes | None = None) -> None:
        topics = plan.topics
        told = topics.progress(_UPSTREAM)
        # An incident comes after the decisions on its findings.
        followed = (topics.drift, topics.trials, topics.found_incidents)
        merged = [MergeInput(topic, rank, (0,), _UPSTREAM, gathered=True) for rank, topic in enumerate(followed)]
        super().__init__(merged, {told: message_codec(registry, told, "progress")})
        self._plan = plan
        self._key = key
        policies = [
            Policy(model.name, own.cool_down, own.schedule, own.budget_per_30d, own.cpu_per_day)
            for model, own in ((model, model.settings.retraining) for model in plan.models.values())
        ]
        self._policy = RetrainingDecisions(policies)
        stages = [stage_policy(model) for model in plan.models.values()]
        self._stages, self._times = StageWatch(stages), ScoringTimeWatch(stages)
        self._actions = IncidentActions()
        read = {topics.drift: "drift", topics.trials: "trial", topics.found_incidents: "incident"}
        read |= {topics.retraining: "retraining", topics.deployments: "deployment", topics.scoring_times: "scoring-time"}
        self._codecs = {topic: message_codec(registry, topic, name, LONGEST_TEXT) for topic, name in read.items()}
        self._incident = message_codec(registry, topics.incidents, "incident", LONGEST_TEXT)
        self._command = message_codec(registry, topics.commands, "command", LONGEST_TEXT)
        self._decision = message_codec(registry, topics.decisions, "decision", LONGEST_TEXT)
        self._flush_mark = message_codec(registry, topics.flush_marks, "flush-mark", LONGEST_TEXT)
        self._decided = 0
        self._read: dict[TopicPartition, int] = {}
        self._answers: list[tuple[bool, dict[str, Any]]] = []
        self._windows: list[dict[str, Any]] = []
        self._written: dict[bytes, bytes] = {}
        # With the offset that each stands at.
        self._commands: list[tuple[int, dict[str, Any]]] = []

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load requests made so far and the merge's counts."""
        self._written = {entry.key: entry.value for entry in entries if entry.value is not None}
        if _STATE in self._written:
            self._policy.load(json.loads(self._written[_STATE]))
        if _TRIALS in self._written:
            self._stages.load(json.loads(self._written[_TRIALS]))
        if _TIMES in self._written:
            self._times.load(json.loads(self._written[_TIMES]))
            for challenger in self._times.sent_back():
                self._stages.sent_back(*challenger)
        if _INCIDENTS in self._written:
            self._actions.load(json.loads(self._written[_INCIDENTS]))
        if _MERGE in self._written:
            self.merge.restore(self._written[_MERGE])

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        topics = self._plan.topics
        aside = (topics.commands, topics.retraining, topics.deployments, topics.scoring_times)
        self._read = {place: offset for place, offset in positions.items() if place.topic in aside and offset}
        self._decided = outputs.get(self._plan.topics.decisions, 0)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Decide what the findings, the calendar and the commands ask for."""
        self.finish_replay()
        self.read(inputs)
        told = self._follow(self.merge.release())
        self.cover()
        # Of the instant itself something may still come, so a schedule waits until it has passed.
        told.decide(self._policy.advance(self.coverage.time_ms - 1))
        told.decide(self._obey())
        told.decide(self._timed())
        while self._answers:
            of_training, answer = self._answers.pop(0)
            if of_training:
                self._policy.trained(answer, max(self.coverage.time_ms, 0))
            else:
                self._stages.answered(answer)
            told.incidents += self._actions.trained(answer) if of_training else self._actions.deployed(answer)
        return Step(self._emissions(told), self._positions(), self.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write what has changed: it is small."""
        self.finish_replay()
        state = {_STATE: json.dumps(self._policy.snapshot()).encode(), _MERGE: self.merge.state()}
        if trials := self._stages.snapshot():
            state[_TRIALS] = json.dumps(trials).encode()
        if times := self._times.snapshot():
            state[_TIMES] = json.dumps(times).encode()
        if incidents := self._actions.snapshot():
            state[_INCIDENTS] = json.dumps(incidents).encode()
        changed = [StateEntry(key, value) for key, value in state.items() if self._written.get(key) != value]
        changed += [StateEntry(key, None) for key in self._written if key not in state]
        self._written = state
        return Checkpoint(changed, self._positions())

    def versions(self) -> Mapping[str, str]:
        """Version of the policy's state (raise it when that changes).

        Not of the application: what was asked for is a fact. New limits apply to what comes; deciding the past again under them would count
        requests that nobody ever made.
        """
        return {"code": _VERSION}

    def refold(self, released: Released) -> None:
        """Decide again what had been decided by another version, whose state cannot be used; everything is published already."""
        told = self._follow(released)
        told.decide(self._policy.advance(self.coverage.time_ms - 1))
        told.decide(self._obey())

    def cover(self) -> None:
        """Let the coverage grow: findings come from all partitions, so it is one of time only."""
        covered = self.merge.coverage()
        if covered.time_ms > self.coverage.time_ms:
            self.coverage = Coverage(0, covered.time_ms)

    def take(self, records: Records) -> None:
        """Add findings, trials and incidents, hear commands, or learn what became of decisions and how long scoring took."""
        topics = self._plan.topics
        is_command, is_answer = records.topic == topics.commands, records.topic in (topics.retraining, topics.deployments)
        is_window = records.topic == topics.scoring_times
        for row, value in enumerate(records.values):
            if value is None:
                continue
            if is_command:
                self._hear(records, row, value)
                continue
            finding = self._codecs[records.topic].decode(value)
            if is_answer:
                self._answers.append((records.topic == topics.retraining, finding))
                continue
            if is_window:
                self._windows.append(finding)
                continue
            self.merge.add(
                records.topic,
                records.partition,
                offsets=records.offsets[row : row + 1],
                journal_time=np.array([finding["journal_time"]]),
                journal_partition=finding["journal_partition"],
                journal_offset=np.array([finding["journal_offset"]]),
                payload=finding,
            )
        if is_command or is_answer or is_window:
            self._read[TopicPartition(records.topic, records.partition)] = int(records.offsets[-1]) + 1

    def _hear(self, records: Records, row: int, value: bytes) -> None:
        try:
            command = self._command.decode(value)
        except InvalidRecord as error:
            # Anybody may write to this topic: nonsense is answered in public instead of stopping the loop.
            self._refuse(records, row, self._plan.models, UNREADABLE, f"{error.reason}: {error.detail}")
            return
        if command["command"] in NOT_FOR_CONTROL:
            # To ingestion or alerts, whoever has signed it.
            return
        if self._key is None or is_signed(command, self._key):
            self._commands.append((int(records.offsets[row]), command))
            return
        named = [command["model"]] if command["model"] in self._plan.models else self._plan.models
        self._refuse(records, row, named, UNSIGNED, "its signature is missing or wrong; send it with `tidemill command` or through the gateway")

    def _refuse(self, records: Records, row: int, models: Iterable[str], what: str, why: str) -> None:
        """Answer under the record's address: the id it carries belongs to whoever has the key."""
        address = f"{records.topic}:{records.partition}:{records.offsets[row]}"
        offset = int(records.offsets[row])
        self._commands += [(offset, {"command_id": address, "model": model, "command": what, "reason": why, "issued_at": None}) for model in models]

    def _follow(self, released: Released) -> "_Told":
        told, topics = _Told(self._actions), self._plan.topics
        for run in released.runs():
            told.decide(self._policy.advance(run.payload["journal_time"] - 1))
            if run.topic == topics.found_incidents:
                if run.payload["status"] == "resolved":
                    self._policy.resolved(run.payload["model"], self._actions.causes(run.payload))
                told.incidents.append(self._actions.incident(run.payload))
            else:
                told.decide(self._stages.trial(run.payload) if run.topic == topics.trials else self._policy.finding(run.payload))
        return told

    def _obey(self) -> list[dict[str, Any]]:
        """Follow commands in their order, up to one that asks for a training before there is any journal time to date it by."""
        said = []
        while self._commands and not (self.coverage.time_ms <= 0 and self._commands[0][1]["command"] == "retrain"):
            said += self._policy.command(self._commands.pop(0)[1], max(self.coverage.time_ms, 0))
        return said

    def _timed(self) -> list[dict[str, Any]]:
        """Follow windows of scoring times: like commands they count when they are read, and are dated by what is covered."""
        said: list[dict[str, Any]] = []
        for window in self._windows:
            challenger = window["model"], window["challenger_version"], window["challenger_sequence"]
            at = JournalPlace(max(self.coverage.time_ms, 0))
            decisions = self._times.take(window, at, decides=not self._stages.has_decided(*challenger))
            if decisions:
                self._stages.sent_back(*challenger)
            said += decisions
        self._windows.clear()
        return said

    def _emissions(self, told: "_Told") -> list[Emission]:
        said, topics = told.decisions, self._plan.topics
        decisions = [self._decision.encode({"sequence": number, **record}) for number, record in enumerate(said, self._decided)]
        self._decided += len(said)
        marked = [record for record in said if record["action"] == "train" and record["verdict"] == "requested"]
        marks = [self._flush_mark.encode({"journal_time": record["journal_time"], "cause": record["decision_id"]}) for record in marked]
        incidents = [self._incident.encode(record) for record in told.incidents]
        written = ((topics.decisions, said, decisions), (topics.flush_marks, marked, marks), (topics.incidents, told.incidents, incidents))
        return [Emission(topic, 0, [record["model"].encode() for record in records], values) for topic, records, values in written if values]

    def _positions(self) -> dict[TopicPartition, int]:
        commands = TopicPartition(self._plan.topics.commands, 0)
        read = {**self._read, commands: self._commands[0][0]} if self._commands else self._read
        return {**self.merge.positions(), **{place: offset for place, offset in read.items() if offset}}


@dataclass(slots=True)
class _Told:
    """What a step says: decisions, and records of incidents, which each decision may concern."""

    actions: IncidentActions
    decisions: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)

    def decide(self, decisions: Sequence[dict[str, Any]]) -> None:
        """Add decisions, and what is to be said of incidents that last."""
        self.decisions += decisions
        for one in decisions:
            self.incidents += self.actions.decided(one)
