"""Keys are written alike everywhere: by the stages from columns, by the gateway from JSON and from what a caller typed."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.services.features.domain.entities import EntityIndex
from tidemill.shared.avro.key_text import KeyTextError, key_text, key_texts, written_key


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567890123.0, "1234567890123"), (1e15, "1000000000000000"), (-0.0, "0"), (0.1, "0.1"), (2.5e-7, "2.5e-7"), (1e20, "1e+20"), (-3.0, "-3"),
        (9007199254740993.0, "9007199254740992"),
    ],
)  # fmt: skip
def test_a_whole_number_keeps_its_digits(value: float, text: str) -> None:
    assert key_texts(pa.array([None, value, 0.5])).to_pylist() == [None, text, "0.5"]
    assert key_text(value, pa.float64()) == text and written_key(repr(value), pa.float64()) == text


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62)))
def test_a_written_number_names_the_same_number(value: float) -> None:
    column = pa.array([float(value)], pa.float64())
    text = key_texts(column)[0].as_py()
    assert float(Decimal(text)) == float(value), "no two numbers share a name, no number has two"
    assert key_text(json.loads(json.dumps(value)), pa.float64()) == text == written_key(str(value), pa.float64())


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1.5, pa.decimal128(9, 2), "1.50"), ("1.5", pa.decimal128(9, 2), "1.50"), (2, pa.decimal128(9, 2), "2.00"),
        ("2024-01-15", pa.date32(), "2024-01-15"), (19737, pa.date32(), "2024-01-15"),
    ],
)  # fmt: skip
def test_decimals_and_dates_are_written_as_their_columns_write_them(value: object, kind: pa.DataType, text: str) -> None:
    assert key_text(value, kind) == text
    assert not isinstance(value, str) or written_key(value, kind) == text


def test_uuids_are_written_in_small_letters() -> None:
    upper = "123E4567-E89B-12D3-A456-426614174000"
    assert key_text(upper, pa.string(), uuid=True) == written_key(upper, pa.string(), uuid=True) == upper.lower()
    for write in (key_text, written_key):
        with pytest.raises(KeyTextError, match="expected a uuid such as"):
            write("nobody", pa.string(), uuid=True)


def test_float32_keys_do_not_show_the_digits_of_a_double() -> None:
    assert key_texts(pa.array([0.1, 16777216.0, 5e9], pa.float32())).to_pylist() == ["0.1", "16777216", "5000000000"]


def test_features_find_an_entity_under_the_name_that_the_gateway_looks_for() -> None:
    index = EntityIndex()
    slots = index.slots(pa.array([1234567890123.0, None, 7.0, 1234567890123.0]))
    assert np.array_equal(slots, [0, -1, 1, 0]) or np.array_equal(slots, [1, -1, 0, 1])
    assert set(index.names) == {"1234567890123", "7"}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, pa.string()), (True, pa.int64()), (1, pa.bool_()), ("true", pa.bool_()), ("7", pa.float64()), (1.5, pa.int64()), (2**63, pa.int64()),
        (2**31, pa.int32()), (float("inf"), pa.float64()), (float("nan"), pa.float64()), (10**400, pa.float64()), ("soon", pa.timestamp("ms")),
        ("\ud800", pa.string()), ("", pa.string()), (1.555, pa.decimal128(9, 2)), (True, pa.decimal128(9, 2)), ("soon", pa.date32()),
        ([], pa.string()), ({}, pa.int64()), (None, pa.string()),
    ],
)  # fmt: skip
def test_what_ingestion_would_refuse_is_no_key(value: object, kind: pa.DataType) -> None:
    with pytest.raises(KeyTextError, match="expected"):
        key_text(value, kind)


@pytest.mark.parametrize(
    ("text", "kind"), [("yes", pa.bool_()), ("1.5", pa.int64()), ("x", pa.float64()), ("nan", pa.float64()), ("1" * 5000, pa.int64())]
)
def test_a_text_that_no_value_has_is_no_key(text: str, kind: pa.DataType) -> None:
    with pytest.raises(KeyTextError, match="expected"):
        written_key(text, kind)
