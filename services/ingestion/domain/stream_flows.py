"""Which streams are floods of junk, and which of them stand still until an operator has looked: a fold over steps and commands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.log.flow import Flow


@dataclass(frozen=True, slots=True)
class Resume:
    """An operator's word that a stream is to go on.

    Attributes
    ----------
    issued_ms
        When it was issued, by the operator's clock.
    """

    stream: str
    issued_ms: int


class StreamFlows:
    """Counts what is refused, per stream; pauses a flood where its stream declares that (`on_flood: pause`). Pure.

    A paused stream gives nothing to the journal and holds no other stream back. Once it is resumed its records follow what the others have
    brought meanwhile: their place in the order is where the journal says it was resumed.
    """

    def __init__(self, streams: Iterable[StreamPlan], limits: FloodLimits) -> None:
        self._topics = {stream.name: stream.topic for stream in streams}
        self._pausing = frozenset(stream.name for stream in streams if stream.pauses_on_flood)
        self._limits = limits
        self._flows: dict[str, Flow] = {}

    @property
    def paused(self) -> frozenset[str]:
        """Streams that stand still."""
        return frozenset(name for name, flow in self._flows.items() if flow.is_paused)

    def load(self, flows: Mapping[str, Flow]) -> None:
        """Take up what the last progress record says, by topic."""
        self._flows = {name: flows[topic] for name, topic in self._topics.items() if topic in flows}

    def snapshot(self) -> dict[str, Flow]:
        """Return what the progress record is to say, by topic; nothing of streams of which nothing was ever refused."""
        return {self._topics[name]: flow for name, flow in self._flows.items() if flow != Flow()}

    def resume(self, words: Iterable[Resume]) -> list[str]:
        """Follow operators' commands; returns the streams that go on, those included whose declaration has changed."""
        before = self.paused
        for name in before - self._pausing:
            self._flows[name] = self._flows[name].resumed(-1)
        for word in words:
            flow = self._flows.get(word.stream)
            if flow is not None and flow.is_paused and word.issued_ms > flow.resumed_ms:
                self._flows[word.stream] = flow.resumed(word.issued_ms)
        return sorted(before - self.paused)

    def count(self, read: Mapping[str, int], rejected: Mapping[tuple[str, str], int], now_ms: int) -> list[str]:
        """Count a step; returns the streams that are paused from here on.

        Parameters
        ----------
        read
            Records by stream, those refused included.
        rejected
            Records by (stream, reason).
        now_ms
            Processing time, kept as the moment of a pause.
        """
        by_stream: dict[str, dict[str, int]] = {}
        for (name, reason), records in rejected.items():
            by_stream.setdefault(name, {})[reason] = records
        paused = []
        for name in by_stream.keys() | self._flows.keys():
            flow = self._flows.get(name, Flow()).after(read.get(name, 0), by_stream.get(name, {}), self._limits)
            if flow.throttled and name in self._pausing:
                flow = flow.paused(now_ms)
                paused.append(name)
            self._flows[name] = flow
        return sorted(paused)
