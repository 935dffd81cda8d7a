"""Stable hashes of values: the same in every process and release, since they stand in checkpoints."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.application.column_roles import whole_numbers
from tidemill.shared.avro.key_text import key_texts

_KEPT = 1 << 18


class ValueHashes:
    """64-bit hashes of a column; 0 is null. Texts are remembered, so a value that comes often is hashed once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, column: pa.Array) -> NDArray[np.int64]:
        """Return the hash of every value, shape (n,)."""
        if pa.types.is_string(column.type):
            return self._texts(column)
        column = whole_numbers(column)
        kind = pa.float64() if pa.types.is_floating(column.type) else pa.int64()
        # Minus zero and zero are one value.
        plain = column.cast(kind).to_numpy(zero_copy_only=False) + 0 if column.null_count == 0 else _filled(column, kind)
        hashes = _mix(np.ascontiguousarray(plain).view(np.uint64))
        return np.asarray(np.where(np.asarray(column.is_valid()), hashes, 0) if column.null_count else hashes, np.int64)

    def _texts(self, column: pa.Array) -> NDArray[np.int64]:
        encoded = pc.dictionary_encode(column)
        if len(self._known) > _KEPT:
            self._known.clear()
        known = np.empty(len(encoded.dictionary) + 1, np.int64)
        known[-1] = 0
        for i, text in enumerate(encoded.dictionary.to_pylist()):
            number = self._known.get(text)
            if number is None:
                number = self._known[text] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True) or 1
            known[i] = number
        if encoded.null_count:
            return known[np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)]
        return np.asarray(known[encoded.indices.to_numpy()], np.int64)


def identity_words(ids: pa.Array) -> NDArray[np.int64]:
    """128 bits of each id, shape (n, 2); null ids are (0, 0)."""
    texts = key_texts(ids).to_pylist()
    content = b"".join(bytes(16) if text is None else hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(content, np.int64).reshape(len(texts), 2)


def _filled(column: pa.Array, kind: pa.DataType) -> NDArray[np.float64] | NDArray[np.int64]:
    filled: NDArray[np.float64] | NDArray[np.int64] = pc.fill_null(column.cast(kind), 0).to_numpy(zero_copy_only=False)
    return filled


def _mix(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    z = words + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.where(z == 0, np.uint64(1), z).view(np.int64)
