"""Publishes the originals of dead letters again, each once, whatever happens to whoever does it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.dead_letters.letters import Letter, LetterSource, Selection
from tidemill.shared.dead_letters.originals import Original, OriginalGone, Originals
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.log.broker import Broker, TransactionalSink
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import Emission, TopicPartition

_AT_ONCE, _AT_ONCE_BYTES = 500, 16 << 20
_LOOKED_BACK = 1_000
# As of ingestion: a copy that is stamped later would be refused as one of the future.
_FARTHEST_AHEAD_MS = 400 * 86_400_000
_INGESTION = "ingestion"
_MISPLACED = "misplaced_key"


@dataclass(slots=True)
class LetterReplayResult:
    """What became of the dead letters that were selected.

    Attributes
    ----------
    refused
        Those that cannot be published again, and why.
    """

    replayed: int = 0
    already: int = 0
    refused: list[tuple[Letter, str]] = field(default_factory=list)


class DeadLetterReplay:
    """Sends refused records through ingestion again, after what refused them was mended.

    A copy goes to the topic that its original stood on, and its mark to the topic ``<app>-replayed``, in one transaction. Whoever replays takes the
    transactional id first, which fences everybody else who does, and then reads the marks to their end: so an original is published again once,
    whether the command is killed, repeated, or run twice at the same time. A copy that is refused again is another dead letter, and can be
    replayed again. Ingestion treats a copy like any record: it may be late by now, or a duplicate of a corrected one that came meanwhile.

    Parameters
    ----------
    originals
        Where the whole of a record lies whose dead letter has only its beginning; None: on its own topic.
    on_replay_clock
        The run's time is what is published: a copy is available when the newest record is, so that time does not jump to today.
    """

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        registry: SchemaRegistry,
        originals: Originals | None = None,
        on_replay_clock: bool = False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._plan, self._broker, self._clock_ms = plan, broker, clock_ms
        self._office = DeadLetterOffice(plan, broker, registry)
        self._originals = originals or Originals(broker)
        self._on_replay_clock = on_replay_clock
        self._partitions = {stream.topic: broker.partitions(stream.topic) for stream in plan.streams.values()}

    def run(self, selection: Selection) -> LetterReplayResult:
        """Publish the originals of the selected dead letters that were not published again yet.

        Raises
        ------
        FencedError
            Somebody else has begun a replay; what was done until then is done.
        TransientError
            Kafka did not take the rest; what was done until then is done. Run it again.
        """
        sink = self._broker.transactional_sink(f"{self._plan.application.app}-dead-letters")
        sink.open()
        try:
            return self._replay(sink, selection)
        finally:
            sink.close()

    def _replay(self, sink: TransactionalSink, selection: Selection) -> LetterReplayResult:
        result = LetterReplayResult()
        # Of a letter that is there twice (it cannot be, but a mark costs nothing), the second is known here before its mark can be read.
        done: set[LetterSource] = set()
        fresh = self._fresh(self._office.letters(selection), done, result)
        timestamp_ms = self._newest_ms() if self._on_replay_clock else None
        while originals := _some(fresh):
            self._publish(sink, originals, timestamp_ms)
            result.replayed += len(originals)
        return result

    def _fresh(self, letters: Iterator[Letter], done: set[LetterSource], result: LetterReplayResult) -> Iterator[tuple[Letter, Original, int]]:
        for letter in letters:
            if letter.replayed_at is not None or letter.source in done:
                result.already += 1
                continue
            try:
                original = self._original(letter)
                target = self._target(letter, original)
            except OriginalGone as why:
                result.refused.append((letter, str(why)))
                continue
            done.add(letter.source)
            yield letter, original, target

    def _original(self, letter: Letter) -> Original:
        if letter.record["stage"] == _INGESTION and not letter.stream:
            raise OriginalGone(f"expected a stream of the application on the topic {letter.source.topic}, found none; export it instead")
        if letter.record["stage"] != _INGESTION:
            raise OriginalGone(
                f"expected a record that ingestion refused, this one was accepted and set aside by {letter.record['stage']}: the journal has it, and"
                " ingestion would take a copy for a duplicate"
            )
        return self._originals.of(letter)

    def _target(self, letter: Letter, original: Original) -> int:
        """Return the partition that a copy belongs in: that of its original, unless that was what was wrong."""
        count = self._partitions[letter.source.topic]
        if not count:
            raise OriginalGone(f"expected the topic {letter.source.topic}, found none; make it with `tidemill topics`")
        if letter.record["reason"] != _MISPLACED:
            return min(letter.source.partition, count - 1)
        home = murmur2_partition(original.key or b"", count)
        if original.key is None or home == letter.source.partition:
            raise OriginalGone("its Kafka key does not say where it belongs; publish it again with the partition key as key")
        return home

    def _publish(self, sink: TransactionalSink, chosen: Sequence[tuple[Letter, Original, int]], timestamp_ms: int | None) -> None:
        now_ms = self._clock_ms()
        copies: dict[TopicPartition, list[Original]] = {}
        marks: list[bytes] = []
        for letter, original, target in chosen:
            source = letter.source
            copies.setdefault(TopicPartition(source.topic, target), []).append(original)
            mark = {**source._asdict(), "target": target, "reason": letter.record["reason"], "replayed_at": now_ms}
            names = {"topic": "source_topic", "partition": "source_partition", "offset": "source_offset", "target": "target_partition"}
            marks.append(self._office.marks.encode({names.get(name, name): value for name, value in mark.items()}))
        sink.begin()
        try:
            for place, copied in copies.items():
                times = np.full(len(copied), now_ms if timestamp_ms is None else timestamp_ms, np.int64)
                sink.produce(Emission(place.topic, place.partition, [one.key for one in copied], [one.value for one in copied], times))
            keys = [str(letter.source).encode() for letter, _, _ in chosen]
            sink.produce(Emission(self._plan.topics.replayed, 0, keys, marks))
            sink.commit()
        except BaseException:
            sink.abort()
            raise

    def _newest_ms(self) -> int:
        """Return the newest timestamp on the raw topics that ingestion believes, 0 when there is none."""
        reader, newest, farthest = self._broker.reader(), 0, self._clock_ms() + _FARTHEST_AHEAD_MS
        try:
            for topic, count in self._partitions.items():
                for partition in range(count):
                    place = TopicPartition(topic, partition)
                    low, high = reader.watermarks(place)
                    for records in reader.read(place, max(low, high - _LOOKED_BACK), high):
                        newest = max(newest, int(records.timestamps_ms.max(where=records.timestamps_ms <= farthest, initial=0)))
        finally:
            reader.close()
        return newest


def _some(fresh: Iterator[tuple[Letter, Original, int]]) -> list[tuple[Letter, Original, int]]:
    """Take what one transaction carries: large originals are few at a time."""
    taken, size = [], 0
    for one in fresh:
        taken.append(one)
        size += len(one[1].value)
        if len(taken) >= _AT_ONCE or size >= _AT_ONCE_BYTES:
            break
    return taken
