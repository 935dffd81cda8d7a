"""Which requests a canary answers: a sticky, salted hash of the entity, the same in scoring, backtest and audit."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tidemill.shared.log.packed import Packed

_OFFSET_BASIS = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_SALT_DIGITS = 16
_UNUSED_BITS = np.uint64(11)
_UNIT = 2.0**-53


@njit(cache=True)
def _mixed(value):  # pragma: no cover
    value = (value ^ (value >> _SHIFT)) * _FIRST_FACTOR
    value = (value ^ (value >> _SHIFT)) * _SECOND_FACTOR
    return value ^ (value >> _SHIFT)


@njit(cache=True)
def _hash(content, stops, salt, out):  # pragma: no cover
    for i in range(out.size):
        value = _OFFSET_BASIS
        for at in range(stops[i], stops[i + 1]):
            value = (value ^ np.uint64(content[at])) * _PRIME
        # Mixed before the salt as well: under two salts one key's hashes then share no structure.
        out[i] = _mixed(_mixed(value) ^ salt)


def hashes(keys: Sequence[bytes | None], artifact_sha256: str) -> NDArray[np.uint64]:
    """Return the 64-bit hash of every key under a candidate's salt, shape (n,).

    FNV-1a over the bytes, MurmurHash3's finaliser, exclusive or with the salt (the first 64 bits of the artifact's SHA-256), the finaliser once more.
    Equal keys have equal hashes in every process and batch, so a canary is sticky by entity; another candidate draws another lot. A record without a
    key counts as one with an empty key.

    References
    ----------
    Fowler, Noll and Vo, http://www.isthe.com/chongo/tech/comp/fnv; Appleby, MurmurHash3 (``fmix64``).
    """
    packed = Packed.of(keys)
    if packed is None:
        return hashes([key or b"" for key in keys], artifact_sha256)
    out = np.empty(len(packed), np.uint64)
    _hash(packed.content, packed.stops, np.uint64(int(artifact_sha256[:_SALT_DIGITS], 16)), out)
    return out


def fractions(keys: Sequence[bytes | None], artifact_sha256: str) -> NDArray[np.float64]:
    """Return the upper 53 bits of every key's hash as a number in [0, 1), shape (n,): a canary answers where it is below its share.

    Raising the share keeps those that were in; 0 is none, 1 is all.

    Parameters
    ----------
    keys
        Journal keys of the requests.
    artifact_sha256
        Content address of the candidate, which salts the hash.

    >>> fractions([b"N14228", b"N24211", b"N14228"], "5f" * 32).round(4).tolist()
    [0.7512, 0.3322, 0.7512]
    """
    return (hashes(keys, artifact_sha256) >> _UNUSED_BITS).astype(np.float64) * _UNIT
