"""The gateway's way to what drift tells people: Kafka and the registry, reached when somebody asks."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker, TopicRemadeError
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.runner.topic_identity import TopicIdentities

_KEPT = 5_000
Record = Mapping[str, Any]


class NewestRecords:
    """The newest record of every key of one partition of a topic; each look reads on from where the last one ended.

    Parameters
    ----------
    key
        Of a record.
    kept
        Keys that are kept, those whose newest record is newest.
    reach
        How many offsets before the end are read at most: what came before is never known. None: all.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        codec: RecordCodec,
        key: Callable[[Record], object],
        kept: int = _KEPT,
        *,
        partition: int = 0,
        reach: int | None = None,
    ) -> None:
        self._broker, self._place, self._codec, self._key, self._kept = broker, TopicPartition(topic, partition), codec, key, kept
        self._reach = reach
        self._begin()

    def _begin(self) -> None:
        """Know nothing of the topic: it is read from its first record on."""
        self._position = 0
        self._records: OrderedDict[object, Record] = OrderedDict()
        self._identity = TopicIdentities(self._broker, [self._place.topic], 0.0, time.monotonic)

    def _look(self) -> None:
        """Begin anew when the topic is another one under the same name, as its id says: its log may have grown to where the old one was read."""
        try:
            self._identity.look()
        except TopicRemadeError:
            self._begin()
            self._identity.look()

    def read(self) -> Sequence[Record]:
        """Read to the end of the topic and return what is kept, the newest last."""
        self._look()
        reader = self._broker.reader()
        try:
            end = reader.watermarks(self._place)[1]
            if end < self._position:
                # Deleted and made anew, and the broker is too old for ids or did not give them in time.
                self._begin()
            if self._reach is not None:
                self._position = max(self._position, end - self._reach)
            for records in reader.read(self._place, self._position, end) if end > self._position else ():
                for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                    self._position = offset + 1
                    if value is not None:
                        self._take(self._codec.decode(value))
            self._position = max(self._position, end)
        finally:
            reader.close()
        return list(self._records.values())

    def _take(self, record: Record) -> None:
        key = self._key(record)
        self._records[key] = record
        self._records.move_to_end(key)
        while len(self._records) > self._kept:
            self._records.popitem(last=False)


class KafkaDriftDesk:
    """`DriftDesk` of the gateway; its topics are made if they are not there, and reached when somebody asks for the first time."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        self._plan, self._broker, self._registry = plan, broker, registry
        self._books: dict[str, NewestRecords] = {}

    def incidents(self) -> Sequence[Record]:
        """Return the newest record of each incident, the newest last."""
        return self._book(self._plan.topics.incidents, "incident", lambda one: one["incident_id"]).read()

    def findings(self) -> Sequence[Record]:
        """Return the newest finding of each model, kind, subject and slice, the newest last."""
        names = ("model", "kind", "subject", "slice")
        return self._book(self._plan.topics.drift, "drift", lambda one: tuple(one[name] for name in names)).read()

    def _book(self, topic: str, message: str, key: Callable[[Record], object]) -> NewestRecords:
        if topic not in self._books:
            application = self._plan.application
            self._broker.create_topics([spec for spec in catalogue_topics(application.app, application.partitions) if spec.name == topic])
            self._books[topic] = NewestRecords(self._broker, topic, message_codec(self._registry, topic, message), key)
        return self._books[topic]
