"""SQL expressions over a record's columns, compiled and type-checked once."""

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.arrow_expressions import Evaluate, agrees, compile_arrow
from tidemill.shared.application.column_roles import feature_values
from tidemill.shared.application.expression_tree import name_given, other_rows, widen

_LITERAL = re.compile(r"""('(?:[^']|'')*'|"[^"]*")""")
_WORDS = frozenset(
    "ALL AND ANY AS ASC BETWEEN BY CASE CAST CROSS DESC DISTINCT ELSE END EXCEPT EXISTS FALSE FROM FULL GROUP HAVING IN INNER INTERSECT INTERVAL"
    " INTO IS JOIN LEFT LIKE LIMIT NATURAL NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION RIGHT SELECT SET TABLE THEN TO TRUE UNION USING VALUES"
    " WHEN WHERE WINDOW WITH DATE TIME TIMESTAMP".split()
)
_CLOCK = re.compile(r"\b(?:CURRENT_(?:DATE|TIME|TIMESTAMP)|LOCALTIME|LOCALTIMESTAMP|(?:NOW|TODAY)\s*\(\s*\))(?!\w)", re.IGNORECASE)
_AS = re.compile(r"\bAS\s+(?:\w+|\"[^\"]*\")\s*$", re.IGNORECASE)
_OPERATOR = re.compile(r"\b(?:AND|OR|WHEN)\b|\|\||[-+*/%]", re.IGNORECASE)
_MOST_OPERATORS = 300
"""polars nests what is joined, in time that grows with the square, and a thousand of them end the process (SIGSEGV, measured)."""


class ExpressionError(ValueError):
    """The expression does not parse, names an unknown column, or does not type-check."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled SQL expression; pure, replay-safe, row by row.

    Attributes
    ----------
    sql
        As written.
    type
        Arrow type of the result: float64, string, boolean, int64, date32 or timestamp[ms].
    compiled, quick
        For the general engine; and the same for Arrow's kernels where there is one with the same bits.
    """

    sql: str
    type: pa.DataType
    compiled: pl.Expr = field(repr=False, compare=False)
    quick: Evaluate | None = field(default=None, repr=False, compare=False)

    def evaluate(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the value of every row, shape (n,); null where there is none (a cast that cannot be done, digits that no decimal has)."""
        return self.attempt(batch)[0]

    def attempt(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Return the value of every row, and which rows have none because the expression fails for them: one record costs itself only."""
        try:
            if self.quick is not None:
                return self.quick(batch), np.zeros(batch.num_rows, np.bool_)
        except pa.ArrowInvalid:
            # Whole numbers beyond 64 bits: the general engine tells a step in between from the end.
            return self._attempt(self._own(batch))
        return self._attempt(self._own(batch))

    def _own(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = [name for name in batch.schema.names if name in _columns(self)]
        return batch.select(names or batch.schema.names[:1])

    def _attempt(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[np.bool_]]:
        n = batch.num_rows
        try:
            return self.evaluate_generally(batch), np.zeros(n, np.bool_)
        except (pl.exceptions.PolarsError, pa.ArrowException, OverflowError):
            if n == 1:
                return pa.nulls(1, self.type), np.ones(1, np.bool_)
            half = n // 2
            (first, failed), (second, failed_too) = self._attempt(batch.slice(0, half)), self._attempt(batch.slice(half))
            return pa.concat_arrays([first, second]), np.concatenate([failed, failed_too])

    def evaluate_generally(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the same from the general engine, polars.

        Raises
        ------
        polars.exceptions.PolarsError, pyarrow.ArrowException, OverflowError
            The expression fails for a row.
        """
        n = batch.num_rows
        batch = _widened(batch)
        # polars divides a column by a literal through the reciprocal, but a single row by division: other bits. One row is therefore
        # evaluated as two (joined in Arrow: two equal rows joined in polars would stay one scalar).
        frame = pl.from_arrow(pa.concat_batches([batch, batch]) if n == 1 else batch)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("expected a record batch")
        column = frame.select(self.compiled.alias("value"))["value"]
        if len(column) == 1:
            column = column.new_from_index(0, n)
        column = column.head(n)
        return feature_values(column.to_arrow(), self.type)


def compile_expression(sql: str, schema: pa.Schema) -> Expression:
    """Compile `sql` against the columns of `schema`.

    Raises
    ------
    ExpressionError
        With the parser's or type checker's own words; or it is too long; or it asks
        for the clock, or for other rows than a record's own (aggregates, windows): what a
        record gives would depend on the batch it came in.
    """
    _refuse_text(sql)
    try:
        compiled = pl.sql_expr(_quoted(sql, schema))
        if (name := name_given(compiled)) is not None and not _AS.search(sql):
            raise ValueError(f"expected an expression alone, found {name!r} behind it: an operator is missing, or 1_000 is written in place of 1000")
        frame = _empty(schema, compiled.meta.root_names())
        result = frame.select(compiled.alias("value")).to_arrow().schema.field("value").type
        others = other_rows(compiled)
        compiled = compiled if others else widen(compiled, frame)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise ExpressionError(str(error).splitlines()[0] + _about_words(sql, schema)) from error
    if others is not None:
        raise ExpressionError(f"an expression sees one record, this one asks for others ({others}); aggregates over records are views")
    expression = Expression(sql, _public(result), compiled)
    try:
        quick = compile_arrow(compiled, schema)
    except RecursionError as error:
        raise ExpressionError("a simpler expression: its parts stand in each other hundreds deep") from error
    if quick is not None and agrees(quick, expression.evaluate_generally, sorted(set(compiled.meta.root_names())), schema):
        expression = replace(expression, quick=quick)
    return expression


def _empty(schema: pa.Schema, names: list[str]) -> pl.DataFrame:
    """Return columns without rows: those that are named, since a table may have hundreds; all of them where a name is unknown."""
    if names and set(names) <= set(schema.names):
        schema = pa.schema([field for field in schema if field.name in names])
    return pl.DataFrame(pl.from_arrow(_widened(pa.RecordBatch.from_pylist([], schema=schema))))


@lru_cache(maxsize=1024)
def _columns(expression: Expression) -> frozenset[str]:
    """Columns an expression reads: only they are handed over, which is most of the cost of a small batch."""
    return frozenset(expression.compiled.meta.root_names())


def _widened(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return columns of 32-bit integers as of 64 bits: cents times pieces do not wrap around at two thousand million."""
    for i, one in enumerate(batch.schema):
        if one.type == pa.int32():
            batch = batch.set_column(i, one.name, batch.column(i).cast(pa.int64()))
        elif pa.types.is_list(one.type) and one.type.value_type == pa.int32():
            batch = batch.set_column(i, one.name, batch.column(i).cast(pa.list_(pa.int64())))
    return batch


def _refuse_text(sql: str) -> None:
    plain = "".join(part for i, part in enumerate(_LITERAL.split(sql)) if not i % 2)
    if (count := len(_OPERATOR.findall(plain))) > _MOST_OPERATORS:
        raise ExpressionError(f"at most {_MOST_OPERATORS} operators and branches, {count} came; long lists are IN (...), or a reference stream")
    words = _CLOCK.search(plain)
    if words:
        raise ExpressionError(
            f"{words.group()} is another instant in each run, so that no replay gives the same; a record's own times are its columns"
        )


def _public(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_boolean(kind):
        return pa.bool_()
    if pa.types.is_large_string(kind) or pa.types.is_string(kind) or str(kind) == "string_view":
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ms")
    if pa.types.is_date(kind):
        return pa.date32()
    parts = "take a part of it (EXTRACT, ARRAY_LENGTH)"
    raise ExpressionError(f"an expression may be a number, text, truth value, date or time, this one is {kind}; {parts}")


def _quoted(sql: str, schema: pa.Schema) -> str:
    """Quote the dotted names of columns, which SQL would take for a table's: `customer.address.city` as it is written."""
    for name in sorted((name for name in schema.names if "." in name), key=len, reverse=True):
        sql = "".join(
            part if i % 2 else re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", f'"{name}"', part) for i, part in enumerate(_LITERAL.split(sql))
        )
    return sql


def _about_words(sql: str, schema: pa.Schema) -> str:
    """Name the columns an expression may have meant that are words of SQL."""
    plain = "".join(part for i, part in enumerate(_LITERAL.split(sql)) if not i % 2)
    words = [name for name in schema.names if name.upper() in _WORDS and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", plain)]
    return "".join(f'; {name} is a word of SQL: write the column as "{name}", in double quotes' for name in words)
