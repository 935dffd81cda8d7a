"""What texts of a column are taken for, value by value; what can be two things is refused."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.init.column_types import refuse_points_beside_commas, typed
from tidemill.init.time_formats import numbers_as_times, texts_as_times
from tidemill.replay.file_rows import DataSetError


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "-2", "+3"], "integer", [1, -2, 3]),
        (["1", "NA", "?", "", " 4 "], "integer", [1, None, None, None, 4]),
        (["1.5", "2", "1e3", ".5"], "number", [1.5, 2.0, 1000.0, 0.5]),
        (["1.5", "inf", "NaN"], "number", [1.5, None, None]),
        (["1,234", "1,234,567", "12"], "integer", [1234, 1234567, 12]),
        (["1,234.50", "2"], "number", [1234.5, 2.0]),
        (["1,5", "2", "1.234,75"], "number", [1.5, 2.0, 1234.75]),
        (["007", "01234"], "text", ["007", "01234"]),
        (["12345678901234567890", "2"], "text", ["12345678901234567890", "2"]),
        (["true", "False", "TRUE"], "boolean", [True, False, True]),
        (["yes", "no", "yes"], "text", ["yes", "no", "yes"]),
        (["2024-02-29", "2023-12-31"], "date", [date(2024, 2, 29), date(2023, 12, 31)]),
        (["2024-02-30", "2023-12-31"], "text", ["2024-02-30", "2023-12-31"]),
        (["31.12.2024", "1.2.2024"], "date", [date(2024, 12, 31), date(2024, 2, 1)]),
        (["13/01/2024", "01/02/2024"], "date", [date(2024, 1, 13), date(2024, 2, 1)]),
        (["01/13/2024", "02/01/2024"], "date", [date(2024, 1, 13), date(2024, 2, 1)]),
        (["01/02/2024", "03/04/2024"], "text", ["01/02/2024", "03/04/2024"]),
        (
            ["2024-01-01T10:00:00+02:00", "2024-01-01 10:00"],
            "time",
            [datetime.fromisoformat("2024-01-01T08:00"), datetime.fromisoformat("2024-01-01T10:00")],
        ),
        (
            ["2024-02-28 24:00", "2024-12-31T24:00:00Z", "2024-01-01 00:30"],
            "time",
            [datetime.fromisoformat(at) for at in ("2024-02-29", "2025-01-01", "2024-01-01T00:30")],
        ),
        (["US", "NA", "DE"], "text", ["US", "NA", "DE"]),
        (["red", "NA", "blue"], "text", ["red", None, "blue"]),
        (["None", "Brick", "?"], "text", ["None", "Brick", None]),
        (["", ""], "text", [None, None]),
        (["$1,234.50", "-$2", "$ 3"], "number", [1234.5, -2.0, 3.0]),
        (["12,5 €", "3 €"], "number", [12.5, 3.0]),
        (["12.5%", "-3%"], "number", [12.5, -3.0]),
        (["($1,234.50)", "$2", "(3$)"], "number", [-1234.5, 2.0, -3.0]),
        (["(1.234,50)", "2,5"], "number", [-1234.5, 2.5]),
        (["(1)", "(2)"], "text", ["(1)", "(2)"]),
        (["(a)", "1"], "text", ["(a)", "1"]),
        (["12 345", "1 234 567", "-12"], "integer", [12345, 1234567, -12]),
        (["12\u00a0345,50 €", "1\u202f234 €", "7,5 €"], "number", [12345.5, 1234.0, 7.5]),
        (["1'234.50", "12\u2019345.00", "3.25"], "number", [1234.5, 12345.0, 3.25]),
        (["110 001", "560 034"], "text", ["110 001", "560 034"]),
        (["12 345", "1 23"], "text", ["12 345", "1 23"]),
        (["12.50-", "3.25"], "number", [-12.5, 3.25]),
        (["\u221212,5", "3,25"], "number", [-12.5, 3.25]),
        (["a-", "b"], "text", ["a-", "b"]),
        (["1,5e3", "2,5", "3"], "number", [1500.0, 2.5, 3.0]),
        (["12.5 kg", "3 kg"], "number", [12.5, 3.0]),
        (["5km/h", "70km/h"], "integer", [5, 70]),
        (["20 °C", "-3.5 °C"], "number", [20.0, -3.5]),
        (["EUR 1,234.50", "EUR 2.00"], "number", [1234.5, 2.0]),
        (["3 kg", "4 g"], "text", ["3 kg", "4 g"]),
        (["Q1", "Q2"], "text", ["Q1", "Q2"]),
        (["007 km", "12 km"], "text", ["007 km", "12 km"]),
        (["08:30", "23:05", ""], "number", [30_600.0, 83_100.0, None]),
        (["0:00:01.5", "36:10:00"], "number", [1.5, 130_200.0]),
        (["08:30", "08:30:00"], "text", ["08:30", "08:30:00"]),
        (["3:1", "2:0"], "text", ["3:1", "2:0"]),
        (["$1", "€2"], "text", ["$1", "€2"]),
        (["1.234.567", "12.345", "7"], "integer", [1234567, 12345, 7]),
        (["192.168.100.101", "192.168.100.120"], "text", ["192.168.100.101", "192.168.100.120"]),
        (["1,23,456", "12,34,567.5", "99"], "number", [123456.0, 1234567.5, 99.0]),
        (["#DIV/0!", "1", "(null)", r"\N"], "integer", [None, 1, None, None]),
        (["2024-01-01", "0000-00-00"], "date", [date(2024, 1, 1), None]),
        (["25-12-2024 10:00", "01-02-2024 09:30"], "time", [datetime.fromisoformat("2024-12-25T10:00"), datetime.fromisoformat("2024-02-01T09:30")]),
        (["Mar 5, 2024", "Dec 31, 2023"], "date", [date(2024, 3, 5), date(2023, 12, 31)]),
        (
            ["2024-03-30 00:00:00.5+01", "2024-03-30t00:00z", "2024-03-30 00:00 +05:30", "2024-03-30 00:00:00 GMT"],
            "time",
            [datetime.fromisoformat(f"2024-03-{at}") for at in ("29T23:00:00.500", "30T00:00", "29T18:30", "30T00:00")],
        ),
        (["$1", "2"], "text", ["$1", "2"]),
        (
            ["01/13/2024 12:05 AM", "02/01/2024 1:30 pm"],
            "time",
            [datetime.fromisoformat("2024-01-13T00:05:00"), datetime.fromisoformat("2024-02-01T13:30:00")],
        ),
        (
            ["13.1.2024 12:05:59PM", "2.1.2024 1:30:00AM"],
            "time",
            [datetime.fromisoformat("2024-01-13T12:05:59"), datetime.fromisoformat("2024-01-02T01:30:00")],
        ),
    ],
)
def test_texts_become_what_all_of_them_are(texts: list[str], kind: str, values: list[Any]) -> None:
    column = typed("c", pl.Series("c", texts), slips=True)
    assert (column.kind, column.values.to_list()) == (kind, values)


def test_classes_are_spelled_as_they_come_where_a_column_would_be_measured() -> None:
    for texts in (["12.5 kg", "3 kg"], ["08:30", "23:05"]):
        assert typed("y", pl.Series("y", texts)).values.to_list() == texts


def test_what_is_no_value_is_said() -> None:
    assert typed("c", pl.Series("c", ["1", "NA", "NA"])).notes == ("'NA' (2 times) is no value",)


def test_a_comma_that_may_be_either_is_refused_until_it_is_said() -> None:
    texts = pl.Series("price", ["1,234", "5,678"])
    with pytest.raises(DataSetError, match=r"column 'price': .* found '1,234', which may be 1234 or 1.234; say which with --decimal"):
        typed("price", texts)
    assert typed("price", texts, ".").values.to_list() == [1234, 5678]
    assert typed("price", texts, ",").values.to_list() == [1.234, 5.678]


def test_a_slip_among_numbers_is_no_value_and_is_named_with_its_row() -> None:
    texts = pl.Series("c", [str(number) for number in range(200)] + ["oops", "7.5"])
    column = typed("c", texts, slips=True)
    assert column.kind == "number" and column.values[200] is None and column.values[201] == 7.5 and column.nulls == 1
    assert column.notes == ("1 of 202 values are no numbers ('oops', row 201) and count as none",)
    assert typed("c", texts).kind == "text", "of a label every value counts"


@pytest.mark.parametrize(
    "texts", [["1"] * 20 + ["oops"], ["1"] * 90 + ["V1"] * 10, ["1"] * 200 + ["a", "b", "c", "d"], [f"{n:03}" for n in range(99)] + ["x"]]
)
def test_codes_with_letters_and_short_columns_stay_texts(texts: list[str]) -> None:
    assert typed("c", pl.Series("c", texts), slips=True).kind == "text"


def test_a_time_that_is_none_is_named_with_its_row() -> None:
    texts = ["2025-01-01 10:00:00"] * 30 + [None, "not a time", "2025-01-01 11:00"]
    with pytest.raises(DataSetError, match=r"column 'when', row 32: .* \('2025-01-01 10:00:00'\), found 'not a time'; correct it"):
        texts_as_times("when", pl.Series("when", texts), None)
    with pytest.raises(DataSetError, match=r"row 1: .* \('01.02.2024'\), found 'x'"):
        texts_as_times("when", pl.Series("when", ["x", *["01.02.2024"] * 30]), None)


def test_a_time_that_no_calendar_has_is_named_with_its_row() -> None:
    """It was no value, without a word."""
    column = typed("c", pl.Series("c", ["2024-02-28 10:00"] * 20 + ["2024-02-30 10:00"]))
    assert column.kind == "time" and column.values[20] is None
    assert column.notes == ("1 of 21 values are no times of the calendar ('2024-02-30 10:00', row 21) and count as none",)
    assert typed("c", pl.Series("c", ["2024-02-30 10:00", "2024-02-28 10:00"])).kind == "text"


@pytest.mark.parametrize(
    ("numbers", "declared", "first"),
    [
        ([202_403_301_230, 202_403_301_231], None, "2024-03-30T12:30:00"),
        ([20_240_330_123_059, 20_240_330_123_159], None, "2024-03-30T12:30:59"),
        ([2_024_033_012, 2_024_033_013], None, "2024-03-30T12:00:00"),
        ([2_024_033_024, 2_024_033_013], None, "2024-03-31T00:00:00"),
        ([1_711_756_800_000, 1_711_756_800_001], None, "2024-03-30T00:00:00"),
        ([638_473_536_000_000_000], "nanoseconds", "1990-03-26T17:45:36"),
    ],
)
def test_numbers_are_times_where_they_can_be_read_in_one_way(numbers: list[int], declared: str | None, first: str) -> None:
    times, _ = numbers_as_times("c", pl.Series("c", numbers), declared)
    assert times[0].isoformat() == first


@pytest.mark.parametrize("numbers", [pl.Series("n", [2**63, 5], pl.UInt64), pl.Series("n", ["12345678901234567890", "5"])], ids=["numbers", "texts"])
def test_labels_beyond_64_bits_are_numbers_and_elsewhere_names(numbers: pl.Series) -> None:
    label = typed("n", numbers, slips=False, measured=True)
    assert label.kind == "number" and label.values.to_list() == [float(numbers[0]), 5.0] and any("64 bits" in note for note in label.notes)
    assert typed("n", numbers).kind == "text"


@pytest.mark.parametrize("ticks", [638_473_536_000_000_000, 133_562_304_000_000_000])
def test_ticks_of_windows_are_not_taken_for_nanoseconds(ticks: int) -> None:
    """They were times of 1990 and of 1974."""
    with pytest.raises(DataSetError, match="say what they are with --time-format"):
        numbers_as_times("c", pl.Series("c", [ticks, ticks + 10**7]), None)


def test_fractions_of_a_second_are_read_as_pythons_patterns_have_them_and_names_of_zones_are_refused() -> None:
    texts = pl.Series("c", ["2024-01-01 10:00:00.25"])
    assert texts_as_times("c", texts, "%Y-%m-%d %H:%M:%S.%f")[0].isoformat() == "2024-01-01T10:00:00.250000"
    with pytest.raises(DataSetError, match=r"say their offset from UTC \(%z\)"):
        texts_as_times("c", pl.Series("c", ["2024-01-01 CET"]), "%Y-%m-%d %Z")


def test_a_point_is_refused_beside_decimal_commas_until_it_is_said_what_it_is() -> None:
    """1.234 pieces were 1.234 in the export of a German spreadsheet."""
    texts = pl.DataFrame({"price": ["12,50", "3,75"], "pieces": ["1.234", "7"]})
    columns = [typed(name, texts[name]) for name in texts.columns]
    with pytest.raises(DataSetError, match=r"'pieces': .*found '1.234', which may be 1.234 or 1234, as 'price' has decimal commas; .*--decimal ,"):
        refuse_points_beside_commas(columns, texts)
    assert typed("pieces", texts["pieces"], ",").values.to_list() == [1234, 7]
    assert typed("code", pl.Series("code", ["01234", "7"]), ",").values.to_list() == ["01234", "7"]
    texts = texts.with_columns(pieces=pl.Series(["1.25", "7"]))
    refuse_points_beside_commas([typed(name, texts[name]) for name in texts.columns], texts)
