"""How long champions and challengers take to score the same requests: measured batch by batch, told window by window."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.shared.models.deployments import Stage


@dataclass(frozen=True, slots=True)
class Pair:
    """A champion and the challenger that scores beside it.

    Attributes
    ----------
    sequence
        Lifecycle event that began the challenger's stage.
    """

    model: str
    champion_version: str
    challenger_version: str
    sequence: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class PairTime:
    """What both took for one batch, in nanoseconds: scoring alone, without what they share (encoding the inputs, writing the answers)."""

    pair: Pair
    requests: int
    champion_ns: int
    challenger_ns: int


@dataclass(frozen=True, slots=True)
class LastRequest:
    """Journal coordinates of a batch's last request."""

    partition: int
    offset: int
    time_ms: int


@dataclass(slots=True)
class _Window:
    pair: Pair
    start_ms: int
    last: LastRequest
    requests: int = 0
    calls: int = 0
    champion_ns: int = 0
    challenger_ns: int = 0

    def add(self, one: PairTime, last: LastRequest) -> None:
        self.last, self.requests, self.calls = last, self.requests + one.requests, self.calls + 1
        self.champion_ns, self.challenger_ns = self.champion_ns + one.champion_ns, self.challenger_ns + one.challenger_ns

    def record(self, window_ms: int) -> dict[str, Any]:
        return {
            "model": self.pair.model, "journal_partition": self.last.partition, "journal_offset": self.last.offset,
            "journal_time": self.last.time_ms, "champion_version": self.pair.champion_version,
            "challenger_version": self.pair.challenger_version, "challenger_sequence": self.pair.sequence, "stage": self.pair.stage,
            "window_start": self.start_ms, "window_end": self.start_ms + window_ms, "requests": self.requests, "calls": self.calls,
            "champion_ns": self.champion_ns, "challenger_ns": self.challenger_ns,
        }  # fmt: skip


class ScoringTimes:
    """Adds up the times of one partition's batches in windows of journal time, each told by the first batch after it. Pure.

    What is measured is not deterministic, and nothing that is recomputed follows from it: windows are on a topic of their own, which control alone
    reads. A restart loses the window that is open.

    Parameters
    ----------
    windows_ms
        Length of a window, by model.
    """

    def __init__(self, windows_ms: Mapping[str, int]) -> None:
        self._windows_ms = windows_ms
        self._open: dict[str, _Window] = {}

    def take(self, times: Iterable[PairTime], last: LastRequest) -> list[dict[str, Any]]:
        """Take the times of a batch; returns the windows that are over (`tidemill.ScoringTime`)."""
        over = []
        for one in times:
            name = one.pair.model
            window_ms = self._windows_ms[name]
            start_ms = last.time_ms // window_ms * window_ms
            window = self._open.get(name)
            if window is None or (window.pair, window.start_ms) != (one.pair, start_ms):
                if window is not None:
                    over.append(window.record(window_ms))
                window = self._open[name] = _Window(one.pair, start_ms, last)
            window.add(one, last)
        return over
