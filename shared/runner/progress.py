"""How far one task has come: the record every commit writes beside its outputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tidemill.shared.log.flood import Refusals
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.records import Coverage, TopicPartition
from tidemill.shared.runner.written import LastOutputs

T = TypeVar("T")


class RecordCodecPort(Protocol):
    """Turns one low-rate record into wire format and back (`tidemill.shared.avro.records.RecordCodec`)."""

    def encode(self, record: dict[str, Any]) -> bytes:
        """Wire format of a record."""
        ...

    def decode(self, value: bytes) -> dict[str, Any]:
        """Record of a wire format value."""
        ...


def progress_topic(app: str, stage: str) -> str:
    """Name of a stage's progress topic; partition p belongs to task p."""
    return f"{app}-{stage}-progress"


def checkpoint_topic(app: str, stage: str) -> str:
    """Name of a stage's checkpoint topic; partition p belongs to task p."""
    return f"{app}-{stage}-checkpoint"


@dataclass(frozen=True, slots=True)
class Progress:
    """`tidemill.Progress`: watermark for merges downstream, conservation count, and cross-check of the group's offsets.

    Attributes
    ----------
    input_offsets, checkpoint_marker
        By topic partition.
    covered_time
        Milliseconds.
    outputs
        Records this task has produced so far, by topic.
    group
        Consumer group whose offsets are in the same transaction; another stage's when that one leads the process.
    refusals
        How many of the last input records became dead letters, of a task that does not tell its inputs apart.
    flows
        By input topic: what of it became dead letters, and whether it is paused.
    writer
        Transactional id of the process.
    written
        By topic partition: outputs of the last transaction that wrote there.
    topic_ids
        By topic: the id of the one that was read or written, see `tidemill.shared.runner.topic_identity`.
    """

    stage: str
    partition: int
    instance: str = ""
    sequence: int = 0
    input_offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    covered_offset: int = 0
    covered_time: int = -1
    outputs: Mapping[str, int] = field(default_factory=dict)
    checkpoint_marker: Mapping[TopicPartition, int] = field(default_factory=dict)
    deployment_sequence: int = -1
    versions: Mapping[str, str] = field(default_factory=dict)
    quarantined: frozenset[tuple[str, int, int]] = frozenset()
    group: str = ""
    refusals: Refusals = field(default_factory=Refusals)
    flows: Mapping[str, Flow] = field(default_factory=dict)
    writer: str = ""
    written: Mapping[TopicPartition, LastOutputs] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def coverage(self) -> Coverage:
        """Journal coordinates covered."""
        return Coverage(self.covered_offset, self.covered_time)

    @property
    def paused(self) -> frozenset[str]:
        """Input topics that are paused."""
        return frozenset(topic for topic, flow in self.flows.items() if flow.is_paused)

    @property
    def flooded(self) -> bool:
        """Whether input is a flood that is worked off in short steps."""
        return self.refusals.flooded or any(flow.throttled for flow in self.flows.values())

    @property
    def key(self) -> bytes:
        """Record key: the partition number as text."""
        return str(self.partition).encode()

    def encode(self, codec: RecordCodecPort) -> bytes:
        """Wire format."""
        return codec.encode(
            {
                "stage": self.stage,
                "partition": self.partition,
                "instance": self.instance,
                "sequence": self.sequence,
                "input_offsets": _to_text(self.input_offsets),
                "covered_offset": self.covered_offset,
                "covered_time": self.covered_time,
                "outputs": dict(self.outputs),
                "checkpoint_marker": _to_text(self.checkpoint_marker),
                "deployment_sequence": self.deployment_sequence,
                "versions": dict(self.versions),
                "quarantined": [f"{topic}:{partition}:{offset}" for topic, partition, offset in sorted(self.quarantined)],
                "group": self.group,
                "refusals": self.refusals.to_list(),
                "flows": {topic: flow.to_record() for topic, flow in sorted(self.flows.items())},
                "writer": self.writer,
                "written": {f"{topic}:{number}": one.to_list() for (topic, number), one in self.written.items()},
                "topic_ids": dict(self.topic_ids),
            }
        )

    @classmethod
    def decode(cls, value: bytes, codec: RecordCodecPort) -> "Progress":
        """Progress of a wire format value."""
        record = codec.decode(value)
        return cls(
            stage=record["stage"],
            partition=record["partition"],
            instance=record["instance"],
            sequence=record["sequence"],
            input_offsets=_from_text(record["input_offsets"]),
            covered_offset=record["covered_offset"],
            covered_time=_milliseconds(record["covered_time"]),
            outputs=record["outputs"],
            checkpoint_marker=_from_text(record["checkpoint_marker"]),
            deployment_sequence=record["deployment_sequence"],
            versions=record["versions"],
            quarantined=frozenset(_coordinates(record["quarantined"])),
            group=record["group"],
            refusals=Refusals.of_list(record["refusals"]),
            flows={topic: Flow.of_record(flow) for topic, flow in record["flows"].items()},
            writer=record["writer"],
            written={place: LastOutputs.of_list(numbers) for place, numbers in _from_text(record["written"]).items()},
            topic_ids=record["topic_ids"],
        )


def _to_text(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    return {f"{topic}:{partition}": offset for (topic, partition), offset in sorted(offsets.items())}


def _from_text(offsets: Mapping[str, T]) -> dict[TopicPartition, T]:
    parsed = {}
    for address, offset in offsets.items():
        topic, _, partition = address.rpartition(":")
        parsed[TopicPartition(topic, int(partition))] = offset
    return parsed


def _coordinates(texts: Iterable[str]) -> Iterable[tuple[str, int, int]]:
    for text in texts:
        topic, partition, offset = text.rsplit(":", 2)
        yield topic, int(partition), int(offset)


def _milliseconds(time: Any) -> int:
    # fastavro turns timestamp-millis into datetimes unless the codec reads them as plain longs.
    if isinstance(time, int):
        return time
    return round(float(time.timestamp()) * 1000)
