"""What the records of a run of the journal do to each view: the rows that the kernels fold."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.features.domain.asking_events import AskingEvents
from tidemill.services.features.domain.entities import WHOLE, EntityIndex
from tidemill.services.features.domain.hashing import ValueHashes
from tidemill.services.features.domain.kernels.layout_planning import ViewLayout
from tidemill.services.features.domain.kernels.state import Operations
from tidemill.services.features.domain.request_keys import JoinKey, RequestKeys, join_key
from tidemill.shared.application.column_roles import doubles
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import Plan, ViewPlan
from tidemill.shared.avro.arrow_types import int64_ms


class BatchOperations:
    """Operations of one run of the journal, view by view; what several views need is computed once.

    Parameters
    ----------
    entities
        By kind of entity; entities that the run names first get their slots here.
    requests
        Where views find the entities of a record that carries nothing but a request's id.
    hashes
        Of what is counted distinctly.
    """

    def __init__(
        self,
        plan: Plan,
        asking: AskingEvents,
        entities: Mapping[str, EntityIndex],
        requests: Mapping[JoinKey, RequestKeys],
        hashes: ValueHashes,
        batch: JournalBatch,
        asks: NDArray[np.int64],
    ) -> None:
        self._plan, self._asking, self._entities, self._requests, self._hashes, self._batch = plan, asking, entities, requests, hashes, batch
        self._answers = np.full(len(batch), -1, np.int64)
        self._answers[asks] = np.arange(len(asks))
        self._named: dict[tuple[str, str], NDArray[np.int64]] = {}
        self._joined: dict[tuple[JoinKey, str, str], dict[str, NDArray[np.int64]]] = {}

    def of(self, view: ViewPlan, layout: ViewLayout) -> Operations | None:
        """Return what the run does to a view; None when none of its streams came."""
        parts = []
        rows = []
        for name, group in self._batch.groups.items():
            slots = self._slots(view, name, group)
            if slots is not None:
                parts.append(self._part(view, layout, name, group, slots))
                rows.append(group.rows)
        if len(parts) < 2:
            return parts[0] if parts else None
        order = np.argsort(np.concatenate(rows), kind="stable")
        return Operations(*(np.concatenate(columns)[order] for columns in zip(*parts, strict=True)))

    def _slots(self, view: ViewPlan, name: str, group: JournalGroup) -> NDArray[np.int64] | None:
        """Return the entities that a stream's records name in a view, None when the stream has no part in it."""
        asking = self._plan.streams[name].index in self._asking
        if name != view.source and not (asking and (view.entity is None or name in view.entity_columns)):
            return None
        if view.entity is None:
            return np.full(len(group.rows), self._entities[WHOLE].slot(WHOLE), np.int64)
        if view.join is not None and name == view.source:
            key = join_key(view.join)
            place = (key, name, view.join.column)
            if place not in self._joined:
                times, offsets = self._batch.journal_time_ms[group.rows], self._batch.offsets[group.rows]
                self._joined[place] = self._requests[key].find(group.columns.column(view.join.column), times, offsets)
            return self._joined[place][view.entity]
        if (view.entity, name) not in self._named:
            self._named[view.entity, name] = self._entities[view.entity].slots(group.columns.column(view.entity_columns[name]))
        return self._named[view.entity, name]

    def _part(self, view: ViewPlan, layout: ViewLayout, name: str, group: JournalGroup, slots: NDArray[np.int64]) -> Operations:
        """Return the operations of one stream; a stream that only asks updates nothing."""
        n, rows = len(group.rows), group.rows
        now, offsets, answers = self._batch.journal_time_ms[rows], self._batch.offsets[rows], self._answers[rows]
        if name != view.source:
            values, hashes = np.full((n, len(layout.values)), np.nan), np.zeros((n, len(layout.distincts)), np.int64)
            return Operations(slots, now, now, offsets, np.zeros(n, np.bool_), answers, values, hashes)
        at = np.minimum(now, int64_ms(group.columns.column("_event_time"))) if view.event_time else now
        values = np.empty((n, len(layout.values)))
        for v, expression in enumerate(layout.values):
            values[:, v] = doubles(_column(expression, group.columns)).to_numpy(zero_copy_only=False)
        # What an expression of the view makes of finite columns may be none (1e200 * 1e200): no value, as at ingestion's door.
        values[np.isinf(values)] = np.nan
        hashes = np.empty((n, len(layout.distincts)), np.int64)
        for m, expression in enumerate(layout.distincts):
            hashes[:, m] = self._hashes.of(_column(expression, group.columns))
        return Operations(slots, now, at, offsets, _counts(view, group), answers, values, hashes)


def _counts(view: ViewPlan, group: JournalGroup) -> NDArray[np.bool_]:
    """Which records of the source enter the view: on time, and the filter holds."""
    on_time = pc.invert(group.columns.column("_late"))
    wanted = on_time if view.where is None else pc.and_(on_time, pc.fill_null(_column(view.where, group.columns), False))
    return np.asarray(wanted.to_numpy(zero_copy_only=False), np.bool_)


def _column(expression: Expression, columns: pa.RecordBatch) -> pa.Array:
    """Evaluate an expression; a bare column is taken as it is."""
    index = columns.schema.get_field_index(expression.sql)
    return columns.column(index) if index >= 0 else expression.evaluate(columns)
