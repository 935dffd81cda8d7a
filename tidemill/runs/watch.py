"""Reads an application's topics as they grow: how far every stage has come, what was decided, how well it serves."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Address

from tidemill.runs.kafka_clients import client_settings, end_of
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.topics import STAGES, Topics
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.observability.settings import KafkaSettings
from tidemill.shared.runner.progress import Progress

_SCHEMAS = Path(__file__).parents[1] / "schemas"
_LONGEST_DETAIL = 300
# Nobody waits, and what goes wrong with the broker is the services' to say.
_RELAXED = {"fetch.wait.max.ms": 500, "fetch.min.bytes": 1_000_000, "log_level": 2}


def record_codec(registry: SchemaRegistry, topic: str, name: str) -> RecordCodec:
    """Return the codec of one of the project's records."""
    return RecordCodec(registry, f"{topic}-tidemill.{name}", (_SCHEMAS / f"{name.lower()}.avsc").read_text(encoding="utf-8"))


Refusal = tuple[str, str, str]


@dataclass(slots=True)
class RunState:
    """What the topics say so far.

    Attributes
    ----------
    rejected, examples
        Dead letters by (stage, source topic, reason) since the watch began, and the first of each: where it is, what was expected, what came.
    """

    progress: dict[tuple[str, int], Progress] = field(default_factory=dict)
    drift: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    retraining: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    rejected: Counter[Refusal] = field(default_factory=Counter)
    examples: dict[Refusal, str] = field(default_factory=dict)

    def lists(self, topics: Topics, registry: SchemaRegistry) -> dict[str, tuple[RecordCodec, list[dict[str, Any]]]]:
        """Return what decodes each topic whose records are kept, and the list that takes them."""
        kept = {
            topics.drift: ("Drift", self.drift),
            topics.incidents: ("Incident", self.incidents),
            topics.health: ("Health", self.health),
            topics.decisions: ("Decision", self.decisions),
            topics.retraining: ("Retraining", self.retraining),
            topics.deployments: ("Deployment", self.deployments),
        }
        return {topic: (record_codec(registry, topic, name), rows) for topic, (name, rows) in kept.items()}

    def refuse(self, letter: Mapping[str, Any]) -> None:
        """Count a dead letter."""
        kind = letter["stage"], letter["source_topic"], letter["reason"]
        self.rejected[kind] += 1
        if kind not in self.examples:
            place = f"{letter['source_topic']}[{letter['source_partition']}] offset {letter['source_offset']}"
            self.examples[kind] = f"{place}: {letter['detail'].splitlines()[0][:_LONGEST_DETAIL] if letter['detail'] else 'no detail'}"

    def newest_incidents(self) -> list[dict[str, Any]]:
        """Return what was said last of each incident, in the order in which they were opened."""
        return list({record["incident_id"]: record for record in self.incidents}.values())

    def count(self, records: Iterable[Mapping[str, Any]], event: str) -> int:
        """Return how many lifecycle records are of a kind."""
        return sum(record["event"] == event for record in records)

    def happenings(self) -> dict[str, int]:
        """Count what drift, control and the trainings have said, by the names that reports give to it."""
        incidents = self.newest_incidents()
        return {
            "drift_events": len(self.drift),
            "incidents": len(incidents),
            "incident_alarms": sum(one["severity"] == "alarm" for one in incidents),
            "retrains": self.count(self.retraining, "started"),
            "trainings_failed": self.count(self.retraining, "failed"),
            "promotions": self.count(self.deployments, "promoted"),
            "refusals": self.count(self.deployments, "gate_refused"),
            "rollbacks": self.count(self.deployments, "rolled_back"),
        }

    def covered_ms(self, stage: str, partitions: int) -> int:
        """Return the journal time that a stage has covered in all its partitions; -1 before its first commit."""
        times = [progress.covered_time for (name, _), progress in self.progress.items() if name == stage]
        needed = 1 if stage in ("drift", "control", "retraining") else partitions
        return min(times) if len(times) >= needed else -1

    def has_begun(self, stage: str) -> bool:
        """Whether a stage has worked on anything."""
        return any(name == stage and progress.covered_time > 0 for (name, _), progress in self.progress.items())

    def produced(self, stage: str, topic: str) -> int:
        """Return how many records a stage has written to a topic."""
        return sum(progress.outputs.get(topic, 0) for (name, _), progress in self.progress.items() if name == stage)


class Watch:
    """Follows progress, drift, health, decisions, trainings and deployments, and dead letters from now on; `poll` reads what is new.

    Parameters
    ----------
    hurry
        Whether somebody waits for what is read; else it is fetched a few times a second only.
    """

    def __init__(self, plan: Plan, kafka: KafkaSettings, registry: SchemaRegistry, *, hurry: bool = True) -> None:
        topics = plan.topics
        self.seen = RunState()
        self._lists = self.seen.lists(topics, registry)
        self._stages = {topics.progress(stage): record_codec(registry, topics.progress(stage), "Progress") for stage in STAGES}
        self._rejected = topics.rejected
        self._dead_letters = record_codec(registry, topics.rejected, "Rejected")
        special = {
            "group.id": "tidemill-watch",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            **({"fetch.wait.max.ms": 50, "fetch.queue.backoff.ms": 5} if hurry else _RELAXED),
        }
        self._consumer = Consumer(client_settings(kafka, special))
        partitions = range(plan.application.partitions)
        addresses = [(topic, 0) for topic in self._lists] + [(topic, partition) for topic in self._stages for partition in partitions]
        ends = [Address(topics.rejected, partition, end_of(self._consumer, kafka, topics.rejected, partition)) for partition in partitions]
        self._consumer.assign([*(Address(topic, partition, 0) for topic, partition in addresses), *ends])

    def poll(self, timeout_s: float = 0.02) -> RunState:
        """Read what is there, or wait for it a little."""
        self.read(timeout_s)
        return self.seen

    def read(self, timeout_s: float) -> int:
        """Read what is there, or wait for it a little; returns how many records came."""
        latest: dict[tuple[str, int], bytes] = {}
        messages = self._consumer.consume(2_000, timeout_s)
        for message in messages:
            error, topic, partition, value = message.error(), message.topic(), message.partition(), message.value()
            if error is not None and not error.retriable():
                raise RuntimeError(f"{topic}: {error.str()}")
            if error is not None or value is None or topic is None or partition is None:
                continue
            if topic == self._rejected:
                self.seen.refuse(self._dead_letters.decode(value))
            elif topic in self._stages:
                latest[(topic, partition)] = value
            else:
                codec, rows = self._lists[topic]
                rows.append(codec.decode(value))
        for (topic, _), value in latest.items():
            progress = Progress.decode(value, self._stages[topic])
            self.seen.progress[(progress.stage, progress.partition)] = progress
        return len(messages)

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


def read_out(watch: Watch, limit_s: float = 10.0) -> RunState:
    """Read until nothing comes any more: the summary of a run must not miss its last dead letters."""
    deadline = time.monotonic() + limit_s
    while watch.read(0.3) and time.monotonic() < deadline:
        pass
    return watch.seen
