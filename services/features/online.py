"""Follows vectors into the online store; never in the way of predictions."""

import logging
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from shared.application.plan import Plan
from shared.avro.journal import JournalBatch
from shared.online_store.layout import entity_features
from shared.online_store.store import OnlineFeatures, OnlineStore, OnlineStoreUnreachableError

log = logging.getLogger(__name__)
_RETRY_S = 1.0


class OnlineWriter:
    """Keeps the latest features of each entity until they are in the store.

    The store is for readers, not for the pipeline: while it is away vectors and predictions go on, the latest value of each entity waits
    here (memory: one vector an entity), and a call a second tries again. After a crash meanwhile an entity stays behind until its next
    request; the journal offset stored with it says so.
    """

    def __init__(self, plan: Plan, store: OnlineStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._store, self._clock = plan, store, clock
        self._views = {name: [view for view in plan.views if view.entity == name] for name in {view.entity: None for view in plan.views}}
        self._features = {name: entity_features(plan, name) for name in self._views}
        self._collected: dict[str, dict[str, OnlineFeatures]] = {name: {} for name in self._views}
        self._committed: dict[str, dict[str, OnlineFeatures]] = {name: {} for name in self._views}
        self._away_since: float | None = None
        self._next_try = 0.0

    def collect(self, batch: JournalBatch, vectors: pa.RecordBatch) -> None:
        """Take note of a step's vectors."""
        offsets = vectors.column("_journal_offset").to_numpy()
        times = vectors.column("_journal_time").cast(pa.int64()).to_numpy()
        row_of = {int(offset): row for row, offset in enumerate(offsets.tolist())}
        for entity, views in self._views.items():
            last: dict[str, int] = {}
            for stream, column in views[0].ask_columns.items():
                group = batch.groups.get(stream)
                if group is None:
                    continue
                asked = batch.offsets[group.rows].tolist()
                for key, offset in zip(group.columns.column(column).to_pylist(), asked, strict=True):
                    if key is not None and offset in row_of:
                        last[str(key)] = max(row_of[offset], last.get(str(key), -1))
            if not last:
                continue
            rows = np.fromiter(last.values(), np.int64, len(last))
            chosen = vectors.take(pa.array(rows))
            matrix = np.column_stack([_floats(chosen.column(name)) for name in self._features[entity]])
            for i, (key, row) in enumerate(last.items()):
                self._collected[entity][key] = OnlineFeatures(int(offsets[row]), int(times[row]), matrix[i])

    def flush(self) -> None:
        """Write what is committed, or keep it for later when the store is away."""
        for entity, found in self._collected.items():
            self._committed[entity].update(found)
            found.clear()
        now = self._clock()
        if now < self._next_try:
            return
        for entity, waiting in self._committed.items():
            if not waiting:
                continue
            ttl = self._views[entity][0].ttl_ms
            try:
                self._store.put(entity, waiting, ttl)
            except OnlineStoreUnreachableError as error:
                self._next_try = now + _RETRY_S
                if self._away_since is None:
                    self._away_since = now
                    log.warning("the online store is away; predictions go on", extra={"error": str(error)})
                return
            waiting.clear()
        if self._away_since is not None:
            log.info("the online store is back", extra={"away_s": round(now - self._away_since, 1)})
            self._away_since = None

    @property
    def waiting(self) -> int:
        """Entities whose latest features are not in the store yet."""
        return sum(len(waiting) for waiting in self._committed.values())


def _floats(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
