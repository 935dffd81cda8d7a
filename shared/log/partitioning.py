"""Java's default placement of a record: murmur2 of the key, modulo the number of partitions."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def _murmur2(data, ends, out):  # pragma: no cover
    m = np.uint32(0x5BD1E995)
    begin = 0
    for i in range(ends.size):
        length = ends[i] - begin
        h = np.uint32(0x9747B28C) ^ np.uint32(length)
        at = begin
        for _ in range(length // 4):
            k = (
                np.uint32(data[at])
                | np.uint32(data[at + 1]) << np.uint32(8)
                | np.uint32(data[at + 2]) << np.uint32(16)
                | np.uint32(data[at + 3]) << np.uint32(24)
            )
            k = np.uint32(k * m)
            k ^= k >> np.uint32(24)
            k = np.uint32(k * m)
            h = np.uint32(h * m)
            h ^= k
            at += 4
        left = length % 4
        if left == 3:
            h ^= np.uint32(data[at + 2]) << np.uint32(16)
        if left >= 2:
            h ^= np.uint32(data[at + 1]) << np.uint32(8)
        if left >= 1:
            h ^= np.uint32(data[at])
            h = np.uint32(h * m)
        h ^= h >> np.uint32(13)
        h = np.uint32(h * m)
        h ^= h >> np.uint32(15)
        out[i] = h & np.uint32(0x7FFFFFFF)
        begin = ends[i]


def partitions_of(keys: Sequence[bytes], partitions: int) -> NDArray[np.int64]:
    """Return murmur2(key) mod `partitions` for every key (Kafka's default partitioner, ``Utils.toPositive(Utils.murmur2(key))``)."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    out = np.empty(len(keys), np.int64)
    _murmur2(np.frombuffer(b"".join(keys) + b"\0\0\0\0", np.uint8), np.cumsum([len(key) for key in keys]).astype(np.int64), out)
    return out % partitions


def murmur2_partition(key: bytes, partitions: int) -> int:
    """Return the partition of one key.

    >>> murmur2_partition(b"foobar", 12)
    6
    """
    return int(partitions_of([key], partitions)[0])
