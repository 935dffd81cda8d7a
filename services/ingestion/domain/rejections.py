"""Records that become dead letters, as columns: a flood of them must not cost an object for each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.raw import CleanRows, RecordVerdict
from tidemill.shared.log.packed import taken

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that goes to the dead letters."""

    stream: str
    reason: str
    detail: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    journal_time_ms: int


@dataclass(frozen=True, slots=True)
class Rejections:
    """What a step refuses, in the order of the merge.

    Attributes
    ----------
    streams, verdicts
        Of each.
    partitions, offsets, timestamps_ms, journal_times_ms : int arrays, shape (n,)
    keys, values
        Raw bytes.
    """

    streams: Sequence[str]
    verdicts: Sequence[RecordVerdict]
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    journal_times_ms: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    @classmethod
    def of(cls, parts: Sequence[tuple[str, NDArray[np.int64], CleanRows, NDArray[np.int64]]]) -> "Rejections":
        """Collect the refused rows of each stream, given as (name, places in the step, rows, journal times), by place."""
        by_stream = []
        for name, places, rows, times in parts:
            if rows.verdicts:
                chosen = np.sort(np.fromiter(rows.verdicts, np.int64, len(rows.verdicts)))
                by_stream.append((name, places[chosen], rows, times[chosen], chosen))
        if not by_stream:
            none = np.empty(0, np.int64)
            return cls((), (), np.empty(0, np.int32), none, none, none, (), ())
        columns = [
            cls(
                [name] * len(chosen), [rows.verdicts[row] for row in chosen.tolist()], rows.partition[chosen], rows.offsets[chosen],
                rows.timestamps_ms[chosen], times, taken(rows.keys, chosen), taken(rows.values, chosen),
            )
            for name, _, rows, times, chosen in by_stream
        ]  # fmt: skip
        if len(columns) == 1:
            return columns[0]
        order = np.argsort(np.concatenate([places for _, places, *_ in by_stream]), kind="stable")

        return cls(
            _merged([one.streams for one in columns], order), _merged([one.verdicts for one in columns], order),
            np.concatenate([one.partitions for one in columns])[order], np.concatenate([one.offsets for one in columns])[order],
            np.concatenate([one.timestamps_ms for one in columns])[order], np.concatenate([one.journal_times_ms for one in columns])[order],
            _merged([one.keys for one in columns], order), _merged([one.values for one in columns], order),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.verdicts)

    def take(self, rows: NDArray[np.int64]) -> "Rejections":
        """Return some of them."""
        chosen = rows.tolist()
        return Rejections(
            [self.streams[row] for row in chosen], [self.verdicts[row] for row in chosen], self.partitions[rows], self.offsets[rows],
            self.timestamps_ms[rows], self.journal_times_ms[rows], taken(self.keys, rows), taken(self.values, rows),
        )  # fmt: skip

    def rows(self, kind: tuple[str, str]) -> list[int]:
        """Return which are of a (stream, reason)."""
        return [row for row, own in enumerate(self._kinds()) if own == kind]

    def __getitem__(self, row: int) -> Rejection:
        verdict = self.verdicts[row]
        place = int(self.partitions[row]), int(self.offsets[row]), int(self.timestamps_ms[row])
        return Rejection(self.streams[row], verdict.reason, verdict.detail, *place, self.keys[row], self.values[row], int(self.journal_times_ms[row]))

    def __iter__(self) -> Iterator[Rejection]:
        return map(self.__getitem__, range(len(self)))

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many there are by (stream, reason)."""
        return Counter(self._kinds()) if self.verdicts else Counter()

    def _kinds(self) -> Iterator[tuple[str, str]]:
        return ((stream, verdict.reason) for stream, verdict in zip(self.streams, self.verdicts, strict=True))


def _merged(lists: Sequence[Sequence[_Item]], order: NDArray[np.int64]) -> list[_Item]:
    flat = [item for one in lists for item in one]
    return [flat[place] for place in order.tolist()]
