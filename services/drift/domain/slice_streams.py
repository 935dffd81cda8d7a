"""What each slice of a stream brings in a day: requests, how fresh they are, labels and their delay."""

import base64
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.services.drift.domain.stream_quality import Measure, StreamKind, StreamQuality

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
LEAST_ROWS = 50
_LEAST_MEAN = 20
_REACH = 1.5
_MINUTE_MS = 60_000.0
_ROWS, _LAG, _LABELS, _DELAY, _TIMEOUTS = range(5)
_STALE_WINDOWS = 28


@dataclass(slots=True)
class SliceStreams:
    """Figures of each slice's days, each held against the days before it as those of the whole stream are (`StreamQuality`).

    Bounds are one and a half times as wide: there are up to 64 slices. Slices that usually bring fewer than 50 requests or labels a day are not
    judged by their number, nor days with fewer than 20 by their delay. Times are geometric means, of requests from event to journal.

    Memory: 56 windows of five figures for each slice.
    """

    slices: int
    today: Float64 = field(init=False)
    windows: dict[int, StreamQuality] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.today = np.zeros((self.slices, 5))

    def requests(self, codes: Int64, lag_ms: Float64) -> None:
        """Count requests in order, codes of shape (n, columns)."""
        logs = np.log(np.maximum(lag_ms, 0.0) + _MINUTE_MS)
        self._add(codes, np.column_stack([np.ones(len(logs)), logs]), slice(_ROWS, _LAG + 1))

    def labels(self, codes: Int64, delay_ms: Float64) -> None:
        """Count labels in order, with their delays."""
        logs = np.log(np.maximum(delay_ms, 0.0) + _MINUTE_MS)
        self._add(codes, np.column_stack([np.ones(len(logs)), logs]), slice(_LABELS, _DELAY + 1))

    def timeouts(self, codes: Int64) -> None:
        """Count requests whose label will never come."""
        self._add(codes, np.ones((len(codes), 1)), slice(_TIMEOUTS, _TIMEOUTS + 1))

    def close(self, day: int, codes: Sequence[int], measured: Set[StreamKind]) -> list[tuple[int, Measure]]:
        """End a day, which is a measure of what is `measured`; returns how far each slice's figures lie."""
        measures: list[tuple[int, Measure]] = []
        for code in codes:
            kept = self.windows.setdefault(code, StreamQuality())
            figures = self.figures(code)
            for one in kept.close(day, {kind: value for kind, value in figures.items() if kind in measured}):
                if one.kind not in ("volume", "labels") or one.usual >= LEAST_ROWS:
                    measures.append((code, Measure(one.kind, one.value, one.usual, one.distance, _REACH * one.bound, one.is_gone)))
        self.today = np.zeros((self.slices, 5))
        return measures

    def figures(self, code: int) -> dict[StreamKind, float]:
        """Return a slice's figures of the day; NaN where there are too few rows for one."""
        rows, lag, labels, delay, timeouts = self.today[code].tolist()
        nothing, ended = float("nan"), labels + timeouts
        return {
            "volume": rows,
            "freshness": float(np.exp(lag / rows) - _MINUTE_MS) if rows >= _LEAST_MEAN else nothing,
            "labels": labels,
            "label_delay": float(np.exp(delay / labels) - _MINUTE_MS) if labels >= _LEAST_MEAN else nothing,
            "label_share": labels / ended if ended >= _LEAST_MEAN else nothing,
        }

    def stale(self) -> list[int]:
        """Return codes of slices that have brought fewer than 50 requests in their last 28 days."""
        volumes = {code: kept.windows.get("volume", []) for code, kept in self.windows.items()}
        return [
            code
            for code, days in volumes.items()
            if len(days) >= _STALE_WINDOWS and sum(rows for _, rows, _ in days[-_STALE_WINDOWS:]) < LEAST_ROWS
        ]  # fmt: skip

    def forget(self, codes: Sequence[int]) -> None:
        """Begin anew for codes that are used anew."""
        for code in codes:
            self.windows.pop(code, None)

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists, numbers and texts."""
        return {"today": base64.b64encode(self.today.tobytes()).decode(), "windows": [[code, one.snapshot()] for code, one in self.windows.items()]}

    def load(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.today = np.frombuffer(base64.b64decode(state["today"]), np.float64).reshape(self.slices, 5).copy()
        self.windows = {code: StreamQuality.load(one) for code, one in state["windows"]}

    def _add(self, codes: Int64, values: Float64, columns: slice) -> None:
        for code in codes.T:
            # One by one, whatever the batch: a sum of sums has other bits.
            np.add.at(self.today[:, columns], code[code >= 0], values[code >= 0])
