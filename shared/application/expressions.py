"""SQL expressions over a record's columns, compiled and type-checked once."""

from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa

from shared.application.arrow_expressions import Evaluate, agrees, compile_arrow


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
        Arrow type of the result: float64, string, boolean, int64 or timestamp[ms].
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
        return column.to_arrow().cast(self.type)


def compile_expression(sql: str, schema: pa.Schema) -> Expression:
    """Compile `sql` against the columns of `schema`.

    Raises
    ------
    ExpressionError
        With the parser's or type checker's own words.
    """
    empty = pl.from_arrow(schema.empty_table())
    try:
        compiled = pl.sql_expr(sql)
        result = pl.DataFrame(empty).select(compiled.alias("value")).to_arrow().schema.field("value").type
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise ExpressionError(str(error).splitlines()[0]) from error
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
    raise ExpressionError(f"an expression may be a number, text, truth value or time, this one is {kind}")
