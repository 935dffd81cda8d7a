"""Whether a stream still brings what it used to: rows, fresh ones, labels, in their time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

StreamKind = Literal["volume", "freshness", "labels", "label_delay", "label_share"]
OF_REQUESTS: frozenset[StreamKind] = frozenset({"volume", "freshness"})
OF_LABELS: frozenset[StreamKind] = frozenset({"labels", "label_delay", "label_share"})
_WINDOWS_KEPT = 56
_LEAST_WINDOWS = 7
_SAME_WEEKDAY = 3
_REACH = 1.5
_SIGMAS = 5.0
_PATIENCE = 28
_MINUTE_MS = 60_000.0
_GONE = 0.2
_LEAST: Mapping[StreamKind, float] = {
    "volume": float(np.log(2)), "freshness": float(np.log(3)), "labels": float(np.log(2)), "label_delay": float(np.log(3)), "label_share": 0.1,
}  # fmt: skip
"""No bound is lower: a factor of two or three, or a tenth of the requests."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How far a window's figure lies from what was usual.

    Attributes
    ----------
    distance, bound
        Logarithms of quotients; of shares differences.
    is_gone
        Whether there is less than a fifth of what was usual.
    """

    kind: StreamKind
    value: float
    usual: float
    distance: float
    bound: float
    is_gone: bool


@dataclass(slots=True)
class StreamQuality:
    """Figures of a stream's windows, each held against the windows before it.

    What is usual is the median of the same weekday where there are three, else of all of the last 56 windows; the bound is one and a half times
    the largest distance in the later half of them (in the first weeks no weekday is known). So a shop that is closed on Sundays is no news, nor is
    one whose days differ by a factor of three. A window beyond its bound is not learned from, until the 28th in a row: then it is what is usual.
    With fewer than seven windows nothing is said.

    Memory: 56 windows of five figures.
    """

    windows: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)

    def close(self, day: int, figures: Mapping[StreamKind, float]) -> list[Measure]:
        """Take a window's figures; those that are NaN were not to be had, and are left out."""
        measures = []
        for kind, value in figures.items():
            if math.isnan(value):
                continue
            kept = self.windows.setdefault(kind, [])
            usual = self._usual(kept, day)
            distance = _distance(kind, value, usual) if usual is not None else 0.0
            if usual is not None and len(kept) >= _LEAST_WINDOWS:
                spread = _REACH * max([abs(one) for _, _, one in kept[len(kept) // 2 :]])
                noise = _SIGMAS / np.sqrt(max(usual, 1.0)) if kind in ("volume", "labels") else 0.0
                bound = max(_LEAST[kind], spread, float(noise))
                measures.append(Measure(kind, value, usual, abs(distance), bound, kind in ("volume", "labels") and value < _GONE * usual))
                if abs(distance) > bound:
                    self.beyond[kind] = self.beyond.get(kind, 0) + 1
                    if self.beyond[kind] < _PATIENCE:
                        continue
                    kept.clear()
            self.beyond[kind] = 0
            self.windows[kind] = [*kept, (day, value, distance)][-_WINDOWS_KEPT:]
        return measures

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and numbers."""
        return {"windows": {kind: [list(one) for one in kept] for kind, kept in self.windows.items()}, "beyond": self.beyond}

    @staticmethod
    def load(state: Mapping[str, Any]) -> "StreamQuality":
        """From a snapshot."""
        windows = {kind: [(int(day), float(value), float(distance)) for day, value, distance in kept] for kind, kept in state["windows"].items()}
        return StreamQuality(windows, dict(state["beyond"]))

    def _usual(self, kept: list[tuple[int, float, float]], day: int) -> float | None:
        # The first window began somewhere in a day: it is no measure.
        known = kept[1:]
        same = [value for when, value, _ in known if (when - day) % 7 == 0]
        chosen = same if len(same) >= _SAME_WEEKDAY else [value for _, value, _ in known]
        return _median(chosen) if len(chosen) >= _SAME_WEEKDAY else None


def _median(values: Sequence[float]) -> float:
    # NumPy's takes as long for three numbers as this for fifty, and each slice has five of them a day.
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _distance(kind: StreamKind, value: float, usual: float) -> float:
    if kind == "label_share":
        return min(0.0, value - usual)
    small = 0.5 if kind in ("volume", "labels") else _MINUTE_MS
    distance = float(np.log((value + small) / (usual + small)))
    return max(0.0, distance) if kind == "freshness" else distance


def words_of(measure: Measure, stream: str) -> str:
    """Return a sentence about a figure that is not what was usual.

    >>> words_of(Measure("volume", 12.0, 900.0, 4.3, 0.7, True), "orders")
    'orders brought 12 rows in a day instead of about 900'
    """
    value, usual = measure.value, measure.usual
    match measure.kind:
        case "volume":
            return f"{stream} brought {value:.0f} rows in a day instead of about {usual:.0f}"
        case "labels":
            return f"{stream} brought {value:.0f} labels in a day instead of about {usual:.0f}"
        case "freshness":
            return f"rows of {stream} came {value / 60_000:.1f} minutes after their event time instead of about {usual / 60_000:.1f} (median)"
        case "label_delay":
            return f"labels of {stream} came {value / 60_000:.1f} minutes after their request instead of about {usual / 60_000:.1f} (median)"
    return f"{value:.1%} of the requests that were waited for got a label of {stream} instead of about {usual:.1%}"
