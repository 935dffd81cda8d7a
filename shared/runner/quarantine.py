"""Records set aside for good: which they are, where the verdicts are kept, and how a task's inputs are read past them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.log.packed import Packed
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import Task

Address = tuple[str, int, int]
Withheld = Mapping[TopicPartition, tuple[int, int]]
# A key of the checkpoint topic that is the runner's own; no task writes one that begins so.
_PREFIX = b"\x00tidemill.quarantined\x00"
# Verdicts that a progress record repeats: the newest. All of them are in the checkpoint topic.
NEWEST = 100
_NONE = np.empty(0, np.int64)


class Quarantined:
    """An immutable set of addresses, in the order of the verdicts.

    Parameters
    ----------
    addresses
        (topic, partition, offset); repeated ones count once.

    Examples
    --------
    >>> few = Quarantined([("t", 0, 7)]) | [("t", 0, 3), ("t", 0, 7)]
    >>> list(few), ("t", 0, 3) in few, few.newest(1)
    ([('t', 0, 7), ('t', 0, 3)], True, frozenset({('t', 0, 3)}))
    """

    def __init__(self, addresses: Iterable[Address] = ()) -> None:
        self._addresses: dict[Address, None] = dict.fromkeys(addresses)
        self._offsets = _by_place(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def __iter__(self) -> Iterator[Address]:
        return iter(self._addresses)

    def __contains__(self, address: object) -> bool:
        return address in self._addresses

    def __or__(self, others: Iterable[Address]) -> "Quarantined":
        added = dict.fromkeys(address for address in others if address not in self._addresses)
        if not added:
            return self
        # What was there is copied as it is: with thousands of verdicts, each commit of another one would sort them all again.
        union = Quarantined()
        union._addresses = self._addresses | added
        news = _by_place(added)
        union._offsets = self._offsets | {place: np.union1d(self._offsets.get(place, _NONE), offsets) for place, offsets in news.items()}
        return union

    def newest(self, count: int | None = None) -> frozenset[Address]:
        """Return the last verdicts, by default `NEWEST` of them."""
        wanted = NEWEST if count is None else count
        return frozenset(islice(reversed(self._addresses), wanted))

    def rows(self, records: Records) -> NDArray[np.int64]:
        """Rows of a run that are set aside, rising."""
        offsets = self._offsets.get(TopicPartition(records.topic, records.partition))
        if offsets is None or not len(records):
            return np.empty(0, np.int64)
        first, last = np.searchsorted(offsets, [records.offsets[0], records.offsets[-1] + 1])
        return np.flatnonzero(np.isin(records.offsets, offsets[first:last])) if last > first else np.empty(0, np.int64)


def _by_place(addresses: Iterable[Address]) -> dict[TopicPartition, NDArray[np.int64]]:
    """Offsets of each partition, rising."""
    offsets: dict[TopicPartition, list[int]] = {}
    for topic, partition, offset in addresses:
        offsets.setdefault(TopicPartition(topic, partition), []).append(offset)
    return {place: np.sort(np.array(places, np.int64)) for place, places in offsets.items()}


def given(inputs: Iterable[Records], quarantined: Quarantined, task: Task, withheld: Withheld | None = None) -> list[Records]:
    """Inputs without quarantined records, which the task is told of.

    Parameters
    ----------
    withheld
        Offsets [begin, end) of a partition that are passed over as if they were quarantined: a trial (see `Trials`).
    """
    kept: list[Records] = []
    for records in inputs:
        gone = quarantined.rows(records)
        if withheld:
            stretch = withheld.get(TopicPartition(records.topic, records.partition))
            if stretch is not None:
                gone = np.union1d(gone, np.arange(*np.searchsorted(records.offsets, stretch)))
        begin = 0
        for row in [*gone.tolist(), len(records)]:
            if row > begin:
                kept.append(records[begin:row])
            begin = row + 1
        if len(gone):
            task.skipped(records.topic, records.partition, records.offsets[gone])
    return kept


def verdict_key(address: Address) -> bytes:
    """Key of a verdict in the checkpoint topic; its value is empty."""
    topic, partition, offset = address
    return _PREFIX + f"{topic}:{partition}:{offset}".encode()


def address_of(key: bytes) -> Address:
    """Address of a verdict's key."""
    topic, partition, offset = key.removeprefix(_PREFIX).decode().rsplit(":", 2)
    return topic, int(partition), int(offset)


def without_verdicts(records: Records, verdicts: dict[Address, None]) -> Iterator[Records]:
    """Give the entries of a checkpoint that are the task's own; add the others' addresses to `verdicts`, or take them out."""
    rows = _verdict_rows(records.keys)
    begin = 0
    for row in [*rows, len(records)]:
        if row > begin:
            yield records[begin:row]
        begin = row + 1
    for row in rows:
        address = address_of(records.keys[row] or b"")
        if records.values[row] is None:
            verdicts.pop(address, None)
        else:
            verdicts[address] = None


def _verdict_rows(keys: Sequence[bytes | None]) -> list[int]:
    if isinstance(keys, Packed) and _PREFIX not in keys.content[keys.stops[0] : keys.stops[-1]].tobytes():
        return []
    return [row for row, key in enumerate(keys) if key is not None and key.startswith(_PREFIX)]


def verdicts_in(checkpoint: Iterable[Records]) -> Quarantined:
    """Every record that a stage has set aside, from its checkpoint's log."""
    verdicts: dict[Address, None] = {}
    for records in checkpoint:
        for _ in without_verdicts(records, verdicts):
            pass
    return Quarantined(verdicts)
