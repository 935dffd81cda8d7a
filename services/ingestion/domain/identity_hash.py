"""128 bits of a text, keyed: what stands for an event's id where millions of them must be remembered."""

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.log.packed import Packed

KEY_BYTES = 16


@njit(cache=True, nogil=True, error_model="numpy")
def _rounds(v, times):  # pragma: no cover
    a, b, c, d = v[0], v[1], v[2], v[3]
    for _ in range(times):
        a += b
        b = (b << np.uint64(13) | b >> np.uint64(51)) ^ a
        a = a << np.uint64(32) | a >> np.uint64(32)
        c += d
        d = (d << np.uint64(16) | d >> np.uint64(48)) ^ c
        a += d
        d = (d << np.uint64(21) | d >> np.uint64(43)) ^ a
        c += b
        b = (b << np.uint64(17) | b >> np.uint64(47)) ^ c
        c = c << np.uint64(32) | c >> np.uint64(32)
    v[0], v[1], v[2], v[3] = a, b, c, d


@njit(cache=True, nogil=True, error_model="numpy")
def _siphash(content, stops, one, two, out):  # pragma: no cover
    v = np.empty(4, np.uint64)
    for i in range(stops.size - 1):
        at, end = stops[i], stops[i + 1]
        length = end - at
        v[0] = one ^ np.uint64(0x736F6D6570736575)
        v[1] = two ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
        v[2] = one ^ np.uint64(0x6C7967656E657261)
        v[3] = two ^ np.uint64(0x7465646279746573)
        while end - at >= 8:
            word = np.uint64(0)
            for k in range(8):
                word |= np.uint64(content[at + k]) << np.uint64(8 * k)
            v[3] ^= word
            _rounds(v, 2)
            v[0] ^= word
            at += 8
        word = np.uint64(length & 0xFF) << np.uint64(56)
        for k in range(end - at):
            word |= np.uint64(content[at + k]) << np.uint64(8 * k)
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
        v[2] ^= np.uint64(0xEE)
        _rounds(v, 4)
        out[i, 0] = v[0] ^ v[1] ^ v[2] ^ v[3]
        v[1] ^= np.uint64(0xDD)
        _rounds(v, 4)
        out[i, 1] = v[0] ^ v[1] ^ v[2] ^ v[3]


def identity_hashes(texts: pa.Array, key: bytes) -> NDArray[np.int64]:
    """Return SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012) of each text, shape (n, 2); of a null nothing is promised.

    A publisher who does not know the key cannot make two ids that are taken for one.

    Parameters
    ----------
    texts
        A string column.
    key
        16 bytes.
    """
    packed = Packed.of_column(texts.fill_null("") if texts.null_count else texts)
    assert packed is not None  # noqa: S101 - nulls are gone
    out = np.empty((len(texts), 2), np.uint64)
    one, two = np.frombuffer(key, "<u8")
    _siphash(packed.content, packed.stops, one, two, out)
    return out.view(np.int64)
