"""Where the numbers stand within the words that make up the state of an entity.

The state of an entity is one row of 64-bit words (some hold floats), so an event touches a few cache lines, and a checkpoint copies a row.
What grows (the records or steps inside windows, distinct values, sketches) lies in blocks of a pool, and the row holds where.

Row: head; groups of windows (block, size class, cells used, cells there is room for); windows (pointer, records, one accumulator a value);
first values; lagged values; decayed sums; distinct counters; sketches. Which of them a view has, and from which word on, says its layout (`layout`).
"""

NEVER = -(1 << 62)
"""No instant."""
INCLUDED, NEWEST, OLDEST, RECORDS, USED, HEAD_WORDS = range(6)
"""Head of a row: journal offset of the last record in it; newest and oldest event time; records; 1 once in use."""
BLOCK, CLASS, TAIL, ROOM, GROUP_WORDS = range(5)
"""A group of windows: where its block is, the block's size class, cells used, cells there is room for."""
POINTER, IN_WINDOW, WINDOW_WORDS = range(3)
"""A window begins with its first cell and its records; an accumulator a value follows."""
CELL_TIME, CELL_RECORDS, CELL_END = range(3)
"""A cell of a stepped or session group begins with its step (or the session's first time), its records, and a session's last time."""
N, SUM, SUM_REST, LARGEST = range(4)
"""An accumulator begins with the count of values, their sum as two floats, and the largest magnitude among them, negative once that one has left;
squares, minimum and maximum follow where they are needed. Sums and squares are in units that follow from the largest magnitude (`sums.unit`)."""
DECAY_SUM, DECAY_WEIGHT, DECAY_TIME, DECAY_WORDS = range(4)
DECAY_UNIT = 2.0**-64
"""Decayed sums are kept in units of 2**64: no number of finite values overflows one."""
DISTINCT_BLOCK, DISTINCT_CLASS, DISTINCT_USED, DISTINCT_COUNT, DISTINCT_SINCE, DISTINCT_WORDS = range(6)
CELL_DIGEST_CENTROIDS, DIGEST_CENTROIDS = 32, 128
DIGEST_HEAD = 4
"""A t-digest: centroids used, weight, minimum, maximum; then mean and weight of each centroid."""
DIGEST_WORDS, CELL_DIGEST_WORDS = DIGEST_HEAD + 2 * DIGEST_CENTROIDS, DIGEST_HEAD + 2 * CELL_DIGEST_CENTROIDS
