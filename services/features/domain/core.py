"""The feature engine: a fold over the journal that answers every asking event with a vector."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.features.domain.entities import EntityIndex
from services.features.domain.reference_state import ReferenceState
from services.features.domain.view_state import ViewState
from shared.application.plan import Plan
from shared.avro.journal import JournalBatch, JournalGroup
from shared.streaming.records import StateEntry


class FeaturesCore:
    """Computes one vector per asking event. Pure: no clock, no I/O; the same journal gives the same bits in any batching.

    A request sees every record before it in the journal, and itself where its own stream is a view's source. Windows are
    (T - window, T] over journal time, T the request's; a record enters when it is journalled, so an arrival is feedback from the moment it
    is known. Late records are skipped by views and still answered.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._entities: dict[str, EntityIndex] = {view.entity: EntityIndex() for view in plan.views}
        self._views = [ViewState(view) for view in plan.views]
        self._references = [ReferenceState(stream, plan.features) for stream in plan.reference_streams]
        self._asking = {plan.streams[name].index: name for name in plan.asking_streams}

    def process(self, batch: JournalBatch) -> pa.RecordBatch:
        """Fold a run of the journal; returns the vectors (columns of the plan's vector schema) in journal order."""
        asks = np.flatnonzero(np.isin(batch.stream_index, list(self._asking)))
        n = len(asks)
        columns: dict[str, pa.Array] = self._envelope(batch, asks)
        columns |= self._event_features(batch, asks)
        for reference in self._references:
            columns |= self._reference_features(reference, batch, asks)
        position = np.full(len(batch), -1, np.int64)
        position[asks] = np.arange(n)
        for state in self._views:
            out = np.full((len(state.view.aggregates), n), np.nan)
            self._fold(state, batch, position, out)
            for aggregate, answers in zip(state.view.aggregates, out, strict=True):
                columns[aggregate.feature] = pa.array(answers, from_pandas=True)
        schema = self._plan.vector_arrow
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    def replay(self, batch: JournalBatch) -> None:
        """Apply records that blobs may or may not include already; no output."""
        self.process(batch)

    def _envelope(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        stamp = pa.timestamp("ms")
        return {
            "_request_id": self._gather(batch, asks, "_event_id", pa.string()),
            "_ask": pa.array([self._asking[int(i)] for i in batch.stream_index[asks]], pa.string()),
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
                columns[feature.name] = self._gather(batch, asks, feature.column, kind)
        return columns

    def _gather(self, batch: JournalBatch, asks: NDArray[np.int64], column: str, kind: pa.DataType) -> pa.Array:
        """Return an entry column of the asking events in journal order; null where an asking stream does not have it."""
        parts, rows = [], []
        for name in self._asking.values():
            group = batch.groups.get(name)
            if group is not None:
                has = column in group.columns.schema.names
                parts.append(group.columns.column(column).cast(kind) if has else pa.nulls(len(group.rows), kind))
                rows.append(group.rows)
        if not parts:
            return pa.nulls(0, kind)
        joined = pa.concat_arrays(parts)
        return joined if len(parts) == 1 else joined.take(pa.array(np.argsort(np.concatenate(rows), kind="stable")))

    def _reference_features(self, reference: ReferenceState, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        group = batch.groups.get(reference.stream.name)
        keys = self._gather(batch, asks, reference.stream.key, pa.string())
        rows = group.rows if group is not None else np.empty(0, np.int64)
        answers = reference.fold(group.columns if group is not None else None, rows, batch.offsets[rows], keys, asks, batch.journal_time_ms[asks])
        return {feature.name: column for feature, column in zip(reference.features, answers, strict=True)}

    def _fold(self, state: ViewState, batch: JournalBatch, position: NDArray[np.int64], out: NDArray[np.float64]) -> None:
        view, index = state.view, self._entities[state.view.entity]
        slots = np.full(len(batch), -1, np.int64)
        involved = np.zeros(len(batch), np.bool_)
        update = np.zeros(len(batch), np.bool_)
        values = np.full((len(batch), max(1, len(state.expressions))), np.nan)
        for name, group in batch.groups.items():
            asking = self._plan.streams[name].index in self._asking and name in view.ask_columns
            if name != view.source and not asking:
                continue
            slots[group.rows] = index.slots(group.columns.column(view.ask_columns[name]))
            involved[group.rows] = True
            if name == view.source:
                update[group.rows] = self._counts(state, group)
                for v, expression in enumerate(state.expressions):
                    values[group.rows, v] = expression.evaluate(group.columns).cast(pa.float64()).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(involved)
        state.fold(len(index), slots[rows], batch.journal_time_ms[rows], batch.offsets[rows], update[rows], position[rows], values[rows], out)

    def _counts(self, state: ViewState, group: JournalGroup) -> NDArray[np.bool_]:
        """Which records of the source enter the view: on time, and the filter holds."""
        on_time = pc.invert(group.columns.column("_late"))
        where = state.view.where
        wanted = on_time if where is None else pc.and_(on_time, pc.fill_null(where.evaluate(group.columns), False))
        return np.asarray(wanted.to_numpy(zero_copy_only=False), np.bool_)

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset from which a replay must start if only what `take_dirty` gave survives; None: nothing is missing."""
        dirty = [view.oldest_dirty_offset for view in self._views] + [reference.oldest_dirty_offset for reference in self._references]
        return min((offset for offset in dirty if offset is not None), default=None)

    def take_dirty(self, budget_bytes: int) -> list[StateEntry]:
        """Return changed state as blobs, about `budget_bytes` of it, the longest unwritten first within a view."""
        entries: list[StateEntry] = []
        share = max(1, budget_bytes // max(1, len(self._views)))
        for state in self._views:
            names = self._entities[state.view.entity].names
            entries.extend(StateEntry(f"view|{state.view.name}|{names[slot]}".encode(), blob) for slot, blob in state.take_dirty(share))
        for reference in self._references:
            names = reference.index.names
            entries.extend(StateEntry(f"reference|{reference.stream.name}|{names[slot]}".encode(), blob) for slot, blob in reference.take_dirty())
        return entries

    def restore(self, entries: list[StateEntry]) -> None:
        """Load blobs; a replay from the checkpoint's marker makes the state whole."""
        views = {state.view.name: state for state in self._views}
        references = {reference.stream.name: reference for reference in self._references}
        for entry in entries:
            kind, name, entity = entry.key.decode().split("|", 2)
            if entry.value is None:
                continue
            if kind == "view" and name in views:
                views[name].unpack(self._entities[views[name].view.entity].slot(entity), entry.value)
            elif kind == "reference" and name in references:
                references[name].unpack(references[name].index.slot(entity), entry.value)
            else:
                raise ValueError(
                    f"checkpoint entry {entry.key!r} belongs to no view or reference stream of this application; rebuild from the journal"
                )
