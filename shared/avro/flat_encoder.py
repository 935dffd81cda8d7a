"""Flat records from Arrow columns to framed Avro messages in the calling thread.

pyruhvro hands every batch to a thread pool, even one of ten rows: on a busy machine that hand-over alone takes milliseconds, in every stage of the
prediction path. A record is flat when its fields are text, bytes, numbers, truth values and times, each nullable or not: every event, vector and
prediction is.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.avro.flat_kernel import BOOLEAN, DOUBLE, FLOAT, LONG, TEXT, write_rows
from shared.streaming.packed import Packed

_KINDS = {"string": TEXT, "bytes": TEXT, "long": LONG, "int": LONG, "double": DOUBLE, "float": FLOAT, "boolean": BOOLEAN}
_LONGEST = {LONG: 11, DOUBLE: 9, FLOAT: 5, BOOLEAN: 2, TEXT: 11}
_LOGICAL = {("long", "timestamp-millis"), ("long", "timestamp-micros"), ("int", "date")}


class FlatEncoder:
    """Encodes one flat schema; made by `of`, which gives None for others.

    Parameters
    ----------
    kinds, nulls
        Kind of each field, and which branch of its union is null (-1: no union).
    header
        What every message begins with.
    """

    def __init__(self, kinds: list[int], nulls: list[int], header: bytes) -> None:
        self._kinds = np.array(kinds, np.int8)
        self._nulls = np.array(nulls, np.int8)
        texts = self._kinds == TEXT
        self._slots = slots_of(self._kinds)
        self._fields = list(zip(kinds, self._slots.tolist(), strict=True))
        self._texts, self._numbers = int(texts.sum()), int((~texts).sum())
        self._head = np.frombuffer(header, np.uint8)
        self._row_bytes = len(header) + sum(_LONGEST[kind] for kind in kinds)

    @classmethod
    def of(cls, schema: str, header: bytes) -> "FlatEncoder | None":
        """Return the encoder of an Avro record schema (JSON), None when it is not flat."""
        fields = fields_of(schema)
        return None if fields is None else cls(*fields, header)

    def encode(self, batch: pa.RecordBatch) -> Packed:
        """Return one message per row; the columns are those of the schema, in its order, of its Arrow types."""
        n = batch.num_rows
        numbers = np.empty((self._numbers, n), np.int64)
        valid = np.ones((len(self._fields), n), np.uint8)
        ends = np.zeros((self._texts, n + 1), np.int64)
        texts: list[NDArray[np.uint8]] = []
        base = 0
        for f, (column, (kind, slot)) in enumerate(zip(batch.columns, self._fields, strict=True)):
            buffers, begin, end = column.buffers(), column.offset, column.offset + n
            if column.null_count:
                valid[f] = _bits(buffers[0], begin, n)
            if kind == DOUBLE:
                numbers[slot] = np.frombuffer(buffers[1], np.int64)[begin:end]
            elif kind == TEXT:
                offsets = np.frombuffer(buffers[1], np.int32)[begin : end + 1]
                first, last = int(offsets[0]), int(offsets[-1])
                np.add(offsets, base - first, out=ends[slot])
                if last > first:
                    texts.append(np.frombuffer(buffers[2], np.uint8)[first:last])
                    base += last - first
            elif kind == LONG:
                numbers[slot] = np.frombuffer(buffers[1], np.int64 if column.type.bit_width == 64 else np.int32)[begin:end]
            elif kind == BOOLEAN:
                numbers[slot] = _bits(buffers[1], begin, n)
            else:
                numbers[slot] = np.frombuffer(buffers[1], np.uint32)[begin:end]
        content = np.concatenate(texts) if texts else np.empty(0, np.uint8)
        out = np.empty(n * self._row_bytes + base, np.uint8)
        stops = np.empty(n + 1, np.int64)
        write_rows(self._head, self._kinds, self._nulls, self._slots, numbers, valid, ends, content, out, stops)
        return Packed(out, stops)


def fields_of(schema: str) -> tuple[list[int], list[int]] | None:
    """Return the kind of each field of an Avro record schema (JSON) and which branch of its union is null (-1: none); None when it is not flat."""
    kinds, nulls = [], []
    for field in json.loads(schema)["fields"]:
        kind, null = kind_of(field["type"])
        if kind is None:
            return None
        kinds.append(kind)
        nulls.append(null)
    return (kinds, nulls) if kinds else None


def slots_of(kinds: NDArray[np.int8]) -> NDArray[np.int64]:
    """Number the texts, and the others, each from 0."""
    texts = kinds == TEXT
    return np.where(texts, np.cumsum(texts), np.cumsum(~texts)) - 1


def kind_of(declared: Any) -> tuple[int | None, int]:  # noqa: ANN401, RUF100 - Avro JSON is free-form
    """Return the kind of a field and its null branch; None when it is not flat."""
    null = -1
    if isinstance(declared, list):
        if len(declared) != 2 or declared.count("null") != 1:
            return None, -1
        null = declared.index("null")
        declared = declared[1 - null]
    if isinstance(declared, dict):
        logical = declared.get("logicalType")
        if logical is not None and (declared["type"], logical) not in _LOGICAL:
            return None, -1
        declared = declared["type"]
    return (_KINDS.get(declared) if isinstance(declared, str) else None), null


def _bits(buffer: pa.Buffer, offset: int, n: int) -> NDArray[np.uint8]:
    """Unpack n bits of a bitmap."""
    first = offset // 8
    within = offset - 8 * first
    return np.unpackbits(np.frombuffer(buffer, np.uint8)[first : (offset + n + 7) // 8], bitorder="little")[within : within + n]
