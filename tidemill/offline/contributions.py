"""Which journal records made a feature of one request: the feature engine's rules, for one request at a time, over the archive."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.application.plan import AggregatePlan, Plan, ViewPlan, WindowPlan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.lake.journal import TIME, ArchivedJournal

Int64 = NDArray[np.int64]
_ONE_OF_THEM = ("first", "last", "lag", "time_since_first", "time_since_last")
_BEFORE_ASKING = (*_ONE_OF_THEM, "difference", "zscore")
"""Kinds that leave the asking event out."""


@dataclass(frozen=True, slots=True)
class ArchivedRequest:
    """The request as its entry stands in the archived journal."""

    stream: str
    partition: int
    offset: int
    journal_time_ms: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A journal record, and when it became known; a row of a reference stream has no event id."""

    stream: str
    offset: int
    journal_time_ms: int
    event_id: str | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """What made one feature.

    Attributes
    ----------
    count
        Records within the feature's window; one without a value counts too.
    newest
        The last of them, the latest first.
    """

    count: int
    newest: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries of one stream, in the order of the journal."""

    offsets: Int64
    columns: pa.RecordBatch

    def take(self, places: Int64) -> "_Entries":
        return _Entries(self.offsets[places], self.columns.take(pa.array(places)))

    def where(self, chosen: pa.Array) -> "_Entries":
        return self.take(np.flatnonzero(pc.fill_null(chosen, False).to_numpy(zero_copy_only=False)))

    def times(self, name: str) -> Int64:
        return np.asarray(int64_ms(self.columns.column(name)), np.int64)


class Contributions:
    """Finds the records of one request's features; each view reads its source once, up to the request.

    Parameters
    ----------
    newest
        How many records of a feature are named.
    """

    def __init__(self, plan: Plan, journal: ArchivedJournal, asking: ArchivedRequest, newest: int = 3) -> None:
        self._plan, self._journal, self._asking, self._newest = plan, journal, asking, newest
        self._entries = cache(self._of_view)
        self._views = {view.name: view for view in plan.views}
        self._aggregates = {aggregate.feature: (view, aggregate) for view in plan.views for aggregate in view.aggregates}

    def of(self, feature: str) -> Contribution | None:
        """Return what made a column of the vector; None for one that is the request's own."""
        column = next(one for one in self._plan.features if one.name == feature)
        if column.origin == "event":
            return None
        if column.origin == "reference":
            return self._reference(column.source)
        view, aggregate = self._aggregates[feature]
        entries = self._entries(view.name)
        return self._told(view.source, entries.take(self._chosen(view, aggregate, entries)))

    def _read(self, stream: str, **equal: Any) -> _Entries:  # values of any type
        return _Entries(*self._journal.of_stream(stream, self._asking.partition, self._asking.offset, **equal))

    def _reference(self, stream: str) -> Contribution:
        key = self._plan.streams[stream].key
        value = self._asking.fields.get(key)
        if value is None:
            return Contribution(0, ())
        entries = self._read(stream, **{key: value})
        # The row in force is the one with the newest event time, of equals the last.
        newest = np.flatnonzero(entries.times("_event_time") == entries.times("_event_time").max(initial=0))[-1:]
        return self._told(stream, entries.take(newest))

    def _of_view(self, name: str) -> _Entries:
        view, asking = self._views[name], self._asking
        entity = asking.fields.get(view.entity_columns[asking.stream]) if view.entity is not None else None
        if view.entity is None:
            entries = self._read(view.source)
        elif entity is None:
            entries = self._read(view.source).take(np.empty(0, np.int64))
        elif view.join is None:
            entries = self._read(view.source, **{view.entity_columns[view.source]: entity})
        else:
            entries = self._joined(view, entity)
        entries = entries.where(pc.invert(pc.fill_null(entries.columns.column("_late"), False)))
        return entries if view.where is None else entries.where(view.where.evaluate(entries.columns))

    def _joined(self, view: ViewPlan, entity: Any) -> _Entries:  # whatever names an entity
        """Entries whose request, the first of its id before them, is of the entity."""
        join = view.join
        if join is None:
            raise ValueError(f"view {view.name}: expected a join")
        asked, entries = self._read(join.stream), self._read(view.source)
        first: dict[Any, int] = {}
        for row, identity in enumerate(asked.columns.column(join.request_column).to_pylist()):
            first.setdefault(identity, row)
        asked_times, times = asked.times(TIME), entries.times(TIME)
        same = pc.equal(asked.columns.column(view.entity_columns[join.stream]), entity).to_numpy(zero_copy_only=False)
        places = []
        for row, identity in enumerate(entries.columns.column(join.column).to_pylist()):
            request = first.get(identity)
            if request is None or asked.offsets[request] >= entries.offsets[row] or times[row] - asked_times[request] > join.within_ms:
                continue
            if same[request]:
                places.append(row)
        return entries.take(np.array(places, np.int64))

    def _chosen(self, view: ViewPlan, aggregate: AggregatePlan, entries: _Entries) -> Int64:
        if aggregate.kind == "ratio":
            parts = [self._aggregates[name][1] for name in aggregate.operands]
            return np.unique(np.concatenate([self._chosen(view, part, entries) for part in parts]))
        now = self._asking.journal_time_ms
        known, happened = entries.times(TIME), entries.times("_event_time")
        places = np.arange(len(known), dtype=np.int64)
        if aggregate.kind in _BEFORE_ASKING:
            places = places[entries.offsets < self._asking.offset]
        if view.ttl_ms is not None:
            places = places[_alive(known[places], happened[places], now, view.ttl_ms) :]
        times = np.minimum(happened, known) if view.event_time else known
        if aggregate.kind not in _ONE_OF_THEM:
            return places if aggregate.window is None else places[_within(aggregate.window, times[places], now)]
        if aggregate.value is not None:
            values = aggregate.value.evaluate(entries.columns.take(pa.array(places)))
            places = places[pc.is_valid(values).to_numpy(zero_copy_only=False)]
        order = places[np.argsort(times[places], kind="stable")]
        if aggregate.kind in ("first", "time_since_first"):
            return order[:1]
        back = int(aggregate.argument) if aggregate.kind == "lag" else 1
        return order[len(order) - back :][:1] if len(order) >= back else order[:0]

    def _told(self, stream: str, entries: _Entries) -> Contribution:
        last = entries.take(np.arange(max(0, len(entries.offsets) - self._newest), len(entries.offsets), dtype=np.int64))
        names = last.columns.schema.names
        ids = last.columns.column("_event_id").to_pylist() if "_event_id" in names else [None] * len(last.offsets)
        records = [Record(stream, *one) for one in zip(last.offsets.tolist(), last.times(TIME).tolist(), ids, strict=True)]
        return Contribution(len(entries.offsets), tuple(reversed(records)))


def _alive(known: Int64, happened: Int64, now: int, ttl: int) -> int:
    """Return where an entity's present life begins: it is forgotten when nothing has come for its time to live."""
    begin, newest = 0, None
    for i, (time_ms, event_ms) in enumerate(zip(known.tolist(), happened.tolist(), strict=True)):
        if newest is not None and time_ms - newest > ttl:
            begin, newest = i, None
        newest = event_ms if newest is None else max(newest, event_ms)
    return len(known) if newest is not None and now - newest > ttl else begin


def _within(window: WindowPlan, times: Int64, now: int) -> NDArray[np.bool_]:
    if window.kind == "all":
        return np.ones(len(times), np.bool_)
    if window.kind == "session":
        order = np.argsort(times, kind="stable")[::-1]
        gaps = -np.diff(np.concatenate([[now], times[order]]))
        apart = np.flatnonzero(gaps > window.length_ms)
        inside = np.zeros(len(times), np.bool_)
        inside[order[: apart[0] if len(apart) else len(order)]] = True
        return inside
    if window.step_ms:
        return np.asarray(times // window.step_ms > now // window.step_ms - window.length_ms // window.step_ms)
    return np.asarray(times > now - window.length_ms)
