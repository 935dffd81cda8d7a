"""Values as bytes: what the guarded write splits, and what a reader finds under a key.

A value is the journal offset, the journal time and the instant at which it expires (0: never), each eight bytes big-endian, then one
little-endian float64 per feature. Text keys go to the script as one run of UTF-8 with the end of each.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.shared.online_store.layout import EntityLayout
from tidemill.shared.online_store.rows import FeatureRows, Status
from tidemill.shared.online_store.store import CorruptValueError

HEAD = struct.Struct(">qqq")
_MINUTE_MS, _WEEK_MS = 60_000, 7 * 86_400_000


def pack_values(keys: Sequence[str], values: NDArray[np.float64], layout: EntityLayout) -> bytes:
    """Return the values of the keys, one after the other; ValueError when they are not of the layout."""
    expected = (len(keys), len(layout.features))
    if values.shape != expected:
        raise ValueError(f"{layout.entity}: expected values of shape {expected}, got {values.shape}")
    return np.ascontiguousarray(values, "<f8").tobytes()


def pack_keys(keys: Sequence[str]) -> tuple[bytes, bytes]:
    """Return where each key ends (int32, little-endian) and the keys' UTF-8."""
    run = "".join(keys)
    lengths = map(len, keys) if run.isascii() else (len(key.encode()) for key in keys)
    return np.cumsum(np.fromiter(lengths, np.int64, len(keys))).astype("<i4").tobytes(), run.encode()


def remembered_ms(ttl_ms: int) -> int:
    """How long an expired value is still known to have been one: as long again as it lived, at least a minute, at most a week."""
    return min(max(ttl_ms, _MINUTE_MS), _WEEK_MS)


def unpack_rows(
    layout: EntityLayout, keys: tuple[str, ...], rows: Sequence[bytes | None], now_ms: int, remember_ms: int | None, rebuilding: bool = False
) -> FeatureRows:
    """Turn what lies under the keys into rows.

    Raises
    ------
    CorruptValueError
        A value has not the layout's size.
    """
    n, d = len(keys), len(layout.features)
    values = np.full((n, d), np.nan)
    coordinates = np.full((2, n), -1, np.int64)
    age = np.full(n, -1, np.int64)
    status: list[Status] = ["missing"] * n
    size = HEAD.size + 8 * d
    for row, value in enumerate(rows):
        if value is None:
            continue
        if len(value) != size:
            raise CorruptValueError(
                f"{layout.entity} {keys[row]}: expected {size} bytes ({d} features of layout {layout.digest}), found {len(value)}; "
                "delete the key, and see who else writes under this application's name"
            )
        offset, time, expires = HEAD.unpack_from(value)
        if expires and remember_ms is not None and now_ms > expires + remember_ms:
            continue
        coordinates[:, row] = time, offset
        age[row] = max(0, now_ms - time)
        if expires and now_ms > expires:
            status[row] = "expired"
        else:
            status[row] = "found"
            values[row] = np.frombuffer(value, "<f8", offset=HEAD.size)
    return FeatureRows(layout.entity, keys, layout.features, values, tuple(status), coordinates[0], coordinates[1], age, layout.digest, rebuilding)
