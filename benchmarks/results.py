"""Results as columns: decoding what the systems wrote, for the oracle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.payment_stream import SCHEMAS
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry

_CHUNK = 100_000


def decode_vectors(
    registry: SchemaRegistry, values: Sequence[bytes], schema: Path = SCHEMAS / "vector.avsc"
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return which payment each vector answers, and its features as columns."""
    return numbered(ColumnDecoder(registry, schema.read_text(encoding="utf-8")), values, "payment_id", {})


def numbered(
    decoder: ColumnDecoder, values: Sequence[bytes], identity: str, names: dict[str, str]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Decode results; `names` renames their columns, others keep theirs.

    Raises
    ------
    ValueError
        A result cannot be decoded.
    """
    numbers: list[NDArray[np.int64]] = []
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for begin in range(0, len(values), _CHUNK):
        decoded = decoder.decode(values[begin : begin + _CHUNK])
        if decoded.errors:
            raise ValueError(f"result {begin + decoded.errors[0].index} cannot be decoded: {decoded.errors[0].detail}")
        batch = decoded.batch
        numbers.append(np.array([int(text[1:]) for text in batch.column(identity).to_pylist()], np.int64))
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
                floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
                columns.setdefault(names.get(field.name, field.name), []).append(floats)
    return np.concatenate(numbers), {name: np.concatenate(parts) for name, parts in columns.items()}
