"""Control on the topics around it, step by step, with its state as the checkpoint topic would hold it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.services.drift.stream import shop
from tidemill.runs.watch import record_codec
from tidemill.services.control.task import ControlTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.log.records import Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.task import StepContext

DAY = 86_400_000
KEY = b"the key of the control plane"
CONTEXT = StepContext(now_ms=0)
_SCHEMAS = Path(__file__).parents[4] / "schemas"


def example_of(message: str) -> dict[str, Any]:
    """The example that lies beside a message's schema."""
    example: dict[str, Any] = json.loads((_SCHEMAS / "examples" / f"{message}.json").read_text(encoding="utf-8"))[0]
    return example


class ControlWorld:
    """The topics around control, and its state as the checkpoint topic would hold it."""

    def __init__(self, folder: Path) -> None:
        self.plan: Plan = shop(folder)
        self.registry = MemorySchemaRegistry()
        topics = self.plan.topics
        names = {topics.drift: "Drift", topics.progress("drift"): "Progress", topics.commands: "Command", topics.decisions: "Decision"}
        names |= {topics.found_incidents: "Incident", topics.incidents: "Incident", topics.trials: "Trial"}
        names |= {topics.retraining: "Retraining", topics.deployments: "Deployment"}
        self.codecs = {topic: record_codec(self.registry, topic, name) for topic, name in names.items()}
        self.codecs[topics.scoring_times] = message_codec(self.registry, topics.scoring_times, "scoring-time")
        self.marks: list[int] = []
        self.topics: dict[str, list[bytes]] = {topic: [] for topic in self.codecs}
        self.state: dict[bytes, bytes | None] = {}
        self.last = Step([], {}, ControlTask(self.plan, self.registry).coverage)
        self.start()

    def start(self) -> None:
        self.task = ControlTask(self.plan, self.registry, KEY)
        own = (self.plan.topics.decisions, self.plan.topics.incidents)
        self.read = {topic: self.last.positions.get(TopicPartition(topic, 0), 0) for topic in self.topics if topic not in own}

    def restart(self) -> None:
        self.start()
        self.task.restore([StateEntry(key, value) for key, value in self.state.items()])
        self.task.resume(
            self.last.positions,
            {self.plan.topics.decisions: len(self.topics[self.plan.topics.decisions])},
            self.last.coverage.offset,
            self.last.coverage.time_ms,
        )

    def find(self, number: int, time: int) -> None:
        record = {
            "drift_id": f"d{number}", "model": "sent_back", "kind": "loss", "subject": "loss", "detector": "adwin", "severity": "alarm",
            "journal_partition": 0, "journal_offset": number, "journal_time": time, "statistic": 1.0, "threshold": 0.1, "detail": "worse",
            "evidence": {},
        }  # fmt: skip
        self.topics[self.plan.topics.drift].append(self.codecs[self.plan.topics.drift].encode(record))
        self.cover(time + 1)

    def incident(self, status: str, drift_ids: list[str], time: int) -> None:
        """What drift says after the findings of an instant."""
        example = example_of("incident")
        change = {"open": "opened", "ongoing": "joined", "resolved": "resolved"}[status]
        record = {**example, "model": "sent_back", "status": status, "change": change, "drift_ids": drift_ids, "action": "", "decisions": []}
        self.append(self.plan.topics.found_incidents, {**record, "journal_partition": 0, "journal_offset": len(drift_ids), "journal_time": time})
        self.cover(time + 1)

    def append(self, topic: str, record: dict[str, Any]) -> None:
        self.topics[topic].append(self.codecs[topic].encode(record))

    def cover(self, time: int) -> None:
        topic = self.plan.topics.progress("drift")
        said = {name: len(self.topics[name]) for name in (self.plan.topics.drift, self.plan.topics.found_incidents)}
        self.topics[topic].append(Progress("drift", 0, covered_time=time, outputs=said).encode(self.codecs[topic]))

    def order(self, name: str, command: str) -> None:
        topic = self.plan.topics.commands
        record = signed_command(KEY, "sent_back", command, "because", name, issued_at=0)
        self.topics[topic].append(self.codecs[topic].encode(record))

    def step(self) -> list[dict[str, Any]]:
        inputs = []
        for topic, begin in self.read.items():
            values = self.topics[topic][begin:]
            if values:
                inputs.append(Records(topic, 0, np.arange(begin, begin + len(values)), np.zeros(len(values), np.int64), [b""] * len(values), values))
            self.read[topic] = len(self.topics[topic])
        self.last = self.task.process(inputs, CONTEXT)
        checkpoint = self.task.checkpoint(0)
        assert {**self.last.positions, **checkpoint.marker} == self.last.positions, "nothing is left to replay"
        self.state.update({entry.key: entry.value for entry in checkpoint.entries})
        topic = self.plan.topics.decisions
        said = [value or b"" for emission in self.last.emissions if emission.topic == topic for value in emission.values]
        self.topics[topic] += said
        incidents = self.plan.topics.incidents
        self.topics[incidents] += [value or b"" for emission in self.last.emissions if emission.topic == incidents for value in emission.values]
        self.marks += [mark["journal_time"] for mark in self.flush_marks()]
        return [self.codecs[topic].decode(value) for value in said]

    def flush_marks(self) -> list[dict[str, Any]]:
        topic = self.plan.topics.flush_marks
        codec = RecordCodec(self.registry, f"{topic}-tidemill.FlushMark", (_SCHEMAS / "flush-mark.avsc").read_text())
        return [codec.decode(value or b"") for emission in self.last.emissions if emission.topic == topic for value in emission.values]
