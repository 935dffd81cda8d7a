"""Which schema each message of a batch names, without a Python loop for the usual case of one schema."""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.avro.wire import HEADER_BYTES, schema_id_of
from tidemill.shared.log.packed import Packed

NULL, UNFRAMED = -2, -1
Rows = NDArray[np.int64] | None
_head = itemgetter(slice(0, HEADER_BYTES))
_body = itemgetter(slice(HEADER_BYTES, None))


def by_schema(values: Sequence[bytes | None]) -> list[tuple[int, Rows]]:
    """Return the schema ids of a batch, each with its rows (None: all of them).

    Values that are not framed have the id -1, nulls -2. Ids come in the order of their first value.
    """
    if not len(values):
        return []
    if isinstance(values, Packed) and (common := _common_id(values)) is not None:
        return [(common, None)]
    if None in values:
        heads = [None if value is None else value[:HEADER_BYTES] for value in values]
    else:
        heads = list(map(_head, values))  # type: ignore[arg-type]  # none is null here
    groups = dict.fromkeys(heads)
    if len(groups) == 1:
        return [(_id(heads[0]), None)]
    ids = {head: _id(head) for head in groups}
    column = np.fromiter(map(ids.__getitem__, heads), np.int64, len(heads))
    return [(schema_id, np.flatnonzero(column == schema_id)) for schema_id in dict.fromkeys(ids.values())]


def bodies(values: Sequence[bytes | None], rows: Rows) -> list[bytes]:
    """Return what follows the headers of some framed messages."""
    return list(map(_body, values if rows is None else map(values.__getitem__, rows.tolist())))  # type: ignore[arg-type]  # none is null


def _common_id(values: Packed) -> int | None:
    """Return the schema id that all of them name, None when they do not."""
    begins = values.stops[:-1]
    if int(values.lengths.min()) < HEADER_BYTES:
        return None
    first = int(begins[0])
    head = values.content[first : first + HEADER_BYTES]
    same = all((values.content[begins + k] == head[k]).all() for k in range(HEADER_BYTES))
    return schema_id_of(head.tobytes()) if same else None


def _id(head: bytes | None) -> int:
    return NULL if head is None else schema_id_of(head)
