"""Which entities a request had, remembered until its label comes, which may carry nothing but the request's id."""

import io
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.features.domain.entities import EntityIndex
from tidemill.services.features.domain.hashing import identity_words
from tidemill.services.features.domain.kernels.compiled import entry, inner
from tidemill.shared.application.plan import JoinPlan, ViewPlan
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.log.records import StateEntry
from tidemill.shared.mapped_memory import mapped_words

JoinKey = tuple[str, str, int]
"""Joins of the same stream, column and reach share a table."""
_HEAD = 4
_FIRST_ROOM = 1_024
# Slots of the table that is left behind which are looked at for each request that comes: it is empty before the next one is full.
_SHARE = 16


@inner
def _find(table, one, two):  # pragma: no cover
    mask = table.shape[0] - 1
    i = (one ^ two) & mask
    while (table[i, 0] != 0 or table[i, 1] != 0) and (table[i, 0] != one or table[i, 1] != two):
        i = (i + 1) & mask
    return i


@inner
def _is_empty(table, i):  # pragma: no cover
    return table[i, 0] == 0 and table[i, 1] == 0


@entry
def _put(table, ids, times, offsets, slots):  # pragma: no cover
    """Add requests; returns how many were new."""
    new = 0
    for k in range(ids.shape[0]):
        if ids[k, 0] == 0 and ids[k, 1] == 0:
            continue
        i = _find(table, ids[k, 0], ids[k, 1])
        new += _is_empty(table, i)
        table[i, 0], table[i, 1], table[i, 2], table[i, 3] = ids[k, 0], ids[k, 1], times[k], offsets[k]
        for e in range(slots.shape[1]):
            table[i, 4 + e] = slots[k, e]
    return new


@entry
def _move(left, begin, end, table, oldest):  # pragma: no cover
    """Copy what may still be asked for, and has not come again since, in some slots of the table that is left behind; returns how many."""
    moved = 0
    for j in range(begin, end):
        if not _is_empty(left, j) and left[j, 2] >= oldest:
            i = _find(table, left[j, 0], left[j, 1])
            if _is_empty(table, i):
                moved += 1
                for e in range(left.shape[1]):
                    table[i, e] = left[j, e]
    return moved


@entry
def _look_up(table, left, ids, times, offsets, within, slots):  # pragma: no cover
    for k in range(ids.shape[0]):
        here = table
        i = _find(here, ids[k, 0], ids[k, 1])
        if _is_empty(here, i):
            here = left
            i = _find(here, ids[k, 0], ids[k, 1])
        known = not _is_empty(here, i) and times[k] - here[i, 2] <= within and here[i, 3] < offsets[k]
        for e in range(slots.shape[1]):
            slots[k, e] = here[i, 4 + e] if known else -1


class RequestKeys:
    """Entities of the requests of one stream, by request id, for as long as the join says.

    A large table lies in an unnamed file mapped into memory, so what is not in use leaves memory when that is short. One that is half full is left
    behind for another little by little, a few slots with each request that comes. Ids are known by 128 bits. Pure in effect and replay-safe: what is
    found depends on the journal alone. A request that stands behind its label in the journal is not found.

    Parameters
    ----------
    kinds
        By kind of entity, its index and the request's column that names it.
    folder
        Where the file lies; None: with other temporary files.
    """

    def __init__(self, join: JoinPlan, kinds: Mapping[str, tuple[EntityIndex, str]], folder: Path | None = None) -> None:
        self.join = join
        self._folder = folder
        self.kinds = dict(kinds)
        self.name = f"{join.stream}.{join.request_column}.{join.within_ms}"
        self._table = self._mapped(_FIRST_ROOM)
        self._used = 0
        self._left = self._none = self._mapped(1)
        self._moved = 0
        self._unwritten: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[pa.Array]]] = []
        self._chunks: OrderedDict[str, int] = OrderedDict()

    def _mapped(self, room: int) -> NDArray[np.int64]:
        return mapped_words((room, _HEAD + len(self.kinds)), self._folder)

    def remember(self, columns: pa.RecordBatch, times_ms: NDArray[np.int64], offsets: NDArray[np.int64], since_ms: int) -> None:
        """Take requests: their columns, journal times and offsets; no label before `since_ms` (journal time) will be asked for any more."""
        ids = identity_words(columns.column(self.join.request_column))
        names = [key_texts(columns.column(column)) for _, column in self.kinds.values()]
        self._insert(ids, times_ms, offsets, names, since_ms - self.join.within_ms)
        self._unwritten.append((ids, times_ms, offsets, names))

    def _insert(
        self, ids: NDArray[np.int64], times_ms: NDArray[np.int64], offsets: NDArray[np.int64], names: Sequence[pa.Array], oldest_ms: int
    ) -> None:
        slots = np.column_stack([index.slots(column) for (index, _), column in zip(self.kinds.values(), names, strict=True)])
        self._make_room(len(ids), oldest_ms)
        self._used += _put(self._table, ids, times_ms, offsets, slots)

    def _make_room(self, count: int, oldest_ms: int) -> None:
        self._move(_SHARE * count, oldest_ms)
        if 2 * (self._used + count) <= len(self._table):
            return
        self._move(len(self._left), oldest_ms)
        room = len(self._table)
        while 4 * (self._used + count) > room:
            room *= 2
        self._left, self._moved = self._table, 0
        self._table, self._used = self._mapped(room), 0
        self._move(_SHARE * count, oldest_ms)

    def _move(self, slots: int, oldest_ms: int) -> None:
        """Look at so many slots more of the table that is left behind; once all have been it goes."""
        if self._left is self._none:
            return
        end = min(len(self._left), self._moved + slots)
        self._used += _move(self._left, self._moved, end, self._table, oldest_ms)
        self._moved = end
        if end == len(self._left):
            self._left = self._none

    def find(self, ids: pa.Array, times_ms: NDArray[np.int64], offsets: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the slots of the requests with these ids, by kind of entity.

        -1 for what is not known at that place of the journal: not yet, not any more, or never.
        """
        slots = np.empty((len(ids), len(self.kinds)), np.int64)
        _look_up(self._table, self._left, identity_words(ids), times_ms, offsets, self.join.within_ms, slots)
        return {kind: np.ascontiguousarray(slots[:, e]) for e, kind in enumerate(self.kinds)}

    @property
    def oldest_dirty_offset(self) -> int | None:
        """Journal offset of the oldest request no blob includes."""
        return int(self._unwritten[0][2][0]) if self._unwritten else None

    def take_dirty(self, safe_ms: int) -> list[StateEntry]:
        """Pack the requests since the last call as one chunk, and delete the chunks that no label at or after `safe_ms` can ask for."""
        entries = []
        if self._unwritten:
            ids, times, offsets = (np.concatenate([part[i] for part in self._unwritten]) for i in range(3))
            names = {kind: pa.concat_arrays([part[3][e] for part in self._unwritten]) for e, kind in enumerate(self.kinds)}
            table = pa.table({"one": ids[:, 0], "two": ids[:, 1], "time": times, "offset": offsets, **names})
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                writer.write_table(table)
            key = f"requests|{self.name}|{offsets[0]}"
            entries.append(StateEntry(key.encode(), sink.getvalue()))
            self._know(key, int(times.max()))
            self._unwritten.clear()
        while self._chunks and next(iter(self._chunks.values())) < safe_ms - self.join.within_ms:
            entries.append(StateEntry(self._chunks.popitem(last=False)[0].encode(), None))
        return entries

    def _know(self, key: str, newest_ms: int) -> None:
        """Take note of a chunk. A replay may have begun where an earlier one did: under its key there is more now, which lasts longer."""
        self._chunks[key] = newest_ms
        self._chunks.move_to_end(key)

    def restore(self, chunks: Sequence[tuple[int, bytes]]) -> None:
        """Load chunks by the offset in their key, as `take_dirty` packed them."""
        for first, blob in sorted(chunks):
            table = pa.ipc.open_stream(blob).read_all()
            one, two, times, offsets = (table.column(name).to_numpy() for name in ("one", "two", "time", "offset"))
            names = [pa.concat_arrays(table.column(kind).chunks) for kind in self.kinds]
            self._insert(np.column_stack([one, two]), times, offsets, names, np.iinfo(np.int64).min)
            self._know(f"requests|{self.name}|{first}", int(times.max()))


def join_key(join: JoinPlan) -> JoinKey:
    """Return under which key the table of a join stands in what `request_tables` returns."""
    return join.stream, join.request_column, join.within_ms


def request_tables(views: Sequence[ViewPlan], entities: Mapping[str, EntityIndex], folder: Path | None) -> dict[JoinKey, RequestKeys]:
    """Make the tables that the views' joins need; `entities` by kind, `folder` as `RequestKeys` takes it."""
    kinds: dict[JoinKey, dict[str, tuple[EntityIndex, str]]] = {}
    joins: dict[JoinKey, JoinPlan] = {}
    for view in views:
        if view.join is not None and view.entity is not None:
            key = join_key(view.join)
            joins[key] = view.join
            kinds.setdefault(key, {})[view.entity] = (entities[view.entity], view.entity_columns[view.join.stream])
    return {key: RequestKeys(join, kinds[key], folder) for key, join in joins.items()}
