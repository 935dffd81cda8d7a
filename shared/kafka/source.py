"""`Source` of `KafkaBroker`: batch consume as a static group member, committed records only, ends of partitions reported."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Address

from tidemill.shared.kafka.bulk_consume import BulkConsume
from tidemill.shared.kafka.client_errors import ClientErrors
from tidemill.shared.kafka.connection import (
    FATAL,
    OFFSET_LOST,
    PARTITION_EOF,
    POLLED_TOO_RARELY,
    Connection,
    KafkaFailureError,
    check,
    to_columns,
)
from tidemill.shared.kafka.static_name import StaticName
from tidemill.shared.log.broker import Assignment, FencedError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.lost_offset import offset_lost
from tidemill.shared.log.records import Records, TopicPartition

log = logging.getLogger(__name__)
_CLOSE_S = 10.0
_LEAVE_S = 1.0
READING = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
}
# Of these the options of the connection have the last word.
PACE = {
    # A fast consumer otherwise sleeps for a second whenever its queue was full.
    "fetch.queue.backoff.ms": 5,
    # With a quarter of a second predictions of the demo came 1.6 times as late.
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 65536,
}


class KafkaSource:
    """Member of a consumer group; made by `KafkaBroker.source`.

    Range assignment gives partition p of all co-partitioned topics to the same member. A rebalance revokes everything (eager);
    a static member that comes back within the session time-out causes none.

    A member that the group fences may have no successor (`StaticName`): where nobody else holds its name, a new client joins under it, which fences
    whatever the old one left under way. The caller hears of it by a TransientError. Until it is known that nobody does, the member has no partitions.

    Parameters
    ----------
    holder
        Returns the member id of who holds a static name in a group, None if nobody does.
    """

    def __init__(self, connection: Connection, group: str, instance: str, session_timeout_ms: int, holder: Callable[[str, str], str | None]) -> None:
        self._connection = connection
        self._group = group
        self._instance = instance
        self._session_timeout_ms = session_timeout_ms
        self._name = StaticName(group, instance, session_timeout_ms / 1_000, holder)
        self._subscribed: list[str] = []
        self._assignment = Assignment()
        self._assigned: set[TopicPartition] = set()
        self._caught_up: set[TopicPartition] = set()
        self._make()

    def _make(self) -> None:
        """Make a client."""
        self._errors = ClientErrors()
        self._known_topics: set[str] = set()
        self._consumer = Consumer(
            self._connection.settings(
                PACE,
                **READING,
                group_id=self._group,
                group_instance_id=self._instance,
                session_timeout_ms=self._session_timeout_ms,
                # A member learns at its next heartbeat that another joins or leaves, and until then nobody has the partitions.
                heartbeat_interval_ms=max(100, self._session_timeout_ms // 20),
                max_poll_interval_ms=max(600_000, self._session_timeout_ms),
                partition_assignment_strategy="range",
                error_cb=self._errors.note,
            )
        )
        self._bulk = BulkConsume.of(self._consumer)

    @property
    def assignment(self) -> Assignment:
        """Latest word of the group."""
        return self._assignment

    @property
    def caught_up(self) -> Set[TopicPartition]:
        """Assigned partitions read to their end."""
        return frozenset(self._caught_up)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group; BrokerUnreachableError when nobody answers."""
        self._connection.call(f"group {self._group} joins", lambda: self._consumer.list_topics(timeout=2.0))
        self._subscribed = list(topics)
        self._subscribe()

    def _subscribe(self) -> None:
        self._consumer.subscribe(self._subscribed, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions."""
        # A client that is given a topic it does not know looks for its leader once a second.
        for topic in {partition.topic for partition in positions} - self._known_topics:
            self._connection.call(f"metadata of {topic}", partial(self._consumer.list_topics, topic, timeout=2.0))
            self._known_topics.add(topic)
        self._assigned = set(positions)
        self._caught_up.clear()
        if self._bulk is not None:
            self._bulk.begin(positions)
        self._consumer.assign([Address(partition.topic, partition.partition, offset) for partition, offset in positions.items()])

    def consume(self, max_records: int, timeout_s: float, linger_s: float = 0.0) -> list[Records]:
        """Take what is there, waiting for it."""
        if self._name.is_contested:
            if self._name.freed(timeout_s):
                self._join_again()
            return []
        try:
            return self._take(max_records, timeout_s, linger_s)
        except FencedError as problem:
            self._note_id()
            free = self._name.may_join(problem)
            self._begin_again()
            if free:
                self._join_again()
            raise TransientError(f"{problem}: {self._name}") from problem

    def _begin_again(self) -> None:
        """Give up the client that was fenced, with what it held, for a new one that has not joined yet."""
        if self._bulk is not None:
            self._bulk.close()
        threading.Thread(target=self._consumer.close, name=f"retired-{self._group}", daemon=True).start()
        self._make()
        self._move(frozenset())

    def _join_again(self) -> None:
        log.warning("fenced without a successor: joins again", extra={"group": self._group, "member": self._instance})
        self._subscribe()

    def _note_id(self) -> None:
        """Remember the id that the coordinator has given out last."""
        if identity := self._consumer.memberid():
            self._name.ids.add(identity)

    def _take(self, max_records: int, timeout_s: float, linger_s: float) -> list[Records]:
        if not self._assignment.partitions:
            self._note_id()
        if self._bulk is None:
            return self._consume(max_records, timeout_s, linger_s)
        # The client's own queue has what is no record. Callbacks run in here; a rebalance may take all partitions away.
        for message in self._consumer.consume(1, 0.0 if self._assigned else timeout_s):
            if not self._is_event(message):
                raise KafkaFailureError(f"group {self._group} reads: a record of {message.topic()} came past the queue that is read")
        self._raise_fatal()
        taken = self._bulk.take(max_records, timeout_s if self._assigned else 0.0, linger_s)
        if not taken.runs and not taken.events:
            self._notice_silence()
            return []
        self._errors.down_since = None
        for event in taken.events:
            self._note_event(event.place, event.offset, event.error)
        for records in taken.runs:
            self._note_read(records)
        return taken.runs

    def _consume(self, max_records: int, timeout_s: float, linger_s: float) -> list[Records]:
        """Take what is there, message by message."""
        messages = self._consumer.consume(1, timeout_s)
        self._raise_fatal()
        if not messages:
            self._notice_silence()
            return []
        if max_records > 1:
            messages += self._consumer.consume(max_records - 1, linger_s)
        self._errors.down_since = None
        if any(map(Message.error, messages)):
            messages = [message for message in messages if not self._is_event(message)]
        taken = to_columns(messages)
        for records in taken:
            self._note_read(records)
        return taken

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Committed offsets; read_committed makes the client wait for those of open transactions."""
        if not partitions:
            return {}
        asked = [Address(partition.topic, partition.partition) for partition in partitions]
        offsets = self._connection.call(f"offsets of group {self._group}", lambda: self._consumer.committed(asked, timeout=5.0))
        for address in offsets:
            if address.error is not None:
                check(f"offsets of group {self._group} for {address.topic}:{address.partition}", address.error)
        return {TopicPartition(address.topic, address.partition): address.offset for address in offsets if address.offset >= 0}

    def membership(self) -> object:
        """Identity and generation."""
        return self._consumer.consumer_group_metadata()

    def leave(self) -> None:
        """Give the partitions to the other members.

        A client that closes as a static member says nothing to its group, which then waits for the session time-out; one that ends its subscription
        does leave. A broker that is away is not waited for: the session time-out serves as well.
        """
        if self._errors.fatal is not None or self._errors.down_since is not None:
            return
        epoch, deadline = self._assignment.epoch, time.monotonic() + _LEAVE_S
        try:
            self._consumer.unsubscribe()
        except KafkaException as problem:
            if problem.args[0].code() == FATAL:
                # The group has fenced this member, whose client has not said so yet: it is no member any more.
                return
            raise
        # The partitions are given back in `poll`; only then the client tells the group.
        while self._assignment.partitions and self._assignment.epoch == epoch and time.monotonic() < deadline:
            self._consumer.poll(0.02)

    def close(self) -> None:
        """Stop reading; the partitions of a static member that has not left stay its own until the session ends.

        A client with a fatal error may never come back from closing: it is given some time, then left to the end of the process.
        """
        if self._bulk is not None:
            self._bulk.close()
        closing = threading.Thread(target=self._consumer.close, name=f"close-{self._group}", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            log.error("the consumer does not close; it is left behind", extra={"group": self._group, "waited_s": _CLOSE_S})

    def _on_assign(self, consumer: Consumer, partitions: list[Address]) -> None:
        # Nothing is read until the state is restored and `assign` says from where.
        consumer.assign([])
        if consumer is self._consumer:
            self._note_id()
            self._move(frozenset(TopicPartition(address.topic, address.partition) for address in partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[Address]) -> None:
        consumer.unassign()
        # One that was replaced closes beside its successor.
        if consumer is self._consumer:
            self._move(frozenset())

    def _move(self, partitions: frozenset[TopicPartition]) -> None:
        self._assigned = set()
        self._caught_up.clear()
        self._assignment = Assignment(self._assignment.epoch + 1, partitions)

    def _raise_fatal(self) -> None:
        if self._errors.fatal is not None:
            check(f"group {self._group} reads", self._errors.fatal)

    def _is_event(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            return False
        place = TopicPartition(message.topic() or "", -1 if message.partition() is None else message.partition())
        self._note_event(place, message.offset(), error)
        return True

    def _note_event(self, place: TopicPartition, offset: int, error: KafkaError) -> None:
        if error.code() == PARTITION_EOF:
            if place in self._assigned:
                self._caught_up.add(place)
        elif error.code() in OFFSET_LOST:
            asked = f"ends of {place.topic}:{place.partition}"
            low, end = self._connection.call(asked, lambda: self._consumer.get_watermark_offsets(Address(*place), timeout=5.0))
            raise offset_lost(place, f"group {self._group}", -1 if offset is None else offset, low, end)
        elif error.code() != POLLED_TOO_RARELY:
            check(f"group {self._group} reads {place.topic}:{place.partition}", error)

    def _note_read(self, records: Records) -> None:
        partition = TopicPartition(records.topic, records.partition)
        if partition not in self._assigned:
            return
        _, end = self._consumer.get_watermark_offsets(Address(*partition), cached=True)
        # The client's own end event comes only with the next empty fetch, up to fetch.wait.max.ms later.
        if 0 <= end <= int(records.offsets[-1]) + 1:
            self._caught_up.add(partition)
        else:
            self._caught_up.discard(partition)

    def _notice_silence(self) -> None:
        if self._errors.down_since is None or time.monotonic() - self._errors.down_since < self._connection.deadline_s:
            return
        self._connection.call(f"group {self._group} reads", lambda: self._consumer.list_topics(timeout=2.0))
        self._errors.down_since = None
