"""Reads an application's topics as they grow: how far every stage has come, what was decided, how well it serves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Address

from services.cli.kafka_clients import client_settings
from shared.application.plan import Plan
from shared.application.topics import STAGES
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.observability.settings import KafkaSettings
from shared.streaming.progress import Progress

_SCHEMAS = Path(__file__).parents[2] / "schemas"


def record_codec(registry: SchemaRegistry, topic: str, name: str) -> RecordCodec:
    """Return the codec of one of the project's records."""
    return RecordCodec(registry, f"{topic}-tidemill.{name}", (_SCHEMAS / f"{name.lower()}.avsc").read_text(encoding="utf-8"))


@dataclass(slots=True)
class Seen:
    """What the topics say so far."""

    progress: dict[tuple[str, int], Progress] = field(default_factory=dict)
    drift: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    retraining: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)

    def count(self, records: Iterable[Mapping[str, Any]], event: str) -> int:
        """Return how many lifecycle records are of a kind."""
        return sum(record["event"] == event for record in records)

    def covered_ms(self, stage: str, partitions: int) -> int:
        """Return the journal time that a stage has covered in all its partitions; -1 before its first commit."""
        found = [progress.covered_time for (name, _), progress in self.progress.items() if name == stage]
        needed = 1 if stage in ("drift", "control", "retraining") else partitions
        return min(found) if len(found) >= needed else -1

    def produced(self, stage: str, topic: str) -> int:
        """Return how many records a stage has written to a topic."""
        return sum(progress.outputs.get(topic, 0) for (name, _), progress in self.progress.items() if name == stage)


class Watch:
    """Follows progress, drift, health, retraining and deployments; `poll` reads what is new."""

    def __init__(self, plan: Plan, kafka: KafkaSettings, registry: SchemaRegistry) -> None:
        topics = plan.topics
        self.seen = Seen()
        lists = {
            topics.drift: ("Drift", self.seen.drift),
            topics.health: ("Health", self.seen.health),
            topics.retraining: ("Retraining", self.seen.retraining),
            topics.deployments: ("Deployment", self.seen.deployments),
        }
        self._lists = {topic: (record_codec(registry, topic, name), found) for topic, (name, found) in lists.items()}
        self._stages = {topics.progress(stage): record_codec(registry, topics.progress(stage), "Progress") for stage in STAGES}
        special = {
            "group.id": "tidemill-watch",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 5,
        }
        self._consumer = Consumer(client_settings(kafka, special))
        partitions = range(plan.application.partitions)
        addresses = [(topic, 0) for topic in self._lists] + [(topic, partition) for topic in self._stages for partition in partitions]
        self._consumer.assign([Address(topic, partition, 0) for topic, partition in addresses])

    def poll(self, timeout_s: float = 0.02) -> Seen:
        """Read what is there, or wait for it a little."""
        latest: dict[tuple[str, int], bytes] = {}
        for message in self._consumer.consume(2_000, timeout_s):
            error, topic, partition, value = message.error(), message.topic(), message.partition(), message.value()
            if error is not None and not error.retriable():
                raise RuntimeError(f"{topic}: {error.str()}")
            if error is not None or value is None or topic is None or partition is None:
                continue
            if topic in self._stages:
                latest[(topic, partition)] = value
            else:
                codec, found = self._lists[topic]
                found.append(codec.decode(value))
        for (topic, _), value in latest.items():
            progress = Progress.decode(value, self._stages[topic])
            self.seen.progress[(progress.stage, progress.partition)] = progress
        return self.seen

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
