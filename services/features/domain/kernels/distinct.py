"""How many different values were seen since an instant: exactly while they are few, by a sketch beyond.

Few: a hash table of (64-bit hash, last seen). Many: HyperLogLog (Flajolet et al., 2007) in which every register keeps, for each rank,
the last time that rank was seen, so that the register's value since any instant can be read off (Chabchoub and Hebrail, 2010, for the sliding
window); 1,024 registers, a standard error of 3.25 %.

The table's last answer is kept, with the instant it counts from, and each value seen brings it up to date: a window in steps moves its beginning once
a step, so most requests are answered without looking through the table. All words zero is an empty table, of which every answer is 0.
"""

import math

import numpy as np

from tidemill.services.features.domain.kernels.blocks import allocate, free
from tidemill.services.features.domain.kernels.compiled import allocating, inner
from tidemill.services.features.domain.kernels.words import DISTINCT_BLOCK, DISTINCT_CLASS, DISTINCT_COUNT, DISTINCT_SINCE, DISTINCT_USED, NEVER

FIRST_CLASS = 4
EXACT_LIMIT = 4_096
SKETCH_CLASS = 16
REGISTER_BITS, RANKS = 10, 48
_REGISTERS = 1 << REGISTER_BITS
_ALPHA = 0.7213 / (1.0 + 1.079 / _REGISTERS)


@inner
def _place(pool, block, mask, value):  # pragma: no cover
    """Where a value stands, or would; when it was seen stands `mask` + 1 words further on."""
    i = (value ^ (value >> 29)) & mask
    while pool[block + i] != 0 and pool[block + i] != value:
        i = (i + 1) & mask
    return block + i


@inner
def _empty_table(pool, block, c):  # pragma: no cover
    for i in range(block + (1 << (c - 1)), block + (1 << c)):
        pool[i] = NEVER


@inner
def _sketch_see(pool, block, value, at):  # pragma: no cover
    register = value & (_REGISTERS - 1)
    rest = (value >> REGISTER_BITS) & ((1 << (64 - REGISTER_BITS)) - 1)
    rank = 0
    while rank < RANKS - 1 and (rest & 1) == 0:
        rank += 1
        rest >>= 1
    place = block + register * RANKS + rank
    # Zero is an untouched word: times are stored one up.
    if pool[place] == 0 or at + 1 > pool[place]:
        pool[place] = at + 1 if at != -1 else 1


@allocating
def _rebuild(memory, row, at, bound, now, target):  # pragma: no cover
    """Move the table to class `target` (or a sketch), without what no window can see any more."""
    pool = memory.pool
    block, c, used = row[at + DISTINCT_BLOCK], row[at + DISTINCT_CLASS], 0
    entries = np.empty((row[at + DISTINCT_USED], 2), np.int64)
    if c > 0:
        for i in range(1 << (c - 1)):
            value, seen = pool[block + i], pool[block + (1 << (c - 1)) + i]
            if value != 0 and (bound < 0 or seen > now - bound):
                entries[used, 0], entries[used, 1] = value, seen
                used += 1
        free(memory, block, c)
    if target == 0:
        if used >= EXACT_LIMIT:
            target = SKETCH_CLASS
        else:
            target = FIRST_CLASS
            while 3 * (used + 1) > 2 * (1 << (target - 1)):
                target += 1
            # Room to grow, lest the next few values rebuild it again.
            if 2 * (used + 1) > (1 << (target - 1)):
                target += 1
    block = allocate(memory, target)
    row[at + DISTINCT_BLOCK], row[at + DISTINCT_CLASS], row[at + DISTINCT_USED] = block, target, used
    if target == SKETCH_CLASS:
        for i in range(used):
            _sketch_see(pool, block, entries[i, 0], entries[i, 1])
    else:
        _empty_table(pool, block, target)
        mask = (1 << (target - 1)) - 1
        for i in range(used):
            place = _place(pool, block, mask, entries[i, 0])
            pool[place], pool[place + mask + 1] = entries[i, 0], entries[i, 1]


@inner
def see(memory, row, at, bound, now, value, when):  # pragma: no cover
    """Note that a value (a hash, not 0) was seen at an instant."""
    pool = memory.pool
    c = row[at + DISTINCT_CLASS]
    if c == SKETCH_CLASS:
        _sketch_see(pool, row[at + DISTINCT_BLOCK], value, when)
        return
    if c > 0:
        mask = (1 << (c - 1)) - 1
        place = _place(pool, row[at + DISTINCT_BLOCK], mask, value)
        if pool[place] == value:
            seen = pool[place + mask + 1]
            if when > seen:
                pool[place + mask + 1] = when
                if when > row[at + DISTINCT_SINCE] and seen <= row[at + DISTINCT_SINCE]:
                    row[at + DISTINCT_COUNT] += 1
            return
    used = row[at + DISTINCT_USED]
    # What is no longer visible may be in the table still: only what would be left after a clean-up decides on the sketch, so that
    # the answer does not depend on when a table was last rebuilt (a restart rebuilds it).
    if c == 0 or used >= EXACT_LIMIT or 3 * (used + 1) > 2 * (1 << (c - 1)):
        _rebuild(memory, row, at, bound, now, 0)
        c = row[at + DISTINCT_CLASS]
        if c == SKETCH_CLASS:
            _sketch_see(pool, row[at + DISTINCT_BLOCK], value, when)
            return
    mask = (1 << (c - 1)) - 1
    place = _place(pool, row[at + DISTINCT_BLOCK], mask, value)
    pool[place], pool[place + mask + 1] = value, when
    row[at + DISTINCT_USED] += 1
    if when > row[at + DISTINCT_SINCE]:
        row[at + DISTINCT_COUNT] += 1


@inner
def count_since(pool, row, at, after):  # pragma: no cover
    """How many values were seen later than `after`."""
    c, block = row[at + DISTINCT_CLASS], row[at + DISTINCT_BLOCK]
    if c == 0:
        return 0.0
    if c != SKETCH_CLASS:
        if row[at + DISTINCT_SINCE] == after:
            return float(row[at + DISTINCT_COUNT])
        # A run of its own, so that the compiler makes vectors of it; places without a value were seen NEVER.
        seen = pool[block + (1 << (c - 1)) : block + (1 << c)]
        count = 0
        for i in range(seen.size):
            count += 1 if seen[i] > after else 0
        row[at + DISTINCT_COUNT], row[at + DISTINCT_SINCE] = count, after
        return float(count)
    harmonic, empty = 0.0, 0
    for register in range(_REGISTERS):
        rank = RANKS
        base = block + register * RANKS
        while rank > 0 and (pool[base + rank - 1] == 0 or (after != NEVER and pool[base + rank - 1] - 1 <= after)):
            rank -= 1
        harmonic += 2.0**-rank
        empty += rank == 0
    estimate = _ALPHA * _REGISTERS * _REGISTERS / harmonic
    if estimate <= 2.5 * _REGISTERS and empty > 0:
        return _REGISTERS * math.log(_REGISTERS / empty)
    return estimate


@inner
def restore_entry(pool, block, c, value, seen):  # pragma: no cover
    """Put an entry of a checkpoint into a table of class `c`, made by `restore_table`."""
    mask = (1 << (c - 1)) - 1
    place = _place(pool, block, mask, value)
    pool[place], pool[place + mask + 1] = value, seen


@inner
def restore_table(memory, c):  # pragma: no cover
    """Return the place of an empty table (or sketch) of class `c`."""
    block = allocate(memory, c)
    if c != SKETCH_CLASS:
        _empty_table(memory.pool, block, c)
    return block
