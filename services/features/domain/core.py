"""The feature engine: a fold over the journal that answers every asking event with a vector."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.features.domain.asking_events import AskingEvents
from tidemill.services.features.domain.batch_operations import BatchOperations
from tidemill.services.features.domain.checkpoint_loading import CheckpointLoading
from tidemill.services.features.domain.entities import WHOLE, EntityIndex
from tidemill.services.features.domain.hashing import ValueHashes
from tidemill.services.features.domain.kernels.state import Operations
from tidemill.services.features.domain.reference_state import ReferenceState
from tidemill.services.features.domain.request_keys import RequestKeys, request_tables
from tidemill.services.features.domain.view_state import ViewState
from tidemill.shared.application.journal import JournalBatch
from tidemill.shared.application.plan import Plan
from tidemill.shared.log.records import StateEntry

_SWEPT = 512


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
        self._followed = followed
        self._entities: dict[str, EntityIndex] = {view.entity or WHOLE: EntityIndex() for view in plan.views}
        self._views = [ViewState(view, plan.streams[view.source].allowed_lateness_ms) for view in plan.views]
        self._references = [ReferenceState(stream, plan.features) for stream in plan.reference_streams]
        self._asking = AskingEvents(plan)
        self._hashes = ValueHashes()
        self._requests = request_tables(plan.views, self._entities, spill_folder)
        joined = {view.entity for view in plan.views if view.join is not None}
        self._swept = {name: 0 for name in self._entities if name != WHOLE and name not in joined}
        self._dropped: list[StateEntry] = []
        indexes = [self._entities[state.view.entity or WHOLE] for state in self._views]
        self._loading = CheckpointLoading(list(zip(self._views, indexes, strict=True)), self._references, list(self._requests.values()))
        self._touched: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self._entities}
        self._now_ms = 0
        self._begun: deque[tuple[int, int]] = deque()
        self._ratios = [aggregate for view in plan.views for aggregate in view.aggregates if aggregate.kind == "ratio"]

    def process(self, batch: JournalBatch) -> pa.RecordBatch:
        """Fold a run of the journal; returns the vectors (columns of the plan's vector schema) in journal order."""
        asks = self._asking.rows(batch)
        columns = self._asking.envelope(batch, asks) | self._asking.features(batch)
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
        own = [state for state in self._views if (state.view.entity or WHOLE) == entity]
        answers: dict[str, NDArray[np.float64]] = {}
        for state in own:
            out = np.full((len(state.features), len(keys)), np.nan)
            nothing = np.zeros(len(keys), np.bool_)
            values = np.full((len(keys), len(state.layout.values)), np.nan)
            hashes = np.zeros((len(keys), len(state.layout.distincts)), np.int64)
            state.fold(len(index), Operations(slots, now, now, now, nothing, np.arange(len(keys)), values, hashes), out)
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
        touched = {}
        for kind, parts in self._touched.items():
            if parts:
                names = self._entities[kind].names
                touched[kind] = [name for slot in np.unique(np.concatenate(parts)).tolist() if slot >= 0 and (name := names[slot]) is not None]
                parts.clear()
        return touched

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

    def _reference_features(self, reference: ReferenceState, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, pa.Array]:
        group = batch.groups.get(reference.stream.name)
        keys = self._asking.gather(batch, reference.stream.key, pa.string())
        rows = group.rows if group is not None else np.empty(0, np.int64)
        columns, times = group.columns if group is not None else None, batch.journal_time_ms
        answers = reference.fold(columns, rows, batch.offsets[rows], keys, asks, times[asks], times[rows])
        return {feature.name: column for feature, column in zip(reference.features, answers, strict=True)}

    def _fold_views(self, batch: JournalBatch, asks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        for table in self._requests.values():
            group = batch.groups.get(table.join.stream)
            if group is not None:
                table.remember(group.columns, batch.journal_time_ms[group.rows], batch.offsets[group.rows], int(batch.journal_time_ms[0]))
        batch_operations = BatchOperations(self._plan, self._asking, self._entities, self._requests, self._hashes, batch, asks)
        answers: dict[str, NDArray[np.float64]] = {}
        for state in self._views:
            out = np.full((len(state.features), len(asks)), np.nan)
            operations = batch_operations.of(state.view, state.layout)
            if operations is not None:
                kind = state.view.entity or WHOLE
                if self._followed:
                    self._touched[kind].append(operations.slot)
                state.fold(len(self._entities[kind]), operations, out)
            answers |= dict(zip(state.features, out, strict=True))
        return answers

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
            names = self._entities[state.view.entity or WHOLE].names
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


def _divided(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio, NaN where it is no number."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = above / below
    return np.where(np.isfinite(ratio), ratio, np.nan)
