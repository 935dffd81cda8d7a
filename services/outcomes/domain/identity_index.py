"""Finds rows by their ids without holding an object for each of them."""

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

_FIRST_ROOM = 64
_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1
_TAG_BITS = 31
_TAG_MASK = (1 << _TAG_BITS) - 1
# Linear probing: a search that finds nothing reads 5 slots on average at 0.66 and 13 at 0.8.
_FULLEST, _EMPTIEST, _GROWTH = 0.8, 0.2, 1.4


@njit(cache=True, nogil=True, error_model="numpy")
def _find(slots, tag, skip):  # pragma: no cover
    """Return the row of the match number `skip`, -1 if there are not so many."""
    room = slots.size
    i = (tag * room) >> _TAG_BITS
    while slots[i] != 0:
        if slots[i] >> _ROW_BITS == tag:
            if skip == 0:
                return slots[i] & _ROW_MASK
            skip -= 1
        i = i + 1 if i + 1 < room else 0
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _find_each(slots, tags, rows):  # pragma: no cover
    for i in range(tags.size):
        rows[i] = _find(slots, tags[i], 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _put(slots, entry):  # pragma: no cover
    room = slots.size
    i = ((entry >> _ROW_BITS) * room) >> _TAG_BITS
    while slots[i] != 0:
        i = i + 1 if i + 1 < room else 0
    slots[i] = entry


@njit(cache=True, nogil=True, error_model="numpy")
def _put_if_new(slots, entry):  # pragma: no cover
    """Put an entry if no other one has its tag, and return -1; otherwise return the first row that has it."""
    room = slots.size
    tag = entry >> _ROW_BITS
    i = (tag * room) >> _TAG_BITS
    while slots[i] != 0:
        if slots[i] >> _ROW_BITS == tag:
            return slots[i] & _ROW_MASK
        i = i + 1 if i + 1 < room else 0
    slots[i] = entry
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _replace(slots, entry, by):  # pragma: no cover
    room = slots.size
    i = ((entry >> _ROW_BITS) * room) >> _TAG_BITS
    while slots[i] != entry:
        if slots[i] == 0:
            return False
        i = i + 1 if i + 1 < room else 0
    slots[i] = by
    if by != 0:
        return True
    # Entries behind the hole that a search would no longer reach move into it (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
    hole = i
    while True:
        i = i + 1 if i + 1 < room else 0
        if slots[i] == 0:
            return True
        home = ((slots[i] >> _ROW_BITS) * room) >> _TAG_BITS
        from_home, from_hole = i - home, i - hole
        if from_home < 0:
            from_home += room
        if from_hole < 0:
            from_hole += room
        if from_home >= from_hole:
            slots[hole], slots[i] = slots[i], 0
            hole = i


@njit(cache=True, nogil=True, error_model="numpy")
def _remove_each(slots, entries):  # pragma: no cover
    """Return the index of the first entry that there is not; -1 when all were removed."""
    for i in range(entries.size):
        if not _replace(slots, entries[i], 0):
            return i
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def _move(old, new):  # pragma: no cover
    for i in range(old.size):
        if old[i] != 0:
            _put(new, old[i])


class IdentityIndex:
    """Rows by id: an open-addressing table of 8 bytes a slot, 10 to 14 bytes a row.

    A slot holds 31 bits of the id's hash and 32 of the row's number; the rows themselves say whether an id that is found is the one. The hash
    is Python's, under the process's secret key, so nobody outside can make ids that collide. What is found depends on the rows alone.

    Parameters
    ----------
    is_named
        Whether the row whose number has these lower 32 bits has this id.
    """

    def __init__(self, is_named: Callable[[int, str], bool]) -> None:
        self._is_named = is_named
        self._slots = np.zeros(_FIRST_ROOM, np.int64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def find(self, identity: str) -> int:
        """Return the lower 32 bits of the number of the row with this id, -1 if there is none."""
        if not self._used:
            return -1
        return self._verified(identity, int(_find(self._slots, _tag(identity), 0)))

    def add(self, identity: str, row: int) -> bool:
        """Remember a row by its id; False if there is one with that id."""
        if self._used >= _FULLEST * self._slots.size:
            self._resize(int(self._slots.size * _GROWTH) + 1)
        entry = _entry(identity, row)
        existing = int(_put_if_new(self._slots, entry))
        if existing >= 0:
            if self._verified(identity, existing) >= 0:
                return False
            _put(self._slots, entry)
        self._used += 1
        return True

    def candidates(self, identities: Sequence[str]) -> NDArray[np.int64]:
        """Return, for each id, the lower 32 bits of the number of the first row that may have it, shape (n,); -1 where no row has it.

        Another id may have the same hash: the caller looks at the rows, and asks `find` for ids that a row does not have.
        """
        rows = np.full(len(identities), -1, np.int64)
        if self._used and len(identities):
            _find_each(self._slots, _tags(identities), rows)
        return rows

    def extend(self, identities: Sequence[str], first: int) -> None:
        """Remember rows whose numbers follow each other; none of their ids is known, nor twice among them."""
        room = self._slots.size
        while self._used + len(identities) >= _FULLEST * room:
            room = int(room * _GROWTH) + 1
        if room > self._slots.size:
            self._resize(room)
        _move(_entries(identities, first), self._slots)
        self._used += len(identities)

    def remove_all(self, identities: Sequence[str], first: int) -> None:
        """Forget rows whose numbers follow each other."""
        missing = int(_remove_each(self._slots, _entries(identities, first)))
        if missing >= 0:
            raise KeyError(identities[missing])
        self._used -= len(identities)
        self._shrink()

    def replace(self, identity: str, row: int, by: int) -> None:
        """Let another row stand for an id."""
        if not _replace(self._slots, _entry(identity, row), _entry(identity, by)):
            raise KeyError(identity)

    def remove(self, identity: str, row: int) -> None:
        """Forget a row."""
        if not _replace(self._slots, _entry(identity, row), 0):
            raise KeyError(identity)
        self._used -= 1
        self._shrink()

    def _verified(self, identity: str, row: int) -> int:
        skip = 0
        while row >= 0 and not self._is_named(row, identity):
            skip += 1
            row = int(_find(self._slots, _tag(identity), skip))
        return row

    def _shrink(self) -> None:
        if self._slots.size > _FIRST_ROOM and self._used < _EMPTIEST * self._slots.size:
            self._resize(max(_FIRST_ROOM, int(self._used * 2 / _FULLEST)))

    def _resize(self, room: int) -> None:
        fresh = np.zeros(room, np.int64)
        _move(self._slots, fresh)
        self._slots = fresh


def _tag(identity: str) -> int:
    # Never zero, which is an empty slot.
    return (hash(identity) & _TAG_MASK) or 1


def _entry(identity: str, row: int) -> int:
    return _tag(identity) << _ROW_BITS | (row & _ROW_MASK)


def _entries(identities: Sequence[str], first: int) -> NDArray[np.int64]:
    rows = np.arange(first, first + len(identities), dtype=np.int64)
    return _tags(identities) << _ROW_BITS | (rows & _ROW_MASK)


def _tags(identities: Sequence[str]) -> NDArray[np.int64]:
    tags = np.fromiter(map(hash, identities), np.int64, len(identities)) & _TAG_MASK
    tags[tags == 0] = 1
    return tags
