"""Reads an application's topics as they grow: how far every stage has come, what was decided, how well it serves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.application.plan import Plan
from shared.application.topics import STAGES
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.streaming.broker import Broker
from shared.streaming.progress import Progress
from shared.streaming.records import TopicPartition

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

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        topics = plan.topics
        self._reader = broker.reader()
        self._partitions = plan.application.partitions
        self.seen = Seen()
        lists = {
            topics.drift: ("Drift", self.seen.drift),
            topics.health: ("Health", self.seen.health),
            topics.retraining: ("Retraining", self.seen.retraining),
            topics.deployments: ("Deployment", self.seen.deployments),
        }
        self._lists = {topic: (record_codec(registry, topic, name), found) for topic, (name, found) in lists.items()}
        self._stages = {topics.progress(stage): record_codec(registry, topics.progress(stage), "Progress") for stage in STAGES}
        self._positions = {TopicPartition(topic, 0): 0 for topic in self._lists}
        for topic in self._stages:
            self._positions.update({TopicPartition(topic, partition): 0 for partition in range(self._partitions)})

    def poll(self) -> Seen:
        """Read on."""
        for address, position in self._positions.items():
            for records in self._reader.read(address, position, None):
                self._positions[address] = int(records.offsets[-1]) + 1
                self._take(address, [value for value in records.values if value is not None])
        return self.seen

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def _take(self, address: TopicPartition, values: list[bytes]) -> None:
        if address.topic in self._stages:
            if values:
                progress = Progress.decode(values[-1], self._stages[address.topic])
                self.seen.progress[(progress.stage, progress.partition)] = progress
            return
        codec, found = self._lists[address.topic]
        found += [codec.decode(value) for value in values]
