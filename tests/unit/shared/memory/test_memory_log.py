"""The log in memory against a plain list of records: runs, transactions, limits, deletion, compaction, gaps."""

import random

import numpy as np
import pyarrow as pa
import pytest

from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.log import ABORTED, COMMITTED, OPEN, PartitionLog, Transaction

HERE = TopicPartition("things", 0)
Oracle = list[tuple[int, int, bytes, bytes, Transaction | None]]


def rows(records: Records) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return list(zip(records.offsets.tolist(), records.timestamps_ms.tolist(), records.keys, records.values, strict=True))


def committed(oracle: Oracle, begin: int, end: int) -> list[tuple[int, int, bytes, bytes]]:
    stable = min([row[0] for row in oracle if row[4] is not None and row[4].state == OPEN], default=1 << 60)
    return [row[:4] for row in oracle if begin <= row[0] < min(end, stable) and (row[4] is None or row[4].state == COMMITTED)]


@pytest.mark.parametrize("seed", range(20))
def test_the_log_reads_as_a_plain_list_does(seed: int) -> None:
    chance = random.Random(seed)
    log, oracle = PartitionLog(HERE), Oracle()
    open_: list[Transaction] = []
    for _ in range(60):
        what = chance.random()
        if what < 0.55:
            n = chance.randrange(5)
            keys, values = ([bytes([chance.randrange(4)]) for _ in range(n)] for _ in range(2))
            transaction = chance.choice([None, *open_]) if open_ else chance.choice([None, Transaction()])
            if transaction is not None and transaction not in open_:
                open_.append(transaction)
            times = np.array([chance.randrange(100) for _ in range(n)], np.int64)
            oracle += [(log.end + i, int(times[i]), keys[i], values[i], transaction) for i in range(n)]
            packed = Packed.of(values)
            log.append(times, keys, packed if packed is not None and chance.random() < 0.5 else values, transaction)
        elif what < 0.75 and open_:
            open_.pop(chance.randrange(len(open_))).state = chance.choice([COMMITTED, ABORTED])
            log.mark()
        elif what < 0.85:
            offsets = np.cumsum([chance.randrange(1, 4) for _ in range(chance.randrange(4))]) + log.end
            values = [bytes([chance.randrange(4)]) for _ in offsets]
            log.copy(Records("other", 3, offsets, offsets, values, values))
            oracle += [(offset, offset, value, value, None) for offset, value in zip(offsets.tolist(), values, strict=True)]
        elif what < 0.87:
            log.cut_off(chance.randrange(log.low, log.end + 1))
            oracle = [row for row in oracle if row[0] < log.end]
        elif what < 0.92:
            stable = log.last_stable()
            log.delete_before(chance.randrange(log.end + 1))
            assert log.low <= stable
            oracle = [row for row in oracle if row[0] >= log.low]
        else:
            last = {key: offset for offset, _, key, _ in committed(oracle, 0, 1 << 60)}
            gone = {row[0] for row in committed(oracle, 0, 1 << 60) if last[row[2]] != row[0]}
            log.compact()
            oracle = [row for row in oracle if row[0] not in gone]
        begin, end = sorted((chance.randrange(log.end + 1), chance.randrange(log.end + 1)))
        expected = committed(oracle, begin, end)
        limit = chance.randrange(1, 8)
        position, read = begin, list[tuple[int, int, bytes | None, bytes | None]]()
        while True:
            part, position = log.read(position, end, limit)
            assert len(part) <= limit
            read += rows(part)
            if len(part) < limit:
                break
        assert read == expected
        assert [(entry.offset, entry.key, entry.value) for entry in log.entries] == [(row[0], row[2], row[3]) for row in oracle]


def test_the_end_never_goes_back() -> None:
    log = PartitionLog(HERE)
    at = np.array([3, 6])
    log.copy(Records("other", 3, at, at, [b"k", b"k"], [b"a", b"b"]))
    assert rows(log.read(0, 9, 9)[0]) == [(3, 3, b"k", b"a"), (6, 6, b"k", b"b")]
    with pytest.raises(ValueError, match="things:0: expected offsets from 7 on, got 3"):
        log.copy(Records("other", 3, at, at, [b"k", b"k"], [b"a", b"b"]))


def test_what_every_reader_has_behind_it_is_forgotten() -> None:
    broker = MemoryBroker(lambda: 5, 0.0)
    broker.create_topics([TopicSpec("read", 1), TopicSpec("unread", 1)])
    read, unread = TopicPartition("read", 0), TopicPartition("unread", 0)
    for topic in ("read", "unread"):
        broker.sink().publish_run(Emission(topic, 0, [b"k"] * 4, [b"a", b"b", b"c", b"d"]))
    fast, slow = broker.source("fast", "0"), broker.source("slow", "0")
    for source in (fast, slow):
        source.assign({read: 0})
    assert len(fast.consume(3, 0.0)[0]) == 3
    assert len(slow.consume(1, 0.0)[0]) == 1
    broker.forget()
    assert (broker.log(read).low, broker.log(unread).low) == (1, 4)
    assert [value for records in slow.consume(10, 0.0) for value in records.values] == [b"b", b"c", b"d"]
    assert [value for records in fast.consume(10, 0.0) for value in records.values] == [b"d"]
    broker.forget()
    assert broker.log(read).low == 4 and not broker.log(read).entries


def test_columns_are_handed_on_where_that_is_wanted() -> None:
    columns = pa.record_batch({"number": [1, 2, 3]})
    run = Emission("things", 0, [b"a", b"b", b"c"], [b"1", b"2", b"3"], columns=columns)
    for hands_on in (True, False):
        broker = MemoryBroker(lambda: 5, hands_on=hands_on)
        broker.create_topics([TopicSpec("things", 1)])
        broker.append(run, None)
        part = next(broker.reader().read(HERE, 1))
        assert list(part.values) == [b"2", b"3"] and part.columns == (columns[1:] if hands_on else None)
        # Of runs that were written apart the bytes are read.
        broker.append(run, None)
        both = next(broker.reader().read(HERE, 0))
        assert len(both) == 6 and both.columns is None
