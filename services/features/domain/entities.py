"""Entities as dense integers."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class EntityIndex:
    """Gives every entity of one kind a slot, in order of first appearance; a null entity has slot -1."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self.names: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def slot(self, name: str) -> int:
        """Return the slot of one entity, new or not."""
        found = self._slots.get(name)
        if found is None:
            found = self._slots[name] = len(self.names)
            self.names.append(name)
        return found

    def slots(self, column: pa.Array) -> NDArray[np.int64]:
        """Return the slots of a text column, shape (n,)."""
        if len(column) == 0:
            return np.empty(0, np.int64)
        encoded = pc.dictionary_encode(column)
        known = np.fromiter((self.slot(name) for name in encoded.dictionary.to_pylist()), np.int64, len(encoded.dictionary))
        indices = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
        return np.where(indices >= 0, known[indices], -1) if len(known) else np.full(len(column), -1, np.int64)
