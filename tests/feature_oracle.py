"""What every feature must be, in plain Python over the whole list of records before a request: no state, no windows that slide, nothing shared."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.shared.application.plan import AggregatePlan, ViewPlan, WindowPlan

Number = float


@dataclass(frozen=True, slots=True)
class Seen:
    """One record as the journal holds it."""

    stream: str
    offset: int
    now: int
    at: int
    late: bool
    fields: dict[str, object]


class FeatureOracle:
    """Answers requests of the engine's test application from all records before them.

    `values` and `conditions` say in Python what the application file says in SQL.
    """

    def __init__(self, journal: Sequence[Seen]) -> None:
        self.journal = journal

    def answer(self, view: ViewPlan, aggregate: AggregatePlan, request: Seen) -> Number:
        """Return the feature of one request, NaN when it has none."""
        keys = list(view.entity_columns.values())
        wanted = request.fields[keys[0]] if view.entity is not None else None
        if view.entity is not None and wanted is None:
            return math.nan
        inside, before = [], []
        for record in self.journal:
            if record.offset > request.offset:
                break
            if record.stream != view.source or record.late or (view.entity is not None and self._entity(view, record) != wanted):
                continue
            if view.where is not None and not (record.fields["amount"] is not None and float(str(record.fields["amount"])) > 5):
                continue
            inside.append(record)
            if record.offset < request.offset:
                before.append(record)
        if view.ttl_ms is not None:
            inside, before = self._alive(inside, request.now, view.ttl_ms), self._alive(before, request.now, view.ttl_ms)
        return self._aggregate(view, aggregate, request, inside, before)

    def _entity(self, view: ViewPlan, record: Seen) -> object:
        if view.join is None:
            return record.fields[view.entity_columns[record.stream]]
        for asked in self.journal:
            if asked.offset >= record.offset:
                return None
            if asked.stream == view.join.stream and asked.fields[view.join.request_column] == record.fields[view.join.column]:
                return asked.fields[view.entity_columns[view.join.stream]] if record.now - asked.now <= view.join.within_ms else None
        return None

    @staticmethod
    def _alive(records: list[Seen], now: int, ttl: int) -> list[Seen]:
        kept: list[Seen] = []
        for record in records:
            if kept and record.now - max(r.at for r in kept) > ttl:
                kept = []
            kept.append(record)
        return [] if kept and now - max(r.at for r in kept) > ttl else kept

    def _time(self, view: ViewPlan, record: Seen) -> int:
        return min(record.at, record.now) if view.event_time else record.now

    def _value(self, view: ViewPlan, record: Seen) -> Number:
        value = record.fields["bad" if record.stream == "verdicts" else "amount"]
        return math.nan if value is None else float(str(value))

    def _window(self, view: ViewPlan, window: WindowPlan, records: list[Seen], now: int) -> list[Seen]:
        if window.kind == "all":
            return records
        if window.kind == "session":
            chain = sorted(records, key=lambda r: self._time(view, r))
            session: list[Seen] = []
            for record in reversed(chain):
                nearest = self._time(view, session[-1]) if session else now
                if nearest - self._time(view, record) > window.length_ms:
                    break
                session.append(record)
            return [record for record in records if record in session]
        if window.step_ms:
            last = now // window.step_ms - window.length_ms // window.step_ms
            return [record for record in records if self._time(view, record) // window.step_ms > last]
        return [record for record in records if self._time(view, record) > now - window.length_ms]

    def _aggregate(self, view: ViewPlan, aggregate: AggregatePlan, request: Seen, inside: list[Seen], before: list[Seen]) -> Number:
        kind, now = aggregate.kind, request.now
        if kind == "ratio":
            above, below = (next(a for a in view.aggregates if a.feature == name) for name in aggregate.operands)
            divisor = self._aggregate(view, below, request, inside, before)
            return self._aggregate(view, above, request, inside, before) / divisor if divisor else math.nan
        if kind.startswith("decayed"):
            return self._decayed(view, aggregate, now, inside)
        ordered = sorted(before, key=lambda r: self._time(view, r))
        if kind in ("time_since_last", "time_since_first"):
            return (now - self._time(view, ordered[-1 if kind == "time_since_last" else 0])) / 1000 if ordered else math.nan
        if kind in ("first", "last", "lag"):
            known = [value for record in ordered if not math.isnan(value := self._value(view, record))]
            back = int(aggregate.argument) if kind == "lag" else 1
            if kind == "first":
                return known[0] if known else math.nan
            return known[-back] if len(known) >= back else math.nan
        assert aggregate.window is not None
        if kind in ("difference", "zscore"):
            past = [v for r in self._window(view, aggregate.window, before, now) if not math.isnan(v := self._value(view, r))]
            own = self._value(view, request)
            if not past or math.isnan(own) or (kind == "zscore" and len(past) < 2):
                return math.nan
            spread = statistics.stdev(past) if kind == "zscore" else 1.0
            return (own - math.fsum(past) / len(past)) / spread if spread else math.nan
        window = self._window(view, aggregate.window, inside, now)
        return self._windowed(view, aggregate, now, window)

    def _windowed(self, view: ViewPlan, aggregate: AggregatePlan, now: int, window: list[Seen]) -> Number:
        kind = aggregate.kind
        assert aggregate.window is not None
        if kind == "count":
            return float(len(window))
        if kind == "rate":
            span = aggregate.window.length_ms
            if aggregate.window.kind != "sliding":
                span = now - min((self._time(view, record) for record in window), default=now)
            return len(window) / span * 1000 if span else math.nan
        if kind == "distinct":
            assert aggregate.value is not None
            return float(len({record.fields[aggregate.value.sql] for record in window} - {None}))
        values = [value for record in window if not math.isnan(value := self._value(view, record))]
        if not values:
            return math.nan
        if kind in ("variance", "std"):
            return math.nan if len(values) < 2 else statistics.variance(values) if kind == "variance" else statistics.stdev(values)
        if kind == "quantile":
            return float(np.quantile(values, aggregate.argument))
        return {"sum": math.fsum(values), "mean": math.fsum(values) / len(values), "min": min(values), "max": max(values)}[kind]

    def _decayed(self, view: ViewPlan, aggregate: AggregatePlan, now: int, inside: list[Seen]) -> Number:
        values = [1.0 if aggregate.value is None else self._value(view, record) for record in inside]
        pairs = [(record, value) for record, value in zip(inside, values, strict=True) if not math.isnan(value)]
        if aggregate.half_life_events is not None:
            weights = [0.5 ** ((len(pairs) - 1 - i) / aggregate.half_life_events) for i in range(len(pairs))]
        else:
            assert aggregate.half_life_ms is not None
            weights = [0.5 ** ((now - self._time(view, record)) / aggregate.half_life_ms) for record, _ in pairs]
        total, weight = math.fsum(w * v for w, (_, v) in zip(weights, pairs, strict=True)), math.fsum(weights)
        if aggregate.kind == "decayed_count":
            return weight
        if not pairs:
            return math.nan
        return total if aggregate.kind == "decayed_sum" else total / weight
