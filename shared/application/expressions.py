"""SQL expressions over a record's columns, compiled and type-checked once."""

import re
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa

from tidemill.shared.application.arrow_expressions import Evaluate, agrees, compile_arrow
from tidemill.shared.application.column_roles import feature_values

_LITERAL = re.compile(r"""('(?:[^']|'')*'|"[^"]*")""")
_WORDS = frozenset(
    "ALL AND ANY AS ASC BETWEEN BY CASE CAST CROSS DESC DISTINCT ELSE END EXCEPT EXISTS FALSE FROM FULL GROUP HAVING IN INNER INTERSECT INTERVAL"
    " INTO IS JOIN LEFT LIKE LIMIT NATURAL NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION RIGHT SELECT SET TABLE THEN TO TRUE UNION USING VALUES"
    " WHEN WHERE WINDOW WITH DATE TIME TIMESTAMP".split()
)


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
        """Return the value of every row, shape (n,)."""
        return self.evaluate_generally(batch) if self.quick is None else self.quick(batch)

    def evaluate_generally(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the same from the general engine, polars."""
        n = batch.num_rows
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
        With the parser's or type checker's own words.
    """
    empty = pl.from_arrow(schema.empty_table())
    try:
        compiled = pl.sql_expr(_quoted(sql, schema))
        result = pl.DataFrame(empty).select(compiled.alias("value")).to_arrow().schema.field("value").type
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise ExpressionError(str(error).splitlines()[0] + _about_words(sql, schema)) from error
    expression = Expression(sql, _public(result), compiled)
    quick = compile_arrow(compiled, schema)
    if quick is not None and agrees(quick, expression.evaluate_generally, sorted(set(compiled.meta.root_names())), schema):
        expression = replace(expression, quick=quick)
    return expression


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
