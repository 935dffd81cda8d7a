"""The feature engine: a fold over the journal that answers every asking event with a vector."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.features.domain.checkpoint_loading import CheckpointLoading
from tidemill.services.features.domain.entities import EntityIndex
from tidemill.services.features.domain.hashing import ValueHashes
from tidemill.services.features.domain.reference_state import ReferenceState
from tidemill.services.features.domain.request_keys import RequestKeys
from tidemill.services.features.domain.view_state import ViewState
from tidemill.shared.application.column_roles import feature_values
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import JoinPlan, Plan, ViewPlan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.log.records import StateEntry

_SWEPT = 512
_GLOBAL = ""


@dataclass(frozen=True, slots=True)
class _Operations:
    """What one stream of a batch does to a view; arrays of k rows."""

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    update: NDArray[np.bool_]
    at: NDArray[np.int64]
    values: NDArray[np.float64]
    hashes: NDArray[np.int64]


class FeaturesCore:
    """Computes one vector per asking event. Pure: no clock, no I/O; the same journal gives the same bits in any batching.

    A request sees every record before it in the journal, and itself where its own stream is a view's source (what compares with the
    past, `last`, `lag`, `time_since_last`, `difference`, `zscore`, leaves it out). *Now* is the request's journal time, which never runs backwards; a
    record stands in the windows (now - length, now] at its event time, not later than its journal time, so records out of order within the
    allowed lateness give what they would have given in order. Late records are skipped by views and still answered.

    What is dirty gathers until `take_dirty` is called: who keeps no checkpoint of a long fold calls it now and then and drops what it gives.

    Parameters
    ----------
    followed
        Whether somebody calls `touched`: otherwise nothing is noted for it.
    spill_folder
        Where tables that may outgrow memory lie; None: with other temporary files.
    """

    def __init__(self, plan: Plan, *, followed: bool = False, spill_folder: Path | None = None) -> None:
        self._plan = plan
        self._spill_folder = spill_folder
        self._followed = followed
        self._entities: dict[str, EntityIndex] = {view.entity or _GLOBAL: EntityIndex() for view in plan.views}
        self._views = [ViewState(view, plan.streams[view.source].allowed_lateness_ms) for view in plan.views]
        self._references = [ReferenceState(stream, plan.features) for stream in plan.reference_streams]
        self._asking = {plan.streams[name].index: name for name in plan.asking_streams}
        self._hashes = ValueHashes()
        self._requests = self._request_tables(plan)
        joined = {view.entity for view in plan.views if view.join is not None}
        self._swept = {name: 0 for name in self._entities if name != _GLOBAL and name not in joined}
        self._dropped: list[StateEntry] = []
        indexes = [self._entities[state.view.entity or _GLOBAL] for state in self._views]
        self._loading = CheckpointLoading(list(zip(self._views, indexes, strict=True)), self._references, list(self._requests.values()))
        self._touched: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self._entities}
        self._now_ms = 0
        self._begun: deque[tuple[int, int]] = deque()
        self._ratios = [aggregate for view in plan.views for aggregate in view.aggregates if aggregate.kind == "ratio"]

    def _request_tables(self, plan: Plan) -> dict[tuple[str, str, int], RequestKeys]:
        kinds: dict[tuple[str, str, int], dict[str, tuple[EntityIndex, str]]] = {}
        joins: dict[tuple[str, str, int], JoinPlan] = {}
        for view in plan.views:
            if view.join is not None and view.entity is not None:
                key = _join_key(view.join)
                joins[key] = view.join
                kinds.setdefault(key, {})[view.entity] = (self._entities[view.entity], view.entity_columns[view.join.stream])
        return {key: RequestKeys(join, kinds[key], self._spill_folder) for key, join in joins.items()}

    def process(self, batch: JournalBatch) -> pa.RecordBatch:
        """Fold a run of the journal; returns the vectors (columns of the plan's vector schema) in journal order."""
        asks = np.flatnonzero(np.isin(batch.stream_index, list(self._asking)))
        columns: dict[str, pa.Array] = self._envelope(batch, asks)
        columns |= self._event_features(batch, asks)
        for reference in self._references:
            columns |= self._reference_features(reference, batch, asks)
        if len(batch):
            if self._requests:
                self._begun.append((int(batch.offsets[0]), int(batch.journal_time_ms[0])))
            self._now_ms = max(self._now_ms, int(batch.journal_time_ms[-1]))
        answers = self._fold_views(batch, asks)
        for ratio in self._ratios:
            above, below = (answers[name] for name in ratio.operands)
            answers[ratio.feature] = _divided(above, below)
        schema = self._plan.vector_arrow
        for name in schema.names:
            if name in answers:
                columns[name] = pa.array(answers[name], from_pandas=True)
        self._sweep()
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    def replay(self, batch: JournalBatch) -> None:
        """Apply records that blobs may or may not include already; no output."""
        self.process(batch)

    def read(self, entity: str, keys: Sequence[str], now_ms: int) -> NDArray[np.float64]:
        """Evaluate all views of a kind of entity as of a journal time not before the newest one folded; state is left as it is in effect.

        Returns
        -------
        float64 array, shape (len(keys), features), in the order of the views and their aggregates; a row of NaN for an unknown entity.
        """
        index = self._entities[entity]
        slots = np.array([index.find(key) for key in keys], np.int64)
        now = np.full(len(keys), max(now_ms, self._now_ms), np.int64)
        own = [state for state in self._views if (state.view.entity or _GLOBAL) == entity]
        answers: dict[str, NDArray[np.float64]] = {}
        for state in own:
            out = np.full((len(state.features), len(keys)), np.nan)
            nothing = np.zeros(len(keys), np.bool_)
            values = np.full((len(keys), len(state.layout.values)), np.nan)
            hashes = np.zeros((len(keys), len(state.layout.distincts)), np.int64)
            state.fold(len(index), slots, now, now, now, nothing, np.arange(len(keys)), values, hashes, out)
            answers |= dict(zip(state.features, out, strict=True))
        columns = []
        for state in own:
            for aggregate in state.view.aggregates:
                if aggregate.kind == "ratio":
                    above, below = (answers.get(name, np.full(len(keys), np.nan)) for name in aggregate.operands)
                    columns.append(_divided(above, below))
                else:
                    columns.append(answers[aggregate.feature])
        return np.column_stack(columns) if columns else np.empty((len(keys), 0))

    def touched(self) -> dict[str, list[str]]:
        """Return the entities updated or asked about since the last call, by kind."""
        found = {}
        for kind, parts in self._touched.items():
            if parts:
                names = self._entities[kind].names
                found[kind] = [name for slot in np.unique(np.concatenate(parts)).tolist() if slot >= 0 and (name := names[slot]) is not None]
                parts.clear()
        return found

    def known(self, entity: str) -> list[str]:
        """Return every entity of a kind that has state."""
        return [name for name in self._entities[entity].names if name is not None]

    @property
    def now_ms(self) -> int:
        """Journal time of the newest record folded."""
        return self._now_ms

    @property
    def held_bytes(self) -> int:
        """Memory behind the views' state (names of entities apart)."""
        return sum(state.held_bytes for state in self._views)

    def _envelope(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        stamp = pa.timestamp("ms")
        names = pa.array(list(self._asking.values()), pa.string())
        numbers = np.searchsorted(sorted(self._asking), batch.stream_index[asks])
        order = np.argsort(list(self._asking))
        return {
            "_request_id": self._gather(batch, asks, "_event_id", pa.string()),
            "_ask": names.take(pa.array(order[numbers] if len(numbers) else np.empty(0, np.int64))),
            "_event_time": self._gather(batch, asks, "_event_time", stamp),
            "_journal_partition": pa.array(np.full(len(asks), batch.partition, np.int32)),
            "_journal_offset": pa.array(batch.offsets[asks]),
            "_journal_time": pa.array(batch.journal_time_ms[asks]).cast(stamp),
            "_late": self._gather(batch, asks, "_late", pa.bool_()),
        }

    def _event_features(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        columns = {}
        for feature in self._plan.features:
            if feature.origin == "event":
                kind = pa.string() if feature.type == "string" else pa.float64()
                column = self._gather(batch, asks, feature.column, kind)
                # NaN is no value, as in the views: it leaves as null, and no model or reader has to know two kinds of missing.
                columns[feature.name] = column if feature.type == "string" else pa.array(column.to_numpy(zero_copy_only=False), from_pandas=True)
        return columns

    def _gather(self, batch: JournalBatch, asks: NDArray[np.int64], column: str, kind: pa.DataType) -> pa.Array:
        """Return an entry column of the asking events in journal order; null where an asking stream does not have it."""
        parts, rows = [], []
        for name in self._asking.values():
            group = batch.groups.get(name)
            if group is not None:
                has = column in group.columns.schema.names
                values = group.columns.column(column) if has else pa.nulls(len(group.rows), kind)
                parts.append(key_texts(values) if kind == pa.string() else feature_values(values, kind))
                rows.append(group.rows)
        if not parts:
            return pa.nulls(0, kind)
        joined = pa.concat_arrays(parts)
        return joined if len(parts) == 1 else joined.take(pa.array(np.argsort(np.concatenate(rows), kind="stable")))

    def _reference_features(self, reference: ReferenceState, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        group = batch.groups.get(reference.stream.name)
        keys = self._gather(batch, asks, reference.stream.key, pa.string())
        rows = group.rows if group is not None else np.empty(0, np.int64)
        columns, times = group.columns if group is not None else None, batch.journal_time_ms
        answers = reference.fold(columns, rows, batch.offsets[rows], keys, asks, times[asks], times[rows])
        return {feature.name: column for feature, column in zip(reference.features, answers, strict=True)}

    def _fold_views(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        position = np.full(len(batch), -1, np.int64)
        position[asks] = np.arange(len(asks))
        for table in self._requests.values():
            group = batch.groups.get(table.join.stream)
            if group is not None:
                table.remember(group.columns, batch.journal_time_ms[group.rows], batch.offsets[group.rows], int(batch.journal_time_ms[0]))
        slots: dict[tuple[str, str], NDArray[np.int64]] = {}
        found: dict[tuple[tuple[str, str, int], str, str], dict[str, NDArray[np.int64]]] = {}
        answers: dict[str, NDArray[np.float64]] = {}
        for state in self._views:
            out = np.full((len(state.features), len(asks)), np.nan)
            parts = []
            for name, group in batch.groups.items():
                own = self._slots(state.view, name, group, batch, slots, found)
                if own is not None:
                    parts.append(self._operations(state, name, group, own, batch))
                    if self._followed:
                        self._touched[state.view.entity or _GLOBAL].append(own)
            if parts:
                self._run(state, parts, batch, position, out)
            answers |= dict(zip(state.features, out, strict=True))
        return answers

    def _slots(
        self,
        view: ViewPlan,
        name: str,
        group: JournalGroup,
        batch: JournalBatch,
        slots: dict[tuple[str, str], NDArray[np.int64]],
        found: dict[tuple[tuple[str, str, int], str, str], dict[str, NDArray[np.int64]]],
    ) -> NDArray[np.int64] | None:
        """Return the entities that a stream's records name in a view, None when the stream has no part in it."""
        asking = self._plan.streams[name].index in self._asking
        if name != view.source and not (asking and (view.entity is None or name in view.entity_columns)):
            return None
        if view.entity is None:
            return np.full(len(group.rows), self._entities[_GLOBAL].slot(_GLOBAL), np.int64)
        if view.join is not None and name == view.source:
            key = _join_key(view.join)
            place = (key, name, view.join.column)
            if place not in found:
                rows = group.rows
                found[place] = self._requests[key].find(group.columns.column(view.join.column), batch.journal_time_ms[rows], batch.offsets[rows])
            return found[place][view.entity]
        if (view.entity, name) not in slots:
            slots[view.entity, name] = self._entities[view.entity].slots(group.columns.column(view.entity_columns[name]))
        return slots[view.entity, name]

    def _operations(self, state: ViewState, name: str, group: JournalGroup, slots: NDArray[np.int64], batch: JournalBatch) -> _Operations:
        view, layout, n = state.view, state.layout, len(group.rows)
        at = batch.journal_time_ms[group.rows]
        if name != view.source:
            values, hashes = np.full((n, len(layout.values)), np.nan), np.zeros((n, len(layout.distincts)), np.int64)
            return _Operations(group.rows, slots, np.zeros(n, np.bool_), at, values, hashes)
        if view.event_time:
            at = np.minimum(at, int64_ms(group.columns.column("_event_time")))
        values = np.empty((n, len(layout.values)))
        for v, expression in enumerate(layout.values):
            values[:, v] = _column(expression, group.columns).cast(pa.float64()).to_numpy(zero_copy_only=False)
        # What an expression of the view makes of finite columns may be none (1e200 * 1e200): no value, as at ingestion's door.
        values[np.isinf(values)] = np.nan
        hashes = np.empty((n, len(layout.distincts)), np.int64)
        for m, expression in enumerate(layout.distincts):
            hashes[:, m] = self._hashes.of(_column(expression, group.columns))
        return _Operations(group.rows, slots, self._counts(view, group), at, values, hashes)

    def _counts(self, view: ViewPlan, group: JournalGroup) -> NDArray[np.bool_]:
        """Which records of the source enter the view: on time, and the filter holds."""
        on_time = pc.invert(group.columns.column("_late"))
        wanted = on_time if view.where is None else pc.and_(on_time, pc.fill_null(_column(view.where, group.columns), False))
        return np.asarray(wanted.to_numpy(zero_copy_only=False), np.bool_)

    def _run(
        self, state: ViewState, parts: Sequence[_Operations], batch: JournalBatch, position: NDArray[np.int64], out: NDArray[np.float64]
    ) -> None:
        one = parts[0]
        if len(parts) > 1:
            order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
            one = _Operations(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in _Operations.__dataclass_fields__))
        size = len(self._entities[state.view.entity or _GLOBAL])
        now, offsets = batch.journal_time_ms[one.rows], batch.offsets[one.rows]
        state.fold(size, one.slots, now, one.at, offsets, one.update, position[one.rows], one.values, one.hashes, out)

    def _sweep(self) -> None:
        """Drop a few entities of which no answer can ever show anything again."""
        for kind, begin in self._swept.items():
            index = self._entities[kind]
            if not len(index):
                continue
            slots = np.arange(begin, min(begin + _SWEPT, len(index)))
            self._swept[kind] = int(slots[-1]) + 1 if slots[-1] + 1 < len(index) else 0
            own = [state for state in self._views if state.view.entity == kind]
            idle = np.all([state.idle(slots, self._now_ms) for state in own], axis=0)
            for slot in slots[idle].tolist():
                if index.names[slot] is None:
                    continue
                name = index.drop(slot)
                for state in own:
                    state.release(slot)
                    self._dropped.append(StateEntry(f"view|{state.view.name}|{name}".encode(), None))

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset from which a replay must start if only what `take_dirty` gave survives; None: nothing is missing."""
        parts: list[ViewState | ReferenceState | RequestKeys] = [*self._views, *self._references, *self._requests.values()]
        return min((offset for part in parts if (offset := part.oldest_dirty_offset) is not None), default=None)

    def take_dirty(self, budget_bytes: int) -> list[StateEntry]:
        """Return changed state as blobs, about `budget_bytes` of it, the longest unwritten first within a view."""
        entries, self._dropped = self._dropped, []
        share = max(1, budget_bytes // max(1, len(self._views)))
        for state in self._views:
            names = self._entities[state.view.entity or _GLOBAL].names
            prefix = state.prefix
            entries.extend(StateEntry(f"{prefix}{names[slot]}".encode(), blob) for slot, blob in state.take_dirty(share))
        for reference in self._references:
            names = reference.index.names
            entries.extend(StateEntry(f"reference|{reference.stream.name}|{names[slot]}".encode(), blob) for slot, blob in reference.take_dirty())
        if self._requests:
            safe_ms = self._journal_time_at(self.oldest_dirty_offset)
            for table in self._requests.values():
                entries.extend(table.take_dirty(safe_ms))
        return entries

    def _journal_time_at(self, offset: int | None) -> int:
        """Journal time before which nothing will be replayed."""
        if offset is None:
            return self._now_ms
        while len(self._begun) > 1 and self._begun[1][0] <= offset:
            self._begun.popleft()
        return self._begun[0][1] if self._begun else self._now_ms

    def load(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        """Take a run of a checkpoint's log (see `CheckpointLoading`); `restore` follows."""
        self._loading.take(keys, values)

    def restore(self, entries: Sequence[StateEntry]) -> None:
        """Load blobs, in addition to what `load` has taken; a replay from the checkpoint's marker makes the state whole.

        Raises
        ------
        ValueError
            An entry belongs to no view or reference stream of this application.
        """
        self._loading.take([entry.key for entry in entries], [entry.value for entry in entries])
        self._loading.finish()


def _join_key(join: JoinPlan) -> tuple[str, str, int]:
    return join.stream, join.request_column, join.within_ms


def _divided(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio, NaN where it is no number."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = above / below
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _column(expression: Expression, columns: pa.RecordBatch) -> pa.Array:
    """Evaluate an expression; a bare column is taken as it is."""
    index = columns.schema.get_field_index(expression.sql)
    return columns.column(index) if index >= 0 else expression.evaluate(columns)
