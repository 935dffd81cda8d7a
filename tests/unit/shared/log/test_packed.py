"""Packed byte strings behave as the list of them, whichever way they came about."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.shared.log.packed import Packed, packed_or_list, taken

texts = st.lists(st.binary(max_size=12), max_size=20)


def packed(values: list[bytes]) -> Packed:
    column = Packed.of(values)
    assert column is not None
    return column


@settings(deadline=None)
@given(values=texts, begin=st.integers(-25, 25), end=st.integers(-25, 25), step=st.sampled_from([1, 1, 2, -1]))
def test_it_is_the_sequence_it_was_made_of(values: list[bytes], begin: int, end: int, step: int) -> None:
    one = packed(values)
    assert len(one) == len(values) and list(one) == values and one == values and one.lengths.tolist() == list(map(len, values))
    part = one[begin:end:step]
    assert part == values[begin:end:step]
    assert [part[i] for i in range(-len(part), len(part))] == values[begin:end:step] * 2
    assert pickle.loads(pickle.dumps(part)) == part
    assert None not in one and all(value in one for value in values)


@settings(deadline=None)
@given(values=texts, data=st.data())
def test_rows_are_taken_in_any_order(values: list[bytes], data: st.DataObject) -> None:
    one = packed([b"x", *values])[1:]
    rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=30)) if values else [], np.int64)
    assert taken(one, rows) == taken(values, rows) == [values[row] for row in rows.tolist()]


@settings(deadline=None)
@given(values=st.lists(st.text(max_size=6), max_size=20), large=st.booleans(), begin=st.integers(0, 5))
def test_a_column_gives_its_bytes(values: list[str], large: bool, begin: int) -> None:
    column = pa.array(values, pa.large_string() if large else pa.string())[begin:]
    assert Packed.of_column(column) == [value.encode() for value in values[begin:]]


def test_nulls_are_not_packed() -> None:
    assert Packed.of([b"a", None]) is None and Packed.of_column(pa.array(["a", None])) is None
    values = [b"a", None]
    assert packed_or_list(values) is values


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        packed([b"a"])[1]
    with pytest.raises(IndexError):
        packed([])[-1]


def test_the_content_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Packed(np.zeros(3, np.uint8), np.array([0, 3])).content[0] = 1
