"""Control as a task: findings, trials and commands in; decisions out, and for each training it asks for a mark for the archive."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tidemill.services.control.domain.policy import UNREADABLE, UNSIGNED, Policy, RetrainingPolicy
from tidemill.services.control.domain.stages import StagePolicy, StageWatch
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
_VERSION = "control-4"
_STATE, _MERGE, _TRIALS = b"policy", b"merge", b"trials"


def task_inputs(plan: Plan) -> TaskInputs:
    """Findings and trials, how far they are complete, and operators' commands."""
    topics = plan.topics
    read = (topics.drift, topics.trials, topics.progress(_UPSTREAM), topics.commands)
    return TaskInputs(read, gathered=True, sole_outputs=(topics.decisions, topics.flush_marks))


def stage_policy(model: ModelPlan) -> StagePolicy:
    """Return what a model's challengers have to show: the margins and the level of its gate."""
    gate = model.settings.gate
    return StagePolicy(model.name, model.kind.name, model.settings.stages, *gate.margins(model.kind.name), gate.alpha, gate.fairness)


class ControlTask(MergingTask):
    """The one task of the stage.

    Findings are followed in journal order up to what drift has covered; schedules run on that journal time. A command takes effect at the
    journal time it is read at; one for a training waits until there is any. How it fell between the findings is written nowhere but in the
    state, so the state (it is small) goes out with every step that changes it and nothing is ever replayed.

    Parameters
    ----------
    key
        Commands that are not signed with it are answered and not obeyed. None obeys everybody: for simulations without operators.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, key: bytes | None = None) -> None:
        topics = plan.topics
        told = topics.progress(_UPSTREAM)
        merged = [MergeInput(topic, rank, (0,), _UPSTREAM, gathered=True) for rank, topic in enumerate((topics.drift, topics.trials))]
        super().__init__(merged, {told: message_codec(registry, told, "progress")})
        self._plan = plan
        self._key = key
        policies = [
            Policy(model.name, own.cool_down, own.schedule, own.budget_per_30d)
            for model, own in ((model, model.settings.retraining) for model in plan.models.values())
        ]
        self._policy = RetrainingPolicy(policies)
        self._stages = StageWatch([stage_policy(model) for model in plan.models.values()])
        self._codecs = {topics.drift: message_codec(registry, topics.drift, "drift", LONGEST_TEXT)}
        self._codecs[topics.trials] = message_codec(registry, topics.trials, "trial", LONGEST_TEXT)
        self._command = message_codec(registry, topics.commands, "command", LONGEST_TEXT)
        self._decision = message_codec(registry, topics.decisions, "decision", LONGEST_TEXT)
        self._flush_mark = message_codec(registry, topics.flush_marks, "flush-mark", LONGEST_TEXT)
        self._decided = 0
        self._commands_read = 0
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
        if _MERGE in self._written:
            self.merge.restore(self._written[_MERGE])

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        """Stand where the last progress record stood."""
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        self._commands_read = positions.get(TopicPartition(self._plan.topics.commands, 0), 0)
        self._decided = outputs.get(self._plan.topics.decisions, 0)

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        """Decide what the findings, the calendar and the commands ask for."""
        self.finish_replay()
        self.read(inputs)
        said = self._follow(self.merge.release())
        self.cover()
        # Of the instant itself something may still come, so a schedule waits until it has passed.
        said += self._policy.advance(self.coverage.time_ms - 1)
        said += self._obey()
        return Step(self._emissions(said), self._positions(), self.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        """Write what has changed: it is small."""
        self.finish_replay()
        state = {_STATE: json.dumps(self._policy.snapshot()).encode(), _MERGE: self.merge.state()}
        if trials := self._stages.snapshot():
            state[_TRIALS] = json.dumps(trials).encode()
        changed = [StateEntry(key, value) for key, value in state.items() if self._written.get(key) != value]
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
        self._follow(released)
        self._policy.advance(self.coverage.time_ms - 1)
        self._obey()

    def cover(self) -> None:
        """Let the coverage grow: findings come from all partitions, so it is one of time only."""
        covered = self.merge.coverage()
        if covered.time_ms > self.coverage.time_ms:
            self.coverage = Coverage(0, covered.time_ms)

    def take(self, records: Records) -> None:
        """Add findings and trials, or hear commands."""
        is_command = records.topic == self._plan.topics.commands
        for row, value in enumerate(records.values):
            if value is None:
                continue
            if is_command:
                self._hear(records, row, value)
                continue
            finding = self._codecs[records.topic].decode(value)
            self.merge.add(
                records.topic,
                records.partition,
                offsets=records.offsets[row : row + 1],
                journal_time=np.array([finding["journal_time"]]),
                journal_partition=finding["journal_partition"],
                journal_offset=np.array([finding["journal_offset"]]),
                payload=finding,
            )
        if is_command:
            self._commands_read = int(records.offsets[-1]) + 1

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

    def _follow(self, released: Released) -> list[dict[str, Any]]:
        said = []
        for run in released.runs():
            said += self._policy.advance(run.payload["journal_time"] - 1)
            said += self._stages.trial(run.payload) if run.topic == self._plan.topics.trials else self._policy.finding(run.payload)
        return said

    def _obey(self) -> list[dict[str, Any]]:
        """Follow commands in their order, up to one that asks for a training before there is any journal time to date it by."""
        said = []
        while self._commands and not (self.coverage.time_ms <= 0 and self._commands[0][1]["command"] == "retrain"):
            said += self._policy.command(self._commands.pop(0)[1], max(self.coverage.time_ms, 0))
        return said

    def _emissions(self, said: Sequence[dict[str, Any]]) -> list[Emission]:
        decisions = [self._decision.encode({"sequence": number, **record}) for number, record in enumerate(said, self._decided)]
        self._decided += len(said)
        marked = [record for record in said if record["action"] == "train" and record["verdict"] == "requested"]
        marks = [self._flush_mark.encode({"journal_time": record["journal_time"], "cause": record["decision_id"]}) for record in marked]
        written = ((self._plan.topics.decisions, said, decisions), (self._plan.topics.flush_marks, marked, marks))
        return [Emission(topic, 0, [record["model"].encode() for record in records], values) for topic, records, values in written if values]

    def _positions(self) -> dict[TopicPartition, int]:
        positions = self.merge.positions()
        read = self._commands[0][0] if self._commands else self._commands_read
        return {**positions, TopicPartition(self._plan.topics.commands, 0): read} if read else positions
