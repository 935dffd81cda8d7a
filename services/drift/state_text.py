"""A state as compressed JSON, made piece by piece: a copy of the largest text in it is all the memory that it takes beside what it returns."""

import json
import zlib
from collections.abc import Iterator

import numpy as np

# Below this a text is no reason to take a dictionary apart.
_LONG = 1 << 16


def compressed(state: object) -> bytes:
    """Return the state as JSON, compressed; `json.loads(zlib.decompress(...))` reads it.

    Raises
    ------
    TypeError
        Something in it is not plain.
    """
    packer = zlib.compressobj(1)
    parts = [packer.compress(piece.encode()) for piece in _pieces(state)]
    return b"".join([*parts, packer.flush()])


def _pieces(value: object) -> Iterator[str]:
    """Give what `json.dumps` gives, in pieces."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value) or not any(map(_may_be_long, value.values())):
        yield json.dumps(value, default=_plain)
        return
    before = "{"
    for name, one in value.items():
        yield f"{before}{json.dumps(name)}: "
        yield from _pieces(one)
        before = ", "
    yield "}"


def _may_be_long(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and len(value) > _LONG)


def _plain(value: object) -> object:
    """Return NumPy's numbers and truth values as Python's: one that slips into the state must not end every start of the stage."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected plain state, found {type(value).__name__}")
