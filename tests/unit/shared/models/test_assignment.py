"""Assignment of requests to a canary: against a plain-Python hash, the share it gives, how sticky it is, and independence of candidates."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidemill.shared.log.packed import Packed
from tidemill.shared.models.assignment import fractions, hashes

MASK = (1 << 64) - 1
KEYS = Packed.of([f"entity-{i}".encode() for i in range(100_000)])
FIRST, SECOND = (hashlib.sha256(name).hexdigest() for name in (b"first", b"second"))


def in_canary(keys: Sequence[bytes | None], address: str, share: float) -> NDArray[np.bool_]:
    """Return who is in a canary with that share."""
    return fractions(keys, address) < share


def finalised(value: int) -> int:
    """MurmurHash3's fmix64 on Python's integers."""
    value = (value ^ (value >> 33)) * 0xFF51AFD7ED558CCD & MASK
    value = (value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ (value >> 33)


def hash_of(key: bytes, address: str) -> int:
    """Hash one key, a byte at a time."""
    value = 0xCBF29CE484222325
    for byte in key:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return finalised(finalised(value) ^ int(address[:16], 16))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=20), st.binary(min_size=32, max_size=32))
def test_the_hash_is_that_of_plain_python_packed_or_not(keys: list[bytes | None], address: bytes) -> None:
    expected = [hash_of(key or b"", address.hex()) for key in keys]
    assert hashes(keys, address.hex()).tolist() == expected
    packed = Packed.of([b"before", *(key or b"" for key in keys)])
    assert packed is not None
    assert hashes(packed[1:], address.hex()).tolist() == expected
    assert fractions(keys, address.hex()).tolist() == [(value >> 11) / 2**53 for value in expected]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_shares_hold_on_a_hundred_thousand_keys(share: float) -> None:
    assert KEYS is not None
    in_it = in_canary(KEYS, FIRST, share).mean()
    assert abs(in_it - share) < 4 * np.sqrt(share * (1 - share) / len(KEYS))


def test_nobody_is_in_none_and_everybody_is_in_all() -> None:
    assert KEYS is not None
    assert not in_canary(KEYS, FIRST, 0.0).any()
    assert in_canary(KEYS, FIRST, 1.0).all()


def test_raising_the_share_keeps_those_that_were_in() -> None:
    assert KEYS is not None
    before = np.zeros(len(KEYS), bool)
    for share in (0.05, 0.1, 0.3, 0.7):
        now = in_canary(KEYS, FIRST, share)
        assert now[before].all()
        before = now


def test_an_entity_stays_where_it_is_in_whatever_batch_it_comes() -> None:
    assert KEYS is not None
    whole = in_canary(KEYS, FIRST, 0.2)
    rows = np.random.default_rng(3).permutation(len(KEYS))[:5_000]
    assert (in_canary([KEYS[int(row)] for row in rows], FIRST, 0.2) == whole[rows]).all()


def test_two_candidates_draw_independent_lots() -> None:
    assert KEYS is not None
    first, second = fractions(KEYS, FIRST), fractions(KEYS, SECOND)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(KEYS))
    both = (in_canary(KEYS, FIRST, 0.1) & in_canary(KEYS, SECOND, 0.1)).mean()
    assert abs(both - 0.01) < 4 * np.sqrt(0.01 * 0.99 / len(KEYS))
    counts, _, _ = np.histogram2d(first, second, bins=10, range=[[0, 1], [0, 1]])
    chi_square = ((counts - len(KEYS) / 100) ** 2 / (len(KEYS) / 100)).sum()
    assert 50 < chi_square < 160  # 99 degrees of freedom
