"""Which schema each message of a batch names, without a Python loop for the usual case of one schema."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shared.avro.wire import HEADER_BYTES, schema_id_of

NULL, UNFRAMED = -2, -1
Rows = NDArray[np.int64] | None
_head = itemgetter(slice(0, HEADER_BYTES))
_body = itemgetter(slice(HEADER_BYTES, None))


@dataclass(frozen=True, slots=True)
class Packed:
    """Messages one after the other.

    Attributes
    ----------
    content : uint8 array
    stops : int64 array, shape (n + 1,)
        Where each begins and ends.
    """

    content: NDArray[np.uint8]
    stops: NDArray[np.int64]

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "Packed | None":
        """Pack messages; None when one is null."""
        try:
            content = np.frombuffer(b"".join(values), np.uint8)  # type: ignore[arg-type]
        except TypeError:
            return None
        stops = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=stops[1:])  # type: ignore[arg-type]
        return cls(content, stops)

    @property
    def schema_id(self) -> int | None:
        """The schema id that all of them name, None when they do not."""
        begins = self.stops[:-1]
        if not len(begins) or int((self.stops[1:] - begins).min()) < HEADER_BYTES:
            return None
        head = self.content[:HEADER_BYTES]
        same = all((self.content[begins + k] == head[k]).all() for k in range(HEADER_BYTES))
        return schema_id_of(head.tobytes()) if same else None


def by_schema(values: Sequence[bytes | None], packed: Packed | None = None) -> list[tuple[int, Rows]]:
    """Return the schema ids of a batch, each with its rows (None: all of them).

    Values that are not framed have the id -1, nulls -2. Ids come in the order of their first value.

    Parameters
    ----------
    packed
        The same values, where they are packed already.
    """
    if not len(values):
        return []
    packed = packed or Packed.of(values)
    if packed is not None and (common := packed.schema_id) is not None:
        return [(common, None)]
    if None in values:
        heads = [None if value is None else value[:HEADER_BYTES] for value in values]
    else:
        heads = list(map(_head, values))  # type: ignore[arg-type]
    found = dict.fromkeys(heads)
    if len(found) == 1:
        return [(_id(heads[0]), None)]
    ids = {head: _id(head) for head in found}
    column = np.fromiter(map(ids.__getitem__, heads), np.int64, len(heads))
    return [(schema_id, np.flatnonzero(column == schema_id)) for schema_id in dict.fromkeys(ids.values())]


def bodies(values: Sequence[bytes | None], rows: Rows) -> list[bytes]:
    """Return what follows the headers of some framed messages."""
    return list(map(_body, values if rows is None else map(values.__getitem__, rows.tolist())))  # type: ignore[arg-type]


def _id(head: bytes | None) -> int:
    return NULL if head is None else schema_id_of(head)
