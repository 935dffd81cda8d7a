"""`Reader` of `KafkaBroker`: stretches of the log outside of any group."""

import time
import uuid
from collections.abc import Iterator

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Address

from tidemill.shared.kafka.admin import AdminClient, OffsetSpec
from tidemill.shared.kafka.bulk_consume import BulkConsume
from tidemill.shared.kafka.connection import NO_LEADER, OLD_EPOCH, PARTITION_EOF, Connection, check, to_columns
from tidemill.shared.kafka.source import PACE, READING
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.lost_offset import offset_lost
from tidemill.shared.log.records import Records, TopicPartition

STABLE_TIMEOUT_S = 60.0
CHUNK = 10_000
_WAIT_S = 0.05
_RENEWED_FOR_S = 0.25
# The end of a stretch is known when a fetch comes back empty, and the next stretch waits for the fetch of the one before. A restore reads a dozen.
_FETCH_WAIT_MS = 5
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka has none
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka has none


class KafkaReader:
    """Reads committed records of one partition at a time; made by `KafkaBroker.reader`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._admin, self._renewed_s = AdminClient(connection.settings()), 0.0
        self._consumer = Consumer(connection.settings(PACE, **READING, fetch_wait_max_ms=_FETCH_WAIT_MS, group_id=f"reader-{uuid.uuid4().hex}"))
        self._bulk = BulkConsume.of(self._consumer)
        # Of the stretch that the client stands in: one may be read while another is, in turns.
        self._turn: object | None = None

    def watermarks(self, partition: TopicPartition) -> tuple[int, int]:
        """First offset and end of the log, records of open transactions included."""
        return self._offset(partition, _EARLIEST), self._offset(partition, _LATEST)

    def stable_end(self, partition: TopicPartition) -> int:
        """Offset up to which no transaction is open (Kafka's last stable offset)."""
        return self._offset(partition, _LATEST, IsolationLevel.READ_COMMITTED)

    def _offset(self, partition: TopicPartition, spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> int:
        address = Address(*partition)

        def ask() -> int:
            asked = self._admin.list_offsets({address: spec}, isolation_level=isolation, request_timeout=5.0)
            try:
                offset = int(asked[address].result().offset)
            except KafkaException as problem:
                if problem.args[0].code() in {*OLD_EPOCH, NO_LEADER}:
                    # The client asks with the leader epoch it knows, and does not learn a newer one: after a restart of the broker, never again.
                    self._renew_admin()
                raise
            if offset < 0:
                # A leader that was just elected, and does not know yet how far its log is committed: librdkafka gives "no offset" for an answer.
                # It gives it for longer than half a minute where it still asks whoever led before.
                self._renew_admin()
                raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE))
            return offset

        return self._connection.call(f"ends of {partition.topic}:{partition.partition}", ask)

    def _renew_admin(self) -> None:
        """Ask with a new client from now on, unless this one is new itself."""
        now = time.monotonic()
        if now >= self._renewed_s + _RENEWED_FOR_S:
            self._admin, self._renewed_s = AdminClient(self._connection.settings()), now

    def read(self, partition: TopicPartition, begin: int, end: int | None = None) -> Iterator[Records]:
        """Committed records of a stretch, waiting for open transactions."""
        low, high = self.watermarks(partition)
        last = high if end is None else end
        position = max(begin, low)
        if begin > high or last > high:
            raise offset_lost(partition, "a reader", max(begin, last), low, high)
        if position >= last:
            return
        # A client that is given a topic it does not know looks for its leader once a second.
        self._connection.call(f"metadata of {partition.topic}", lambda: self._consumer.list_topics(partition.topic, timeout=2.0))
        turn = object()
        try:
            advanced = time.monotonic()
            while position < last:
                if self._turn is not turn:
                    # The first time, and whenever another stretch was read since a run of this one was given out.
                    self._turn = turn
                    self._stand_at(partition, position)
                runs, ends = self._take(partition)
                before = position
                for run in runs:
                    position = int(run.offsets[-1]) + 1
                    within = run[: int((run.offsets < last).sum())]
                    if len(within):
                        yield within
                position = max(position, *ends, -1)
                advanced = time.monotonic() if position > before else advanced
                if time.monotonic() - advanced > STABLE_TIMEOUT_S:
                    name = f"{partition.topic}:{partition.partition}"
                    raise TransientError(f"{name}: stuck at offset {position} of {last}, behind a transaction that does not end")
        finally:
            if self._turn is turn:
                self._consumer.unassign()

    def close(self) -> None:
        """Give the connection back."""
        if self._bulk is not None:
            self._bulk.close()
        self._consumer.close()

    def _stand_at(self, partition: TopicPartition, position: int) -> None:
        if self._bulk is not None:
            self._bulk.begin([partition])
        self._consumer.assign([Address(*partition, position)])

    def _take(self, partition: TopicPartition) -> tuple[list[Records], list[int]]:
        """Take what is there; runs, and the offsets at which the partition is said to end."""
        messages = self._consumer.consume(CHUNK, _WAIT_S if self._bulk is None else 0.0)
        ends = [self._end_of(partition, message.error(), message.offset()) for message in messages]
        runs = to_columns([message for message in messages if message.error() is None])
        if self._bulk is not None:
            taken = self._bulk.take(CHUNK, _WAIT_S, 0.0)
            runs += taken.runs
            ends += [self._end_of(event.place, event.error, event.offset) for event in taken.events]
        return runs, ends

    def _end_of(self, partition: TopicPartition, error: KafkaError | None, offset: int | None) -> int:
        if error is None:
            return -1
        if error.code() == PARTITION_EOF:
            return -1 if offset is None else offset
        check(f"reading {partition.topic}:{partition.partition}", error)
        return -1
