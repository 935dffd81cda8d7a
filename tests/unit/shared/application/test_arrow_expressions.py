from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.shared.application.expressions import compile_expression

SCHEMA = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("small", pa.int32()), ("s", pa.string()), ("t", pa.string()), ("b", pa.bool_())])
QUICK = [
    "x", "s",
    "x > 100", "x >= 0", "x < 1.5", "x <= 0", "x = 0", "x <> 0.1", "n > 3", "small <> 15", "s = 'x'", "s > 'b'", "s IS NULL", "x IS NOT NULL",
    "x > 0 AND x < 6000", "x > 0.5 OR b", "NOT (s = 'x')", "x BETWEEN 1 AND 2", "x * 0.93 + 1", "x - 0.1", "s || '-' || t",
    "CASE WHEN x > 15 THEN 1.0 ELSE 0.0 END",
    "n * 2", "n + small", "n + small - small", "n * small + 7 > 100", "ABS(n)", "-n", "n * n * 3 - n * n * 2",
]  # fmt: skip
GENERAL = ["small / 60", "s IN ('x', 'y')", "UPPER(s)", "CAST(s AS DOUBLE)"]
ROW = st.tuples(
    st.none() | st.floats(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.text(max_size=3),
    st.none() | st.text(max_size=3),
    st.none() | st.booleans(),
)


@pytest.mark.parametrize("sql", QUICK)
def test_cheap_forms_do_not_need_the_general_engine(sql: str) -> None:
    assert compile_expression(sql, SCHEMA).quick is not None


@pytest.mark.parametrize("sql", GENERAL)
def test_other_forms_keep_it(sql: str) -> None:
    assert compile_expression(sql, SCHEMA).quick is None


def test_an_expression_over_many_columns_is_compiled_at_once() -> None:
    """Forty columns have 11 to the power of 40 combinations of difficult values; a list of those of ten took all memory."""
    names = [f"c{i}" for i in range(40)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    expression = compile_expression(" AND ".join(f"{name} IS NOT NULL" for name in names), schema)
    assert expression.quick is not None
    full = pa.RecordBatch.from_pydict({name: [1.0, 2.0 if i != 17 else None] for i, name in enumerate(names)}, schema=schema)
    assert expression.evaluate(full).to_pylist() == expression.evaluate_generally(full).to_pylist() == [True, False]


@settings(max_examples=60, deadline=None)
@given(sql=st.sampled_from(QUICK), rows=st.lists(ROW, min_size=1, max_size=12))
def test_both_give_the_same_bits(sql: str, rows: list[tuple[object, ...]]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([row[i] for row in rows], field.type) for i, field in enumerate(SCHEMA)], schema=SCHEMA)
    expression = compile_expression(sql, SCHEMA)
    (quick, failed), (general, failed_too) = expression.attempt(batch), replace(expression, quick=None).attempt(batch)
    assert quick.type == general.type and failed.tolist() == failed_too.tolist()
    assert [repr(value) for value in quick.to_pylist()] == [repr(value) for value in general.to_pylist()]
