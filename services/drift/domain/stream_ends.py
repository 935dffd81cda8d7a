"""Which streams have ended, by the word of whoever feeds them: that they bring nothing then is no fault."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tidemill.shared.avro.arrow_types import int64_ms


@dataclass(frozen=True, slots=True)
class EndNews:
    """A record of `<app>-stream-ends` at its place in the merged order."""

    place: int
    stream: str
    partition: int
    time_ms: int
    ended: bool


def end_news(places: Iterable[int], batch: pa.RecordBatch) -> list[EndNews]:
    """Read records of `<app>-stream-ends`."""
    times = int64_ms(batch.column("journal_time")).tolist()
    rows = batch.select(["stream", "journal_partition", "ended"]).to_pylist()
    return [EndNews(place, row["stream"], row["journal_partition"], at, row["ended"]) for place, at, row in zip(places, times, rows, strict=True)]


@dataclass(frozen=True, slots=True)
class EndedStreams:
    """The streams of which a window is no measure, since they had ended at its begin or in it: by name, when they had."""

    since_ms: Mapping[str, int] = field(default_factory=dict)

    def __contains__(self, stream: object) -> bool:
        return stream in self.since_ms

    def before(self, ask: str) -> frozenset[str]:
        """Return the streams that had ended while requests still came: what is made of them comes empty or stands still."""
        last = self.since_ms.get(ask)
        return frozenset(name for name, at in self.since_ms.items() if name != ask and (last is None or at < last))


@dataclass(slots=True)
class StreamEnds:
    """Follows the ends of streams. A stream has ended when all the journal partitions that bring it have said so.

    Attributes
    ----------
    partitions
        Journal partitions that tell of a stream; 1 where it is not named. Not part of the state.
    ended
        Those of each stream that have ended.
    since_ms
        Of the streams that have ended, when.
    window_ms
        The same of the window that is not over, also where a stream goes on again.
    """

    partitions: Mapping[str, int]
    ended: dict[str, list[int]] = field(default_factory=dict)
    since_ms: dict[str, int] = field(default_factory=dict)
    window_ms: dict[str, int] = field(default_factory=dict)

    def absorb(self, news: Iterable[EndNews]) -> None:
        """Take what is told, in merge order."""
        for one in news:
            others = [partition for partition in self.ended.get(one.stream, []) if partition != one.partition]
            self.ended[one.stream] = [*others, one.partition] if one.ended else others
            if not one.ended:
                self.since_ms.pop(one.stream, None)
            elif len(self.ended[one.stream]) >= self.partitions.get(one.stream, 1):
                self.since_ms[one.stream] = self.window_ms[one.stream] = one.time_ms

    def close(self) -> EndedStreams:
        """End a window."""
        ended, self.window_ms = EndedStreams(self.window_ms), dict(self.since_ms)
        return ended

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, texts and numbers."""
        return {"ended": self.ended, "since": self.since_ms, "window": self.window_ms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.ended = {stream: list(partitions) for stream, partitions in state["ended"].items()}
        self.since_ms, self.window_ms = dict(state["since"]), dict(state["window"])
