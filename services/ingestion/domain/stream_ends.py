"""Whether a stream has ended, by the word of whoever feeds it: a fold over what is released."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.raw import ENDS
from tidemill.services.ingestion.domain.sequencing import ReleasedEvents


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """Where a stream ended or, with `ended` false, goes on: its place in the step, and journal time."""

    stream: str
    place: int
    time_ms: int
    ended: bool


@dataclass(slots=True)
class StreamEnds:
    """The partitions of one stream that have ended. Replay-safe; what it says does not depend on how records come in steps.

    A heartbeat may say that its partition has ended: a data set that is replayed has no more. A stream has ended when all of its partitions that a
    task reads have. It goes on with the first record that is accepted: what is refused, and a copy, is no sign of life.

    Attributes
    ----------
    partitions
        Those that a task reads.
    ended
        Those of them that have ended.
    is_told
        Whether the end of the stream has been told and stands.
    """

    stream: str
    partitions: frozenset[int]
    ended: set[int] = field(default_factory=set)
    is_told: bool = False

    def absorb(self, part: ReleasedEvents, times: NDArray[np.int64]) -> list[StreamEnd]:
        """Take what a step has released of the stream, with its journal times, shape (n,); returns what is to be told."""
        rows = part.rows
        ends = rows.heartbeat & ((rows.flags & ENDS) != 0)
        if not self.ended and not self.is_told and not ends.any():
            return []
        said = []
        for row in np.flatnonzero(ends | part.accepted).tolist():
            partition = int(rows.partition[row])
            if ends[row]:
                self.ended.add(partition)
                changes = not self.is_told and self.ended >= self.partitions
            else:
                # Also one of a partition that was added since.
                self.ended.discard(partition)
                changes = self.is_told
            if changes:
                self.is_told = bool(ends[row])
                said.append(StreamEnd(self.stream, int(part.places[row]), int(times[row]), self.is_told))
        return said
