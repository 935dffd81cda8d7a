"""What the flights oracle computes of one entity's records, each aggregate from its definition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Answer:
    """An expected value; `slack` is the rounding error a correct computation may have, `squared` that it is one of the square."""

    value: str | float | None
    exact: bool = True
    slack: float = 0.0
    squared: bool = False

    def equals(self, came: Any) -> bool:
        """Whether a value that came is right."""
        if self.value is None or came is None or (not isinstance(came, str) and pd.isna(came)):
            return self.value is None and (came is None or (not isinstance(came, str) and bool(pd.isna(came))))
        if isinstance(self.value, str) or isinstance(came, str):
            return bool(self.value == came)
        if self.exact:
            return self.value == float(came)
        if abs(float(came) - self.value) <= 1e-9 * abs(self.value) + (0.0 if self.squared else self.slack):
            return True
        return self.squared and abs(float(came) ** 2 - self.value**2) <= self.slack


@dataclass(frozen=True, slots=True)
class RecordHistory:
    """Records of one entity in order: places among all records, availability, the instant each stands for in windows, values (NaN is null).

    That instant is the event time, or the availability where that comes first.
    """

    place: NDArray[np.int64]
    available_ms: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    @staticmethod
    def empty() -> "RecordHistory":
        """Of an entity nothing is known of."""
        return RecordHistory(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), {})

    def until(self, place: int, ahead: int) -> "RecordHistory":
        """Records up to and including a place, and `ahead` later ones."""
        return self._part(0, min(int(np.searchsorted(self.place, place, side="right")) + ahead, len(self.place)))

    def alive(self, now: int, ttl_ms: int | None) -> "RecordHistory":
        """Records since the last pause longer than the time to live; none when the last of them is that long ago."""
        if ttl_ms is None or not len(self.time_ms):
            return self
        newest = np.maximum.accumulate(self.time_ms)
        pauses = np.flatnonzero(np.append(self.available_ms[1:], max(now, int(self.available_ms[-1]))) - newest > ttl_ms)
        return self._part(int(pauses[-1]) + 1, len(self.time_ms)) if pauses.size else self

    def in_time(self) -> "RecordHistory":
        """The records by the instant each stands for."""
        order = np.argsort(self.time_ms, kind="stable")
        return RecordHistory(
            self.place[order], self.available_ms[order], self.time_ms[order], {name: own[order] for name, own in self.values.items()}
        )

    def since(self, time_ms: int) -> "RecordHistory":
        """Records strictly later than an instant; call `in_time` first."""
        return self._part(int(np.searchsorted(self.time_ms, time_ms, side="right")), len(self.time_ms))

    def column(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times and values of the records where a column is not null."""
        values = self.values.get(name, np.zeros(0))
        known = ~np.isnan(values)
        return self.time_ms[: len(values)][known], values[known]

    def _part(self, begin: int, end: int) -> "RecordHistory":
        values = {name: own[begin:end] for name, own in self.values.items()}
        return RecordHistory(self.place[begin:end], self.available_ms[begin:end], self.time_ms[begin:end], values)


def aggregate(kind: str, history: RecordHistory, column: str | None, length_ms: int | None, now: int) -> Answer:
    """One aggregate of an entity's records.

    Parameters
    ----------
    column
        What is aggregated; None for `count` and `time_since_last`.
    length_ms
        Window, half-life of a decayed mean; None is the whole history.
    now
        Availability of the request.
    """
    if kind == "time_since_last":
        return Answer((now - int(history.time_ms[-1])) / 1000.0, exact=False) if len(history.time_ms) else Answer(None)
    if kind == "count":
        return Answer(float(len((history if length_ms is None else history.since(now - length_ms)).time_ms)))
    if column is None:
        raise ValueError(f"expected a column for {kind}")
    if kind == "decayed_mean":
        return _decayed_mean(history, column, float(length_ms or 0))
    if kind == "last":
        _, values = history.column(column)
        return Answer(float(values[-1])) if values.size else Answer(None)
    _, values = (history if length_ms is None else history.since(now - length_ms)).column(column)
    return _of_values(kind, values)


def _decayed_mean(history: RecordHistory, column: str, half_life_ms: float) -> Answer:
    times, values = history.column(column)
    if not values.size:
        return Answer(None)
    ages = (times[-1] - times) / half_life_ms
    weights = np.exp2(-ages)
    mean = float((weights * values).sum() / weights.sum())
    return Answer(mean, exact=False, slack=1e-12 * float((weights * np.abs(values)).sum() / weights.sum()))


def _of_values(kind: str, values: NDArray[np.float64]) -> Answer:
    if not values.size:
        return Answer(None)
    if kind in ("min", "max"):
        return Answer(float(values.min() if kind == "min" else values.max()))
    if kind == "sum":
        return Answer(float(values.sum()), exact=False, slack=1e-12 * float(np.abs(values).sum()))
    if kind == "mean":
        return Answer(float(values.mean()), exact=False, slack=1e-12 * float(np.abs(values).mean()))
    if kind == "std":
        if values.size < 2:
            return Answer(None)
        return Answer(float(values.std(ddof=1)), exact=False, slack=1e-12 * float((values**2).max()), squared=True)
    raise ValueError(f"the oracle knows no aggregate {kind!r}")
