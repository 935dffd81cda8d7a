"""Blocks of words in one pool: sizes are powers of two, freed blocks are used again."""

from tidemill.services.features.domain.kernels.compiled import inner

SMALLEST_CLASS = 2
CLASSES = 48
POOL_USED = CLASSES
"""`heads` holds the first free block of each class (0: none) and, after them, how much of the pool was ever used."""
HEADS = CLASSES + 1
FIRST_BLOCK = 8


@inner
def size_class(words):  # pragma: no cover
    """Smallest class whose blocks hold so many words."""
    c = SMALLEST_CLASS
    while (1 << c) < words:
        c += 1
    return c


@inner
def allocate(memory, c):  # pragma: no cover
    """Return the place of a zeroed block of class `c`."""
    pool, heads = memory.pool, memory.heads
    block = heads[c]
    if block != 0:
        heads[c] = pool[block]
        for i in range(block, block + (1 << c)):
            pool[i] = 0
        return block
    block = heads[POOL_USED]
    if block + (1 << c) > pool.size:
        raise MemoryError("the feature state has outgrown its address space")
    heads[POOL_USED] = block + (1 << c)
    return block


@inner
def free(memory, block, c):  # pragma: no cover
    """Give a block back."""
    heads = memory.heads
    memory.pool[block] = heads[c]
    heads[c] = block
