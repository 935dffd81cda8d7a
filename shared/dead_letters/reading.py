"""Reads an application's dead letters, and which of them were published again."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.dead_letters.letters import Letter, LetterPlace, LetterSource, Selection
from tidemill.shared.log.broker import Broker, Reader
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.records import TopicPartition

_GAP = 1_000
log = logging.getLogger(__name__)


class DeadLetterOffice:
    """The topics of dead letters and of marks, read_committed.

    Parameters
    ----------
    newest
        At most so many records of each partition are read, the newest; None: all.
    """

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, newest: int | None = None) -> None:
        self._plan, self._broker, self._newest = plan, broker, newest
        self._streams = {stream.topic: stream.name for stream in plan.streams.values()}
        self._rejected = message_codec(registry, plan.topics.rejected, "rejected")
        self.marks = message_codec(registry, plan.topics.replayed, "replayed")

    def letters(self, selection: Selection = Selection()) -> Iterator[Letter]:  # noqa: B008 - frozen
        """Return the dead letters that a selection holds, by partition, oldest first."""
        reader, junk = self._broker.reader(), _Junk()
        try:
            replayed = self._replayed(reader, junk)
            topic = self._plan.topics.rejected
            chosen = {place.partition for place in selection.places}
            for partition in range(self._broker.partitions(topic)):
                if chosen and partition not in chosen:
                    continue
                for offset, value in self._chosen(reader, TopicPartition(topic, partition), selection):
                    record = junk.decoded(self._rejected, TopicPartition(topic, partition), offset, value)
                    if record is None:
                        continue
                    source = LetterSource(record["source_topic"], record["source_partition"], record["source_offset"])
                    letter = Letter(LetterPlace(partition, offset), record, self._streams.get(source.topic, ""), replayed.get(source))
                    if selection.holds(letter):
                        yield letter
        finally:
            reader.close()
            junk.tell()

    def _replayed(self, reader: Reader, junk: "_Junk") -> dict[LetterSource, int]:
        """When each original was published again."""
        replays: dict[LetterSource, int] = {}
        for partition in range(self._broker.partitions(self._plan.topics.replayed)):
            place = TopicPartition(self._plan.topics.replayed, partition)
            for offset, value in self._values(reader, place, *reader.watermarks(place)):
                mark = junk.decoded(self.marks, place, offset, value)
                if mark is None:
                    continue
                replays[LetterSource(mark["source_topic"], mark["source_partition"], mark["source_offset"])] = mark["replayed_at"]
        return replays

    def _chosen(self, reader: Reader, partition: TopicPartition, selection: Selection) -> Iterator[tuple[int, bytes]]:
        """Records of a partition that may be selected: those that are named by their places, or else the newest."""
        low, high = reader.watermarks(partition)
        if not selection.places:
            yield from self._values(reader, partition, low if self._newest is None else max(low, high - self._newest), high)
            return
        # The topic may hold millions: one letter that is asked for must not cost a reading of them all.
        named = {place.offset for place in selection.places if place.partition == partition.partition and low <= place.offset < high}
        for begin, end in _stretches(sorted(named)):
            for offset, value in self._values(reader, partition, begin, end):
                if offset in named:
                    yield offset, value

    @staticmethod
    def _values(reader: Reader, partition: TopicPartition, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        for records in reader.read(partition, begin, end):
            for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                if value is not None:
                    yield offset, value


class _Junk:
    """What is no record of the topic: whoever may write to it can write that, and nobody else's letter is withheld for it."""

    def __init__(self) -> None:
        self._count = 0
        self._first: dict[str, object] = {}

    def decoded(self, codec: RecordCodec, place: TopicPartition, offset: int, value: bytes) -> dict[str, Any] | None:
        """Decode a record; None for what is none."""
        try:
            return codec.decode(value)
        except InvalidRecord as error:
            self._count += 1
            where = {"topic": place.topic, "partition": place.partition, "offset": offset}
            self._first = self._first or {**where, "reason": error.reason, "detail": error.detail}
            return None

    def tell(self) -> None:
        """Name the first, and how many there were."""
        if self._count:
            log.error("records of dead letters cannot be read, and are skipped", extra={"records": self._count, **self._first})


def _stretches(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cover offsets, which rise, by stretches [begin, end): a small gap is cheaper to read than to seek over."""
    begin = end = -1
    for offset in offsets:
        if end >= 0 and offset - end > _GAP:
            yield begin, end
            begin = offset
        begin, end = (offset if begin < 0 else begin), offset + 1
    if end >= 0:
        yield begin, end
