"""Decimals that events write as text: digits of ASCII, and nothing that only Python takes for a number."""

from decimal import Decimal

import pytest

from tidemill.shared.avro.json_text import shown
from tidemill.shared.avro.json_values import decimal_value


@pytest.mark.parametrize("text", ["12.34", "12.340", "+12.34", " 12.34 ", "1234e-2", "0012.34"])
def test_numbers_are_taken_to_the_digit(text: str) -> None:
    assert decimal_value(text, 10, 2, "amount") == Decimal("12.34")


@pytest.mark.parametrize("text", ["1_2.34", "\u0661\u0662.34", "\uff11\uff12.34", "NaN", "sNaN", "Infinity", "12,34", "", ".", "1e", "0x1p2"])
def test_what_only_python_takes_for_a_number_is_refused(text: str) -> None:
    """`1_2.34` was 12.34, and so were digits of other scripts."""
    with pytest.raises(ValueError, match=r"expected decimal\(10, 2\) in amount"):
        decimal_value(text, 10, 2, "amount")


def test_messages_show_a_number_as_it_was_written() -> None:
    assert (shown(Decimal("3.0")), shown("3.0")) == ("3.0", "'3.0'")
