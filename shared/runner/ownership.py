"""One writer for each task, whatever its name and topology: a compare-and-set on the end of the task's progress topic.

Kafka fences a predecessor of the same transactional id, and members of one consumer group by their generation. A process of another id *and* another
group (the other topology, an old replica that still runs) is fenced by neither. The progress topic fences it:

1. Partition p of the progress topic is written by the owners of task p alone, and every transaction of task p writes one progress record there.
2. To restore task p is to read this log up to an end E, read-committed: the read waits until every transaction below E is committed or aborted, and
   the state then holds all of them that were committed.
3. The next transaction commits only if the broker has appended its progress record at E exactly (`Emission.first_offset`; `TransactionalSink.commit`
   compares the offset that the broker returned). The record after it is expected at E + 2: the commit marker takes an offset too.

The check precedes the commit, and need not be one action with it, because the append decides the order and nothing after it can change it. Let A have
appended at E, as expected, and not yet committed. Whoever writes for the task after that gets an offset above E. It may commit only if it has read up
to that offset, and that read waits for A's transaction: it sees what A has committed, or that A has aborted. Whoever has appended below E was read by
A. So the committed records form one chain, each made from the state that the one before it left. Nothing here depends on names, clocks or sessions.

A *claim* is written before a restore: a record without a value, so that readers of progress pass over it and compaction removes it in the end. It
moves the end, and so makes the next transaction of every other writer fail, before the restore and not after it. Safety does not need it.

What this relies on: the leader of a partition appends in one order, an acknowledged record is not lost (`acks=all`, in-sync replicas, no unclean
leader election), and a transaction that is over stays over (see `KafkaTransactionalSink` for Kafka's own gap there).
"""

from collections.abc import Callable
from dataclasses import dataclass

from tidemill.shared.log.broker import Broker, Reader
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.runner.progress import Progress, RecordCodecPort, progress_topic

_CLAIM = b"claim:"
# Offsets that are read first. A commit takes two, so the last progress record is among them unless many transactions were aborted since.
_TAIL = 64
_LOOKS = 50


def claim(place: TopicPartition, writer: str) -> Emission:
    """Return the record with which a process takes a task over.

    Parameters
    ----------
    place
        The task's partition of its progress topic.
    writer
        The process's transactional id.
    """
    return Emission(place.topic, place.partition, [_CLAIM + writer.encode()], [None])


@dataclass(frozen=True, slots=True)
class LastProgress:
    """What a progress topic says of a task.

    Attributes
    ----------
    record
        The last progress record; None before the first commit.
    writer
        Transactional id of the process that claimed the task or wrote for it last; empty when nobody has.
    end
        Offset that the next record gets if nobody else writes.
    """

    record: bytes | None
    writer: str
    end: int


def standing(reader: Reader, place: TopicPartition, codec: RecordCodecPort, alive: Callable[[], None] = lambda: None) -> LastProgress:
    """Read a progress topic to its end, waiting for open transactions.

    Parameters
    ----------
    alive
        Called between pieces of work.

    Raises
    ------
    TransientError
        An open transaction does not end, or others never cease to write.
    """
    low, end = reader.watermarks(place)
    begin = max(low, end - _TAIL)
    latest = _read(reader, place, begin, alive)
    if latest[0] is None and begin > low:
        latest = _read(reader, place, low, alive)
    record, key, position = latest
    return LastProgress(record, _writer(key, record, codec), position)


def _read(reader: Reader, place: TopicPartition, position: int, alive: Callable[[], None]) -> tuple[bytes | None, bytes | None, int]:
    """Return the last progress record, the last key, and the end."""
    record: bytes | None = None
    key: bytes | None = None
    for _ in range(_LOOKS):
        # The marker that ends a transaction may come after the answer to its producer: the end is known once it stays where it is.
        end = reader.watermarks(place)[1]
        if end <= position:
            return record, key, position
        for records in reader.read(place, position, end):
            alive()
            record = next((value for value in reversed(list(records.values)) if value is not None), record)
            key = records.keys[-1]
        position = end
    raise TransientError(f"{place.topic}:{place.partition}: expected one writer, but others never cease to write here; an old replica may still run")


def _writer(key: bytes | None, record: bytes | None, codec: RecordCodecPort) -> str:
    if key is not None and key.startswith(_CLAIM):
        return key.removeprefix(_CLAIM).decode()
    return Progress.decode(record, codec).writer if record is not None else ""


@dataclass(frozen=True, slots=True)
class Precedence:
    """Whom a stage gives way to: a process that runs it together with the stages before it.

    Two topologies that both run a task would take it from each other for ever: never wrong, and never done. The group of the leading stage decides,
    since both topologies are members of it: while the member that holds the leading partition runs the whole chain, the task is its. This is about
    progress only; that each record is written once does not depend on it.

    Attributes
    ----------
    app, lead, stage
        The application, the stage whose group decides, and the stage that gives way.
    topic
        The first partitioned input of the lead: whoever is assigned partition p of it leads task p.
    chain
        Name of the chain's processes.
    """

    broker: Broker
    reader: Reader
    codec: RecordCodecPort
    app: str
    lead: str
    stage: str
    topic: str
    chain: str

    def holder(self, partition: int) -> str | None:
        """Return the transactional id of the process that has precedence for a task now, None when nobody has."""
        prefix = f"{self.app}-{self.chain}-"
        for stage in (self.stage, self.lead):
            writer = standing(self.reader, TopicPartition(progress_topic(self.app, stage), partition), self.codec).writer
            if not writer.startswith(prefix):
                return None
        members = self.broker.members(f"{self.app}-{self.lead}")
        held = members.get(writer.removeprefix(f"{self.app}-"))
        # While the group rebalances nobody has an assignment: the one who had the task may get it again.
        return writer if held is not None and (TopicPartition(self.topic, partition) in held or not any(members.values())) else None
