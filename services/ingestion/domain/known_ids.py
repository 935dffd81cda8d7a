"""Which events of a stream are known, for as long as a copy of one may come."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.identity_hash import identity_hashes
from tidemill.shared.log.records import StateEntry
from tidemill.shared.mapped_memory import mapped_words

_FIRST_ROOM = 1_024
_CHUNK = 2_048
# Slots of the table that is left behind which are looked at for each id that is added: it is empty before the next one is full.
_SHARE = 16
_NONE_LEFT: NDArray[np.int64] = np.zeros((1, 4), np.int64)
_EMPTY, _UNSETTLED, _SETTLED = 0, 1, 2
_NEVER = np.iinfo(np.int64).min


@njit(cache=True, nogil=True, error_model="numpy")
def _find(table, one, two):  # pragma: no cover
    mask = table.shape[0] - 1
    i = (one ^ two) & mask
    while table[i, 3] != _EMPTY and (table[i, 0] != one or table[i, 1] != two):
        i = (i + 1) & mask
    return i


@njit(cache=True, nogil=True, error_model="numpy")
def _bring(table, i, left, one, two):  # pragma: no cover
    """Copy an id from the table that is left behind to an empty slot, if it is there."""
    j = _find(left, one, two)
    if left[j, 3] != _EMPTY:
        for e in range(4):
            table[i, e] = left[j, e]


@njit(cache=True, nogil=True, error_model="numpy")
def _claim(table, left, ids, earliest, latest, within, slots):  # pragma: no cover
    """Claim a slot for each id that is new, -1 for copies; returns how many empty slots were taken, and the first row that is in doubt."""
    taken = 0
    for k in range(ids.shape[0]):
        i = _find(table, ids[k, 0], ids[k, 1])
        if table[i, 3] == _EMPTY:
            taken += 1
            _bring(table, i, left, ids[k, 0], ids[k, 1])
        if table[i, 3] == _EMPTY:
            table[i, 0], table[i, 1], table[i, 2] = ids[k, 0], ids[k, 1], _NEVER
        elif table[i, 3] == _UNSETTLED or (table[i, 2] != _NEVER and latest[k] - table[i, 2] <= within):
            slots[k] = -1
            continue
        elif table[i, 2] != _NEVER and earliest[k] - table[i, 2] <= within:
            return taken, k
        table[i, 3] = _UNSETTLED
        slots[k] = i
    return taken, ids.shape[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _give_back(table, slots):  # pragma: no cover
    for k in range(slots.size):
        if slots[k] >= 0:
            table[slots[k], 3] = _SETTLED


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(table, slots, times):  # pragma: no cover
    for k in range(slots.size):
        table[slots[k], 2], table[slots[k], 3] = times[k], _SETTLED


@njit(cache=True, nogil=True, error_model="numpy")
def _put(table, left, ids, times):  # pragma: no cover
    """Remember ids with their newest times; returns how many empty slots were taken."""
    taken = 0
    for k in range(ids.shape[0]):
        i = _find(table, ids[k, 0], ids[k, 1])
        if table[i, 3] == _EMPTY:
            taken += 1
            _bring(table, i, left, ids[k, 0], ids[k, 1])
        if table[i, 3] == _EMPTY:
            table[i, 0], table[i, 1], table[i, 2], table[i, 3] = ids[k, 0], ids[k, 1], times[k], _SETTLED
        elif times[k] > table[i, 2]:
            table[i, 2] = times[k]
    return taken


@njit(cache=True, nogil=True, error_model="numpy")
def _move(left, begin, end, table, oldest):  # pragma: no cover
    """Copy what may still be asked for in some slots of the table that is left behind; returns how many empty slots were taken."""
    taken = 0
    for j in range(begin, end):
        if left[j, 3] != _EMPTY and left[j, 2] >= oldest:
            i = _find(table, left[j, 0], left[j, 1])
            if table[i, 3] == _EMPTY:
                taken += 1
                for e in range(4):
                    table[i, e] = left[j, e]
    return taken


class KnownIds:
    """Ids of the events of one stream that were accepted within the last `within_ms` of journal time.

    A record is a copy if a record with its id was accepted at most `within_ms` before, both in journal time. Whatever else the table still holds
    makes no difference, so what is found depends on the journal alone, never on batching, restarts or the size of the table.

    Ids are kept as 128 bits under a secret key (`identity_hashes`), 32 bytes with their journal time, in a table that is at most two thirds full and
    lies in a mapped file. One that is full is left behind for another little by little, a few slots with each id that comes: nobody waits for
    millions to be moved. A checkpoint holds ids in chunks of at most 2,048, oldest first, which are deleted as they age.

    Parameters
    ----------
    folder
        Where the mapped file lies; None: with other temporary files.
    """

    def __init__(self, stream: str, within_ms: int, key: bytes, folder: Path | None = None) -> None:
        self.stream = stream
        self.within_ms = within_ms
        self._key = key
        self._folder = folder
        self._table = mapped_words((_FIRST_ROOM, 4), folder)
        self._used = 0
        self._left = _NONE_LEFT
        self._moved = 0
        self._newest_ms = 0
        self._unwritten: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._changed = False
        self._chunks: deque[tuple[int, int]] = deque()
        self._next_chunk = 0

    def hashes(self, texts: pa.Array) -> NDArray[np.int64]:
        """Return what stands for ids, shape (n, 2)."""
        return identity_hashes(texts, self._key)

    def claim(self, ids: NDArray[np.int64], earliest_ms: NDArray[np.int64], latest_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Say which ids are new, of records whose journal times are known within bounds only.

        Parameters
        ----------
        ids : int64 array, shape (n, 2)
        earliest_ms, latest_ms : int64 arrays, shape (n,)
            Bounds of the journal times; all of them lie within `within_ms`, so that the second of two equal ids is a copy.

        Returns
        -------
        slots : int64 array, shape (m,)
            Of the ids that are new, -1 for copies. `settle` or `give_back` must follow for each that is new.
        m : int
            The first row for which it matters where between its bounds it lies; n if there is none.
        """
        self._make_room(len(ids))
        slots = np.empty(len(ids), np.int64)
        taken, certain = _claim(self._table, self._left, ids, earliest_ms, latest_ms, self.within_ms, slots)
        self._used += taken
        return slots[:certain], certain

    def give_back(self, slots: NDArray[np.int64]) -> None:
        """Undo claims."""
        _give_back(self._table, slots)

    def settle(self, ids: NDArray[np.int64], slots: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        """Remember claimed ids with the journal times of their records, in journal order; arrays over the new ones only."""
        if len(ids):
            _settle(self._table, slots, times_ms)
            self._newest_ms = max(self._newest_ms, int(times_ms[-1]))
            self._note(ids, times_ms)

    def remember(self, texts: pa.Array, times_ms: NDArray[np.int64]) -> None:
        """Learn from the journal which events were accepted, and when; in journal order."""
        if len(texts):
            ids = self.hashes(texts)
            self._insert(ids, times_ms)
            self._note(ids, times_ms)

    def take_dirty(self) -> list[StateEntry]:
        """Return what is new since the last call as chunks, and delete chunks in which nothing can be asked for any more."""
        entries = []
        if self._changed:
            self._changed = False
            ids, times = (np.concatenate([part[i] for part in self._unwritten]) for i in range(2))
            full = len(ids) // _CHUNK * _CHUNK
            for begin in range(0, len(ids), _CHUNK):
                rows = slice(begin, begin + _CHUNK)
                number = self._next_chunk + begin // _CHUNK
                entries.append(StateEntry(self._chunk_key(number), np.column_stack([ids[rows], times[rows]]).tobytes()))
                if begin < full:
                    self._chunks.append((number, int(times[rows][-1])))
            # The last chunk stays open until it is full: it is written again with what comes to it.
            self._next_chunk += full // _CHUNK
            self._unwritten = [(ids[full:], times[full:])] if full < len(ids) else []
        while self._chunks and self._chunks[0][1] < self._newest_ms - self.within_ms:
            entries.append(StateEntry(self._chunk_key(self._chunks.popleft()[0]), None))
        return entries

    def restore(self, chunks: Sequence[tuple[int, bytes]]) -> None:
        """Load chunks by their numbers, as `take_dirty` packed them."""
        for number, blob in sorted(chunks):
            rows = np.frombuffer(blob, np.int64).reshape(-1, 3)
            ids, times = np.ascontiguousarray(rows[:, :2]), np.ascontiguousarray(rows[:, 2])
            self._insert(ids, times)
            self._chunks.append((number, int(times[-1])))
            self._next_chunk = number + 1

    def _note(self, ids: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        self._unwritten.append((ids, times_ms))
        self._changed = True

    def _insert(self, ids: NDArray[np.int64], times_ms: NDArray[np.int64]) -> None:
        self._newest_ms = max(self._newest_ms, int(times_ms[-1]))
        self._make_room(len(ids))
        self._used += _put(self._table, self._left, ids, times_ms)

    def _make_room(self, count: int) -> None:
        self._move(_SHARE * count)
        if 3 * (self._used + count) <= 2 * len(self._table):
            return
        self._move(len(self._left))
        # What is in chunks that are not deleted, or in none yet: no less than what can be asked for.
        live = min(self._used, _CHUNK * len(self._chunks) + sum(len(times) for _, times in self._unwritten)) + count
        # A table that shrinks does so by steps: what is left behind has to be empty before this one is full.
        room = max(_FIRST_ROOM, len(self._table) // 4)
        while room < 3 * live:
            room *= 2
        self._left, self._moved = self._table, 0
        self._table, self._used = mapped_words((room, 4), self._folder), 0
        self._move(_SHARE * count)

    def _move(self, slots: int) -> None:
        """Look at so many slots more of the table that is left behind; once all have been it goes."""
        if self._left is _NONE_LEFT:
            return
        end = min(len(self._left), self._moved + slots)
        self._used += _move(self._left, self._moved, end, self._table, self._newest_ms - self.within_ms)
        self._moved = end
        if end == len(self._left):
            self._left = _NONE_LEFT

    def _chunk_key(self, number: int) -> bytes:
        return f"ids|{self.stream}|{number}".encode()
