"""The SQL expressions of one application file."""

from collections.abc import Sequence

import pyarrow as pa

from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import Expression, ExpressionError, compile_expression

Path_ = Sequence[str | int]


class FileExpressions:
    """Compiles the expressions of one application file, each once for the same columns.

    Every method raises ApplicationError, with file and line, for what does not compile or has another type than is expected.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._compiled: dict[tuple[str, pa.Schema], Expression] = {}

    def compile(self, sql: str, columns: pa.Schema, path: Path_, kind: pa.DataType | None = None) -> Expression:
        """Compile an expression, of any type or of one."""
        try:
            if (sql, columns) not in self._compiled:
                self._compiled[sql, columns] = compile_expression(sql, columns)
            expression = self._compiled[sql, columns]
        except ExpressionError as error:
            raise self._document.error(path, "a SQL expression over the stream's columns", f"{sql!r}: {error}") from error
        if kind is not None and expression.type != kind:
            raise self._document.error(path, f"an expression of type {kind}", f"{sql!r} of type {expression.type}")
        return expression

    def condition(self, sql: str, columns: pa.Schema, path: Path_) -> Expression:
        """Compile a truth value."""
        return self.compile(sql, columns, path, pa.bool_())

    def number(self, sql: str, columns: pa.Schema, path: Path_) -> Expression:
        """Compile a number or a truth value."""
        expression = self.compile(sql, columns, path)
        if expression.type not in (pa.float64(), pa.int64(), pa.bool_()):
            raise self._document.error(path, "a number or a truth value", f"{sql!r} of type {expression.type}")
        return expression
