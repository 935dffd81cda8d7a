"""Which streams are floods of junk, and which of them stand still until an operator has looked: a fold over steps and commands."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.commands.obeyed import ObeyedCommands
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
    command_id: str
    issued_ms: int


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of operators' words.

    Attributes
    ----------
    resumed
        Streams that go on, sorted.
    refused
        Commands that are none, with the reason.
    """

    resumed: list[str]
    refused: list[tuple[Resume, str]]


# They are in every progress record: a few operators, none of whom resumes a stream every day.
_REMEMBERED = 32


class StreamFlows:
    """Counts what is refused, per stream; pauses a flood where its stream declares that (`on_flood: pause`). Pure.

    A paused stream gives nothing to the journal and holds no other stream back. Once it is resumed its records follow what the others have
    brought meanwhile: their place in the order is where the journal says it was resumed.

    A command counts once, where it is first read: also one that finds its stream going on is remembered, so that a copy resumes no later pause.
    """

    def __init__(self, streams: Iterable[StreamPlan], limits: FloodLimits) -> None:
        self._topics = {stream.name: stream.topic for stream in streams}
        self._pausing = frozenset(stream.name for stream in streams if stream.pauses_on_flood)
        self._limits = limits
        self._flows: dict[str, Flow] = {}
        self._obeyed: dict[str, ObeyedCommands] = defaultdict(partial(ObeyedCommands, _REMEMBERED))

    @property
    def paused(self) -> frozenset[str]:
        """Streams that stand still."""
        return frozenset(name for name, flow in self._flows.items() if flow.is_paused)

    def load(self, flows: Mapping[str, Flow]) -> None:
        """Take up what the last progress record says, by topic."""
        self._flows = {name: flows[topic] for name, topic in self._topics.items() if topic in flows}
        self._obeyed.clear()
        for name, flow in self._flows.items():
            self._obeyed[name].load({"commands": flow.obeyed, "forgotten": flow.forgotten_ms})

    def snapshot(self) -> dict[str, Flow]:
        """Return what the progress record is to say, by topic; nothing of streams of which nothing was ever refused."""
        return {self._topics[name]: flow for name, flow in self._flows.items() if flow != Flow()}

    def resume(self, words: Iterable[Resume], now_ms: int) -> Followed:
        """Follow operators' commands; those streams go on as well whose declaration has changed.

        Parameters
        ----------
        now_ms
            Processing time, by which what was read is forgotten.
        """
        before, refused = self.paused, []
        for name in before - self._pausing:
            self._flows[name] = self._flows[name].resumed()
        for word in words:
            obeyed, digest = self._obeyed[word.stream], _digest(word.command_id)
            obstacle = obeyed.obstacle(digest, word.issued_ms)
            if obstacle is not None:
                refused.append((word, obstacle))
                continue
            obeyed.add(digest, word.issued_ms, now_ms)
            flow = self._flows.get(word.stream, Flow())
            self._flows[word.stream] = _remembering(flow.resumed() if flow.is_paused else flow, obeyed)
        return Followed(sorted(before - self.paused), refused)

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


def _remembering(flow: Flow, obeyed: ObeyedCommands) -> Flow:
    state = obeyed.snapshot()
    commands = {name: (read, issued) for name, (read, issued) in state["commands"].items()}
    return replace(flow, obeyed=commands, forgotten_ms=max(flow.forgotten_ms, state["forgotten"]))


def _digest(command_id: str) -> str:
    """Return a short name of an id, which may be as long as a record."""
    return hashlib.sha256(command_id.encode()).hexdigest()[:32]
