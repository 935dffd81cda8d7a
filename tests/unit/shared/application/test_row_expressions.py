"""An expression sees one record, fails for one record, and its whole numbers are SQL's. Oracles: Python's own arithmetic, datetime, decimal."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tidemill.shared.application.expressions import ExpressionError, compile_expression

SCHEMA = pa.schema(
    [
        ("n", pa.int64()), ("i", pa.int32()), ("x", pa.float64()), ("s", pa.string()), ("b", pa.bool_()), ("t", pa.timestamp("ms")),
        ("d", pa.date32()), ("money", pa.decimal128(38, 18)), ("items", pa.list_(pa.int32())), ("now", pa.string()),
    ]
)  # fmt: skip
LATE = datetime(2024, 12, 31, 23, 59, 7, tzinfo=UTC)
ROW: dict[str, Any] = {
    "n": -7, "i": 2**31 - 1, "x": 2.5, "s": "abc", "b": True, "t": LATE.replace(tzinfo=None), "d": date(2024, 12, 31), "money": Decimal("1.5"),
    "items": [2**31 - 1, 1], "now": "x",
}  # fmt: skip


def value(sql: str, **changes: Any) -> Any:
    batch = pa.RecordBatch.from_pylist([{**ROW, **changes}], schema=SCHEMA)
    return compile_expression(sql, SCHEMA).evaluate(batch)[0].as_py()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("EXTRACT(hour FROM t) * 60 + EXTRACT(minute FROM t)", LATE.hour * 60 + LATE.minute),
        ("EXTRACT(month FROM d) * 100 + EXTRACT(day FROM d)", 1231),
        ("EXTRACT(year FROM d) * EXTRACT(year FROM d) * 1000", 2024 * 2024 * 1000),
        ("CASE WHEN b THEN EXTRACT(hour FROM t) ELSE 0 END * 60", 23 * 60),
        ("LENGTH(s) - 5", -2),
        ("-LENGTH(s)", -3),
        ("STRPOS(s, 'q') - 1", -1),
        ("ARRAY_LENGTH(items) - 3", -1),
        ("ARRAY_SUM(items)", 2**31),
        ("items[1] * 2", (2**31 - 1) * 2),
        ("i * 3", (2**31 - 1) * 3),
        ("i + 1", 2**31),
        ("CAST(b AS INT) * 3000000000", 3_000_000_000),
        ("b + b", 2),
    ],
)
def test_whole_numbers_do_not_wrap_around(sql: str, expected: int) -> None:
    expression = compile_expression(sql, SCHEMA)
    assert expression.type == pa.int64()
    assert value(sql) == expected


@pytest.mark.parametrize(
    ("sql", "column", "fits", "beyond"),
    [
        ("-n", "n", -(2**63) + 1, -(2**63)),
        ("ABS(n)", "n", -(2**63) + 1, -(2**63)),
        ("n * n", "n", 3_037_000_499, 3_037_000_500),
        ("n + n", "n", -(2**62), 2**62),
        ("POW(n, 2)", "n", 3_037_000_499, -3_037_000_500),
        ("POW(n, 63)", "n", -2, 2),
        ("n + b", "n", 2**63 - 2, 2**63 - 1),
        ("ARRAY_SUM(items) * n", "n", -(2**31), 2**32),
        ("n * 3 - n * 2", "n", 2**63 - 1, None),
        ("n * n * n", "n", 2**20, 2**21 + 1),
        ("CASE WHEN n < 10 THEN 0 ELSE n * 2 END", "n", -(2**63), 2**62),
    ],
)
def test_beyond_64_bits_an_expression_fails(sql: str, column: str, fits: int, beyond: int | None) -> None:
    expression = compile_expression(sql, SCHEMA)
    python = {"POW": pow, "ABS": abs, "n": fits, "b": True, "ARRAY_SUM": sum, "items": ROW["items"]}
    expected = 0 if sql.startswith("CASE") else eval(sql, python)
    rows = [{**ROW, column: fits}] * 3 + [{**ROW, column: beyond}] + [{**ROW, column: fits}]
    values, failed = expression.attempt(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    assert values.to_pylist() == [expected, expected, expected, None, expected]
    assert failed.nonzero()[0].tolist() == ([] if beyond is None else [3])


def test_the_seconds_of_a_time_after_2262_do_not_wrap_around() -> None:
    """64 bits hold the nanoseconds until then only."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert value("EXTRACT(epoch FROM t)", t=last.replace(tzinfo=None)) == last.timestamp()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ABS(n)", 7), ("SIGN(x)", 1.0), ("FLOOR(x)", 2.0), ("CEIL(x)", 3.0), ("COALESCE(s, 'none')", "abc"), ("IFNULL(n, 0)", -7),
        ("GREATEST(n, 3)", 3), ("LEAST(n, 3)", -7), ("ABS(money)", 1.5), ("LN(x) > 0.9", True), ("EXP(x) > 12", True), ("LOG10(x) < 1", True),
        ("POSITION('c' IN s)", 3), ("CASE WHEN COALESCE(n, 0) > 0 THEN 1.0 ELSE 0.0 END", 0.0), ("COALESCE(x, 0) > 2", True),
        ("now = 'NOW()'", False),
    ],
)  # fmt: skip
def test_functions_of_no_family_compile(sql: str, expected: object) -> None:
    assert value(sql) == expected


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SUM(n)", r"asks for others \(an aggregate\); aggregates over records are views"),
        ("x / MAX(x)", "an aggregate"),
        ("COUNT(*)", "the number of rows"),
        ("COUNT(DISTINCT s)", "an aggregate"),
        ("STDDEV(x)", "an aggregate"),
        ("CORR(x, n)", "asks for others"),
        ("QUANTILE_CONT(x, 0.5)", "Quantile"),
        ("ROW_NUMBER() OVER ()", "asks for others"),
        ("LAG(n) OVER (ORDER BY n)", "a window"),
        ("SUM(n) OVER (PARTITION BY s)", "a window"),
        ("UNNEST(items)", "a row for each item"),
        ("CASE WHEN b THEN FIRST(n) ELSE 0 END", "an aggregate"),
        ("x + COALESCE(AVG(x), 0)", "an aggregate"),
        ("d = CURRENT_DATE", "CURRENT_DATE is another instant in each run"),
        ("t < now()", r"now\(\) is another instant"),
    ],
)
def test_what_sees_other_records_or_the_clock_is_refused(sql: str, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        compile_expression(sql, SCHEMA)


@pytest.mark.parametrize(("sql", "name"), [("x > 1_000", "_000"), ("x n", "n"), ("1h", "h"), ('x + n "s"', "s"), ("-5m", "m")])
def test_a_name_behind_an_expression_is_refused_unless_as_says_that_it_is_one(sql: str, name: str) -> None:
    """`x > 1_000` was `x > 1`, and `price pieces` the price."""
    with pytest.raises(ExpressionError, match=f"found '{name}' behind it"):
        compile_expression(sql, SCHEMA)
    assert value("x * 2 AS twice") == 5.0 and value("CAST(x AS DOUBLE) + 1") == 3.5


@pytest.mark.parametrize("sql", [" + ".join(["x"] * 20_000), " || ".join(["s"] * 1_000), "CASE " + "WHEN n > 1 THEN 1 " * 5_000 + "END"])
def test_what_would_end_the_process_is_refused(sql: str) -> None:
    """polars takes minutes for it, or ends with SIGSEGV."""
    with pytest.raises(ExpressionError, match=r"at most 300 operators and branches, \d+ came"):
        compile_expression(sql, SCHEMA)


def test_a_choice_of_many_branches_compiles() -> None:
    branches = "CASE " + " ".join(f"WHEN n = {i} THEN {i * 7}" for i in range(200)) + " END"
    assert value(branches, n=150) == 1_050
    assert value(f"n * 60 + {branches}", n=150) == 150 * 60 + 1_050
    with pytest.raises(ExpressionError, match="its parts stand in each other hundreds deep"):
        compile_expression(" * ".join(["n"] * 300), SCHEMA)
    assert value(" + ".join(["EXTRACT(hour FROM t)"] * 150)) == 150 * 23


@pytest.mark.parametrize(
    ("sql", "column", "good", "bad"),
    [
        ("money * 2", "money", Decimal("1.5"), Decimal("99999999999999999999.5")),
        ("ROUND(money * money, 2)", "money", Decimal("1.5"), Decimal("99999999999999999999.5")),
        ("CAST(s AS DOUBLE)", "s", "1.5", "abc"),
        ("REGEXP_LIKE('abc', s)", "s", "b", "("),
        ("CAST(x AS INT)", "x", 2.0, 1e300),
    ],
)
def test_a_row_for_which_an_expression_fails_costs_itself_only(sql: str, column: str, good: object, bad: object) -> None:
    expression = compile_expression(sql, SCHEMA)
    rows = [{**ROW, column: bad if i in (3, 4, 11) else good} for i in range(12)]
    values, failed = expression.attempt(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    alone = expression.evaluate(pa.RecordBatch.from_pylist(rows[:1], schema=SCHEMA))[0].as_py()
    assert alone is not None
    assert values.to_pylist() == [None if i in (3, 4, 11) else alone for i in range(12)]
    assert failed.nonzero()[0].tolist() == [3, 4, 11]
