"""What a task's last transaction wrote where, so that the next start can see whether all of it is in the log."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidemill.shared.log.records import Emission, Records


class TornTransactionError(RuntimeError):
    """A transaction's progress record is committed, and outputs of it are not in the log, or outputs are there that no record tells of (crash)."""


def _digest(key: bytes | None, value: bytes | None) -> int:
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


@dataclass(frozen=True, slots=True)
class LastOutputs:
    """Outputs of the last transaction of a task that wrote to a topic partition.

    First and last record name the run among the records of other writers; two checksums and a count cost the same for ten records and for ten
    thousand.

    Attributes
    ----------
    after
        The first of them has this offset or a later one, and none of an earlier transaction has.
    count
        How many there are; of a compacted topic those that compaction keeps.
    first, last
        CRC-32 of key and value of the first and the last one.

    Examples
    --------
    >>> import numpy as np
    >>> one = LastOutputs.of([Emission("out", 0, [None, None], [b"a", b"b"])], after=7)
    >>> log = Records("out", 0, np.array([7, 8, 9]), np.zeros(3, np.int64), [None] * 3, [b"a", b"b", b"c"])
    >>> one.missing_from([log]), one.missing_from([log[1:]]), one.beyond([log])
    (0, 2, 1)
    """

    after: int
    count: int
    first: int
    last: int

    @classmethod
    def of(cls, emissions: Sequence[Emission], after: int) -> "LastOutputs":
        """Of what is written to one place; `emissions` hold at least one record."""
        begin, end = emissions[0], emissions[-1]
        count = sum(map(len, emissions))
        return cls(after, count, _digest(begin.keys[0], begin.values[0]), _digest(end.keys[-1], end.values[-1]))

    @classmethod
    def of_state(cls, emission: Emission, after: int) -> "LastOutputs | None":
        """Of what is written to a compacted place; None when compaction may remove all of it (deletions)."""
        kept: dict[bytes | None, bytes | None] = {}
        for key, value in zip(emission.keys, emission.values, strict=True):
            kept.pop(key, None)
            kept[key] = value
        entries = [(key, value) for key, value in kept.items() if value is not None]
        return cls(after, len(entries), _digest(*entries[0]), _digest(*entries[-1])) if entries else None

    def missing_from(self, log: Iterable[Records]) -> int:
        """How many of them the log does not hold from `after` on; reads no further than to the last one."""
        missing = 0
        for records in log:
            for key, value in zip(records.keys, records.values, strict=True):
                digest = _digest(key, value)
                missing += missing > 0 or digest == self.first
                if missing >= self.count and digest == self.last:
                    return 0
        return max(1, self.count - missing)

    def beyond(self, log: Iterable[Records]) -> int:
        """How many records the log holds from `after` on besides them."""
        return sum(map(len, log)) - self.count

    def to_list(self) -> list[int]:
        """Numbers for the progress record."""
        return [self.after, self.count, self.first, self.last]

    @classmethod
    def of_list(cls, numbers: Sequence[int]) -> "LastOutputs":
        """Of a progress record's numbers."""
        after, count, first, last = numbers
        return cls(after, count, first, last)
