"""What an audit reads of a run: journal, vectors, predictions, shadow scores, deployments, in portions."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tidemill.runs.watch import record_codec
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.progress import Progress, checkpoint_topic
from tidemill.shared.runner.quarantine import Quarantined, verdicts_in


class RunLog(Protocol):
    """The topics of a run, each partition in its order."""

    def journal(self, partition: int) -> Iterator[Records]:
        """Return the journal in portions."""
        ...

    def vectors(self, partition: int) -> Iterator[Records]:
        """Return the vectors in portions."""
        ...

    def predictions(self, partition: int) -> Iterator[Records]:
        """Return the predictions in portions."""
        ...

    def shadow_scores(self, partition: int) -> Iterator[Records]:
        """Return the shadow scores in portions."""
        ...

    def deployments(self) -> Sequence[dict[str, Any]]:
        """Return the whole lifecycle log."""
        ...

    def revisions(self) -> Sequence[dict[str, Any]]:
        """Return every revision of what serves."""
        ...


class TopicLog:
    """A run that is read from its broker as it is needed: memory does not grow with its length."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        self._plan = plan
        self._broker = broker
        self._registry = registry

    def journal(self, partition: int) -> Iterator[Records]:
        """Return the journal in portions."""
        return self._read(self._plan.topics.journal, partition)

    def vectors(self, partition: int) -> Iterator[Records]:
        """Return the vectors in portions."""
        return self._read(self._plan.topics.vectors, partition)

    def predictions(self, partition: int) -> Iterator[Records]:
        """Return the predictions in portions."""
        return self._read(self._plan.topics.predictions, partition)

    def shadow_scores(self, partition: int) -> Iterator[Records]:
        """Return the shadow scores in portions; none of a run from before there were any."""
        topic = self._plan.topics.shadow_scores
        return self._read(topic, partition) if self._broker.partitions(topic) else iter(())

    def ingestion(self, partition: int) -> Iterator[Records]:
        """Return what ingestion told of the streams' schemas and ends, none of a run from before it did, and how far it came."""
        topics = self._plan.topics
        for topic in (topics.schema_changes, topics.stream_ends, topics.progress("ingestion")):
            yield from self._read(topic, partition) if self._broker.partitions(topic) else iter(())

    def quarantined(self, stage: str, partition: int) -> Quarantined:
        """Every record that a stage has set aside."""
        return verdicts_in(self._read(checkpoint_topic(self._plan.application.app, stage), partition))

    def deployments(self) -> Sequence[dict[str, Any]]:
        """Return the whole lifecycle log."""
        codec = record_codec(self._registry, self._plan.topics.deployments, "Deployment")
        return [codec.decode(value) for records in self._read(self._plan.topics.deployments, 0) for value in records.values if value is not None]

    def revisions(self) -> Sequence[dict[str, Any]]:
        """Return every revision of what serves; none of a run from before there were any."""
        topic = self._plan.topics.revisions
        if not self._broker.partitions(topic):
            return []
        codec = record_codec(self._registry, topic, "Revision")
        return [codec.decode(value) for records in self._read(topic, 0) for value in records.values if value is not None]

    def view_switches(self, partition: int) -> Sequence[dict[str, Any]]:
        """Return the marks of a partition where features began to follow other views or another application, in their order."""
        topic = self._plan.topics.view_switches
        if not self._broker.partitions(topic):
            return []
        codec = message_codec(self._registry, topic, "view-switch")
        return [codec.decode(value) for records in self._read(topic, partition) for value in records.values if value is not None]

    def progress(self, stage: str, partition: int) -> Progress | None:
        """Return how far a stage has come; None before its first commit."""
        topic = self._plan.topics.progress(stage)
        codec = record_codec(self._registry, topic, "Progress")
        last = None
        for records in self._read(topic, partition):
            last = next((value for value in reversed(records.values) if value is not None), last)
        return None if last is None else Progress.decode(last, codec)

    def journal_end(self, partition: int) -> int:
        """Return the end of the journal, records of open transactions included."""
        reader = self._broker.reader()
        try:
            return reader.watermarks(TopicPartition(self._plan.topics.journal, partition))[1]
        finally:
            reader.close()

    def _read(self, topic: str, partition: int) -> Iterator[Records]:
        reader = self._broker.reader()
        try:
            yield from reader.read(TopicPartition(topic, partition), 0, None)
        finally:
            reader.close()


def without(records: Records, offsets: frozenset[int]) -> Records:
    """Return the records but for some offsets."""
    kept = ~np.isin(records.offsets, list(offsets)) if offsets else None
    if kept is None or kept.all():
        return records
    rows = np.flatnonzero(kept)
    return Records(
        records.topic, records.partition, records.offsets[rows], records.timestamps_ms[rows],
        [records.keys[i] for i in rows.tolist()], [records.values[i] for i in rows.tolist()],
    )  # fmt: skip
