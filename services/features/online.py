"""Follows the state of the features into the online store; never in the way of predictions."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.online_store.store import FeatureSlice, FillState, OnlineStore, OnlineStoreUnavailableError, Receipt

log = logging.getLogger(__name__)
_RETRY_S = 1.0
_CONFIRM_S = 0.1
_TARGET_S = 0.002
_SLICE = range(64, 20_001)
_WAITING_LIMIT = 200_000


class EntityState(Protocol):
    """What the writer reads of a features core, always between two steps, when all of it is committed."""

    def touched(self) -> Mapping[str, Sequence[str]]:
        """Return the keys that were updated or asked about since the last call, by entity; replayed records count."""
        ...

    def read(self, entity: str, keys: Sequence[str], now_ms: int) -> NDArray[np.float64]:
        """Return the features of an entity's views as of a journal time, shape (keys, features); changes nothing.

        A key without state (its time to live may have passed meanwhile) is answered as an entity never seen.
        """
        ...

    def known(self, entity: str) -> Sequence[str]:
        """Return every key that the views of an entity have state of."""
        ...


@dataclass(slots=True)
class _Following:
    """How far the store has followed one entity."""

    waiting: dict[str, None] = field(default_factory=dict)
    generation: str = ""
    lost: bool = False
    rewrite: Sequence[str] = ()
    rewritten: int = 0
    confirmed: int = -1

    @property
    def behind(self) -> bool:
        return bool(self.waiting) or self.lost or self.rewritten < len(self.rewrite)


@dataclass(frozen=True, slots=True)
class _Writing:
    """What is under way: the slices, and their receipts to come."""

    parts: Mapping[str, FeatureSlice]
    receipts: Future[Mapping[str, Receipt]]


class OnlineWriter:
    """Writes the features of every entity after its last update or request.

    Between two steps the values of what was touched are computed from the committed state and handed to a thread that writes them; while
    it does, the next touched entities gather. At most one slice is under way, of a size that takes the task about two milliseconds, so a
    slow store makes values older, not predictions later. While the store is away only the *names* of touched entities wait.

    The store's generation tells when it has lost what it had (flush, restart without data, a new layout): then every entity the core
    knows is written again, in slices behind the current ones. So it is after a start, unless the store is known to hold everything.

    Parameters
    ----------
    partition
        Journal partition of the task.
    executor
        Writes; one thread is enough for all tasks of a process.
    clock
        Monotonic seconds; decides when something is written, never what.
    """

    def __init__(
        self,
        store: OnlineStore,
        partition: int,
        executor: Executor,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics or Metrics("features")
        self._store, self._partition, self._executor, self._clock = store, partition, executor, clock
        self._following = {entity: _Following() for entity in store.layouts}
        self._resumed_at = 0
        self._look: Future[Mapping[str, FillState | None]] | None = None
        self._looked = False
        self._writing: _Writing | None = None
        self._slice = 1_000
        self._first = 0
        self._next_try = self._next_confirmation = 0.0
        self._away_since: float | None = None

    def resume(self, offset: int) -> None:
        """Learn the journal offset up to which the previous incarnation had committed."""
        self._resumed_at = offset

    def flush(self, state: EntityState, offset: int, journal_time_ms: int) -> None:
        """Hand what is due to the store; returns without waiting for it.

        Parameters
        ----------
        offset, journal_time_ms
            The state holds every journal record below the offset, all of it committed, and has come to that time.
        """
        for entity, keys in state.touched().items():
            if entity in self._following:
                self._note(self._following[entity], keys)
        if self._settle() and journal_time_ms >= 0 and self._clock() >= self._next_try:
            if not self._looked:
                self._look = self._executor.submit(_standings, self._store, self._partition)
            elif parts := self._parts(state, offset, journal_time_ms):
                self._writing = _Writing(parts, self._executor.submit(_write, self._store, parts))
        self._metrics.observe_online(self._partition, self.waiting, self._away_since is not None)

    @property
    def waiting(self) -> int:
        """Entities whose latest features are not known to be in the store."""
        under_way = sum(len(part.keys) for part in self._writing.parts.values()) if self._writing else 0
        return under_way + sum(len(one.waiting) + len(one.rewrite) - one.rewritten for one in self._following.values())

    def _note(self, one: _Following, keys: Sequence[str]) -> None:
        one.waiting.update(dict.fromkeys(keys))
        if len(one.waiting) > _WAITING_LIMIT:  # The store has been away for long: a rewrite needs no list of what has changed.
            one.waiting.clear()
            one.lost = True

    def _settle(self) -> bool:
        """Take up what the thread has done; False while it is still at it."""
        try:
            if self._look is not None:
                if not self._look.done():
                    return False
                look, self._look = self._look, None
                self._begin(look.result())
            if self._writing is not None:
                if not self._writing.receipts.done():
                    return False
                writing, self._writing = self._writing, None
                self._acknowledge(writing)
        except OnlineStoreUnavailableError as error:
            self._next_try = self._clock() + _RETRY_S
            if self._away_since is None:
                self._away_since = self._clock()
                log.warning("the online store is away; predictions go on", extra={"error": str(error)})
        return True

    def _begin(self, standings: Mapping[str, FillState | None]) -> None:
        self._looked = True
        self._returned()
        for entity, standing in standings.items():
            one = self._following[entity]
            one.generation = standing.generation if standing is not None else ""
            one.lost = one.lost or standing is None or standing.complete_to < self._resumed_at

    def _acknowledge(self, writing: _Writing) -> None:
        try:
            receipts = writing.receipts.result()
        except OnlineStoreUnavailableError:
            for entity, part in writing.parts.items():
                self._note(self._following[entity], part.keys)
            raise
        self._returned()
        for entity, receipt in receipts.items():
            self._metrics.count_online_written(receipt.written)
            one, part = self._following[entity], writing.parts[entity]
            if receipt.generation == one.generation:
                one.confirmed = part.journal_offset if part.completes else one.confirmed
            else:  # The first writer of a store names its generation; later, another one means that everything is gone.
                one.lost, one.generation = one.lost or one.generation != "", receipt.generation

    def _returned(self) -> None:
        if self._away_since is not None:
            log.info("the online store is back", extra={"away_s": round(self._clock() - self._away_since, 1)})
            self._away_since = None

    def _parts(self, state: EntityState, offset: int, journal_time_ms: int) -> Mapping[str, FeatureSlice]:
        begun, room = self._clock(), self._slice
        confirms = begun >= self._next_confirmation
        parts: dict[str, FeatureSlice] = {}
        entities = list(self._following)
        self._first = (self._first + 1) % max(1, len(entities))
        for entity in entities[self._first :] + entities[: self._first]:
            one = self._following[entity]
            if one.lost:
                self._begin_rewrite(entity, one, state.known(entity))
            keys = self._due(entity, one, room)
            room -= len(keys)
            if keys or (confirms and not one.behind and one.confirmed < offset):
                values = state.read(entity, keys, journal_time_ms) if keys else np.empty((0, len(self._store.layouts[entity].features)))
                parts[entity] = FeatureSlice(self._partition, keys, values, offset, journal_time_ms, one.generation, not one.behind)
        if parts:
            self._pace(self._clock() - begun, room == 0)
            self._next_confirmation = begun + _CONFIRM_S
        return parts

    def _begin_rewrite(self, entity: str, one: _Following, known: Sequence[str]) -> None:
        one.lost, one.rewrite, one.rewritten = False, tuple(known), 0
        self._metrics.count_online_refill()
        log.info("the online store is filled from state", extra={"entity": entity, "partition": self._partition, "entities": len(one.rewrite)})

    def _due(self, entity: str, one: _Following, room: int) -> list[str]:
        """Take up to `room` keys: what was touched first, then what is written again."""
        keys = list(islice(one.waiting, room))
        for key in keys:
            del one.waiting[key]
        again = one.rewrite[one.rewritten : one.rewritten + room - len(keys)]
        one.rewritten += len(again)
        if one.rewrite and one.rewritten == len(one.rewrite):
            one.rewrite, one.rewritten = (), 0
            log.info("every entity is handed to the online store", extra={"entity": entity, "partition": self._partition})
        return [*keys, *again]

    def _pace(self, took_s: float, full: bool) -> None:
        if took_s > _TARGET_S:
            self._slice = max(_SLICE.start, self._slice // 2)
        elif full and took_s < _TARGET_S / 2:
            self._slice = min(_SLICE.stop - 1, self._slice * 2)


def _standings(store: OnlineStore, partition: int) -> Mapping[str, FillState | None]:
    return {entity: store.standing(entity, partition) for entity in store.layouts}


def _write(store: OnlineStore, parts: Mapping[str, FeatureSlice]) -> Mapping[str, Receipt]:
    return {entity: store.write(entity, part) for entity, part in parts.items()}
