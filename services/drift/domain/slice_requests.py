"""Which slices the requests belong to whose labels have yet to come."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
_REQUESTS_KEPT = 200_000


@dataclass(slots=True)
class SliceRequests:
    """Codes by journal partition and offset of the request: the last 200,000 requests of a partition at most, two at least.

    Vectors come in journal order, so each partition's offsets rise. A label whose request is not known any more belongs to no slice.
    Memory: 8 bytes a request, and 2 for each column.
    """

    width: int
    offsets: dict[int, Int64] = field(default_factory=dict)
    codes: dict[int, NDArray[np.int16]] = field(default_factory=dict)
    _waiting: list[tuple[Int64, Int64, Int64]] = field(default_factory=list)

    def add(self, partition: Int64, offset: Int64, codes: Int64) -> None:
        """Take requests in journal order, codes of shape (n, width)."""
        self._waiting.append((partition, offset, codes))

    def of(self, partition: Int64, offset: Int64) -> Int64:
        """Return the codes of requests, shape (n, width); -1 where nothing is known."""
        self._settle()
        codes = np.full((len(offset), self.width), -1, np.int64)
        for number in np.unique(partition).tolist():
            known = self.offsets.get(number)
            if known is None:
                continue
            rows = np.flatnonzero(partition == number)
            places = np.minimum(np.searchsorted(known, offset[rows]), len(known) - 1)
            here = known[places] == offset[rows]
            codes[rows[here]] = self.codes[number][places[here]]
        return codes

    def forget(self, codes: list[int]) -> None:
        """Take codes that are used anew from the requests that had them."""
        self._settle()
        for table in self.codes.values():
            table[np.isin(table, codes)] = -1

    def snapshot(self) -> dict[str, Any]:
        """State as texts."""
        self._settle()
        packed = {number: (np.diff(offsets, prepend=0), self.codes[number]) for number, offsets in self.offsets.items()}
        return {str(number): [base64.b64encode(part.tobytes()).decode() for part in parts] for number, parts in packed.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        for number, (steps, codes) in state.items():
            self.offsets[int(number)] = np.cumsum(np.frombuffer(base64.b64decode(steps), np.int64))
            self.codes[int(number)] = np.frombuffer(base64.b64decode(codes), np.int16).reshape(-1, self.width).copy()

    def _settle(self) -> None:
        if not self._waiting:
            return
        partition, offset, codes = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        for number in np.unique(partition).tolist():
            mine = partition == number
            offsets = np.concatenate([self.offsets.get(number, np.empty(0, np.int64)), offset[mine]])
            kept = np.concatenate([self.codes.get(number, np.empty((0, self.width), np.int16)), codes[mine].astype(np.int16)])
            self.offsets[number], self.codes[number] = offsets[-_REQUESTS_KEPT:], kept[-_REQUESTS_KEPT:]
