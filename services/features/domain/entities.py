"""Entities as dense integers."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.avro.key_text import key_texts

WHOLE = ""
"""The kind of entity, and the one entity of it, of views over all records."""


class EntityIndex:
    """Gives every entity of one kind a slot; a null entity has slot -1. Slots of entities that were dropped are given again."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self.names: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """Slots ever given, dropped ones included."""
        return len(self.names)

    @property
    def live(self) -> int:
        """Entities known."""
        return len(self._slots)

    def find(self, name: str) -> int:
        """Return the slot of an entity, -1 when it is not known."""
        return self._slots.get(name, -1)

    def slot(self, name: str) -> int:
        """Return the slot of one entity, new or not."""
        slot = self._slots.get(name)
        if slot is None:
            if self._free:
                slot = self._free.pop()
                self.names[slot] = name
            else:
                slot = len(self.names)
                self.names.append(name)
            self._slots[name] = slot
        return slot

    def slots(self, column: pa.Array) -> NDArray[np.int64]:
        """Return the slots of a column, shape (n,)."""
        if len(column) == 0:
            return np.empty(0, np.int64)
        encoded = pc.dictionary_encode(key_texts(column))
        names = encoded.dictionary.to_pylist()
        slots = list(map(self._slots.get, names))
        known = np.array([self.slot(name) for name in names] if None in slots else slots, np.int64)
        if encoded.null_count == 0:
            return np.asarray(known[encoded.indices.to_numpy()], np.int64)
        indices = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
        return np.where(indices >= 0, known[indices], -1) if len(known) else np.full(len(column), -1, np.int64)

    def drop(self, slot: int) -> str:
        """Forget an entity; returns its name."""
        name = self.names[slot]
        if name is None:
            raise KeyError(f"expected a known entity, slot {slot} is free")
        self.names[slot] = None
        del self._slots[name]
        self._free.append(slot)
        return name
