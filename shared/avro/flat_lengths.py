"""How many bytes a batch of flat records takes in Avro, from its columns alone."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ONE_BYTE = 64
_FIXED = {"double": 8, "float": 4, "boolean": 1}
# A zigzag varint of k bytes holds numbers below 2 ** (7 k).
_LIMITS = np.array([1 << (7 * k) for k in range(1, 10)], np.uint64)


class FlatLengths:
    """Sums up the encoded size of batches of one schema; made by `of`, which gives None for schemas with other types.

    Parameters
    ----------
    kinds
        Avro type of each field, and whether it is nullable (one byte for the branch).
    """

    def __init__(self, kinds: list[tuple[str, bool]]) -> None:
        self._kinds = kinds

    @classmethod
    def of(cls, schema: str) -> "FlatLengths | None":
        """Return the sums of an Avro record schema (JSON) of texts, numbers, truth values and times."""
        kinds = [_kind(field["type"]) for field in json.loads(schema)["fields"]]
        known = [kind for kind in kinds if kind is not None]
        return cls(known) if len(known) == len(kinds) else None

    def total(self, batch: pa.RecordBatch) -> int:
        """Return the bytes of all rows together, without headers."""
        total = 0
        for column, (kind, nullable) in zip(batch.columns, self._kinds, strict=True):
            total += len(column) if nullable else 0
            present = column.drop_null() if column.null_count else column
            if kind == "string":
                if len(present):
                    offsets = np.frombuffer(present.buffers()[1], np.int32)[present.offset : present.offset + len(present) + 1]
                    sizes = offsets[1:] - offsets[:-1]
                    total += int(offsets[-1]) - int(offsets[0])
                    total += len(sizes) if sizes.max() < _ONE_BYTE else _varints(sizes.astype(np.int64))
            elif kind in _FIXED:
                total += _FIXED[kind] * len(present)
            elif len(present):
                width = present.type.bit_width // 8
                values = np.frombuffer(present.buffers()[1], f"<i{width}")[present.offset : present.offset + len(present)]
                total += _varints(values.astype(np.int64, copy=False))
        return total


def text_offsets(column: pa.Array) -> NDArray[np.int64]:
    """Offsets of a text or binary column, shape (n + 1,)."""
    if not len(column):
        return np.zeros(1, np.int64)
    width = np.int64 if pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type) else np.int32
    return np.frombuffer(column.buffers()[1], width)[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _varints(values: NDArray[np.int64]) -> int:
    """Bytes of zigzag varints."""
    if not len(values):
        return 0
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    return len(values) + int(np.searchsorted(_LIMITS, zigzag, side="right").sum())


def _kind(declared: Any) -> tuple[str, bool] | None:  # noqa: ANN401, RUF100 - Avro JSON is free-form
    nullable = isinstance(declared, list)
    if nullable:
        others = [branch for branch in declared if branch != "null"]
        if len(others) != 1 or len(others) == len(declared):
            return None
        declared = others[0]
    if isinstance(declared, dict):
        if declared.get("logicalType") not in (None, "timestamp-millis"):
            return None
        declared = declared["type"]
    return (declared, nullable) if declared in (*_FIXED, "string", "int", "long") else None
