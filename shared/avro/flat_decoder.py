"""Flat records from framed Avro messages to Arrow columns in the calling thread, as `flat_encoder` the other way round.

It reads what is whole: a batch with any message that is not (cut off, out of range, not UTF-8, with bytes after its last field) it leaves to
pyruhvro and the guards around it, which find the culprit and its reason.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.avro.flat_encoder import fields_of, slots_of
from shared.avro.flat_kernel import BOOLEAN, FLOAT, INT, LONG, TEXT, gather_texts, read_rows
from shared.streaming.packed import Packed

_MOST_TEXT = 2**31 - 1


class FlatDecoder:
    """Decodes one flat schema; made by `of`, which gives None for others.

    Parameters
    ----------
    kinds, nulls
        Kind of each field, and which branch of its union is null (-1: no union).
    arrow
        The columns.
    """

    def __init__(self, kinds: list[int], nulls: list[int], arrow: pa.Schema) -> None:
        self._arrow = arrow
        own = [INT if kind == LONG and field.type.bit_width == 32 else kind for kind, field in zip(kinds, arrow, strict=True)]
        self._kinds = np.array(own, np.int8)
        self._nulls = np.array(nulls, np.int8)
        texts = self._kinds == TEXT
        self._slots = slots_of(self._kinds)
        self._fields = list(zip(own, self._slots.tolist(), nulls, arrow, strict=True))
        self._texts, self._numbers = int(texts.sum()), int((~texts).sum())

    @classmethod
    def of(cls, schema: str, arrow: pa.Schema) -> "FlatDecoder | None":
        """Return the decoder of an Avro record schema (JSON) with these columns, None when it is not flat."""
        fields = fields_of(schema)
        return None if fields is None else cls(*fields, arrow)

    def decode(self, messages: Packed, skip: int) -> pa.RecordBatch | None:
        """Return the columns of messages whose records begin after `skip` bytes; None when not every one is whole."""
        content, stops = messages.content, messages.stops
        n = len(stops) - 1
        numbers = np.empty((self._numbers, n), np.int64)
        valid = np.empty((len(self._fields), n), np.uint8)
        places = np.empty((self._texts, n), np.int64)
        ends = np.zeros((self._texts, n + 1), np.int64)
        if not read_rows(content, stops, skip, self._kinds, self._nulls, self._slots, numbers, valid, places, ends):
            return None
        columns = []
        for f, (kind, slot, null, field) in enumerate(self._fields):
            missing = 0 if null < 0 else n - int(np.count_nonzero(valid[f]))
            bitmap = pa.py_buffer(np.packbits(valid[f], bitorder="little")) if missing else None
            if kind == TEXT:
                column = _text(field.type, content, places[slot], ends[slot], bitmap, missing)
                if column is None:
                    return None
            else:
                column = pa.Array.from_buffers(field.type, n, [bitmap, pa.py_buffer(_stored(kind, numbers[slot]))], missing)
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=self._arrow)


def _stored(kind: int, numbers: NDArray[np.int64]) -> NDArray[np.generic]:
    if kind == INT:
        return numbers.astype(np.int32)
    if kind == FLOAT:
        return numbers.astype(np.uint32)
    return np.packbits(numbers.astype(np.bool_), bitorder="little") if kind == BOOLEAN else numbers


def _text(
    kind: pa.DataType, content: NDArray[np.uint8], places: NDArray[np.int64], ends: NDArray[np.int64], bitmap: pa.Buffer | None, missing: int
) -> pa.Array | None:
    """Return a column of texts, None when one of them is not UTF-8 or all are too long for a column."""
    if ends[-1] > _MOST_TEXT:
        return None
    out = np.empty(int(ends[-1]), np.uint8)
    gather_texts(content, places, ends, out)
    column = pa.Array.from_buffers(kind, len(places), [bitmap, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(out)], missing)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return column
