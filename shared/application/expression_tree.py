"""A SQL expression as polars parsed it: what it may ask for, and whole numbers that do not wrap around.

polars gives the parts of a time in 8 bits and lengths in 32 without a sign: ``EXTRACT(hour FROM t) * 60`` is -36 for eleven o'clock at night, and
``LENGTH(s) - 5`` is 4294967294 for three letters. SQL knows no such numbers, so what such an operator or function takes is cast to 64 bits.
Beyond 64 bits an expression fails (`exact_integers`).
"""

import io
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from tidemill.shared.application.exact_integers import RING, Exact, combined, exact, list_sum, magnitude, nanoseconds, power

Node = Any
"""A node of polars' JSON: a mapping of one kind to its body, or a word such as ``Len``."""

_PARTS = {"BinaryExpr": ("left", "right"), "Cast": ("expr",), "Ternary": ("predicate", "truthy", "falsy")}
_LEAVES = ("Column", "Literal")
_TABLE_FUNCTIONS = frozenset(
    "All Any ApproxNUnique ArgMax ArgMin ArgUnique BackwardFill Correlation CumCount CumMax CumMin CumProd CumSum Diff DropNans DropNulls Entropy"
    " ForwardFill Implode IsDuplicated IsFirstDistinct IsLastDistinct IsUnique Kurtosis Mode NullCount Quantile Random Range Rank Shift Skew Unique"
    " UniqueCounts ValueCounts".split()
)
"""Functions whose value in a row depends on the other rows that happen to be in the batch."""
_IN_WORDS = {"Agg": "an aggregate", "Over": "a window", "Len": "the number of rows", "Explode": "a row for each item"}
_NARROW = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
_WHOLE = (pl.Int64, pl.UInt64)
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "Plus": operator.add, "Minus": operator.sub, "Multiply": operator.mul, "And": operator.and_, "Or": operator.or_, "Eq": operator.eq,
    "NotEq": operator.ne, "Lt": operator.lt, "LtEq": operator.le, "Gt": operator.gt, "GtEq": operator.ge,
}  # fmt: skip
_TYPES: Mapping[str, Any] = {"Int64": pl.Int64, "Int128": pl.Int128, "Float64": pl.Float64}


def other_rows(compiled: pl.Expr) -> str | None:
    """Say what an expression asks of other rows than a record's own, in words; None for one that sees one row."""
    culprit = next(_other_rows(_tree(compiled)), None)
    return None if culprit is None else _IN_WORDS.get(culprit, culprit)


def name_given(compiled: pl.Expr) -> str | None:
    """Return the name that an expression gives its value, as ``amount fee`` and ``1_000`` do in SQL; None where it gives none."""
    tree = _tree(compiled)
    return str(tree["Alias"][1]) if "Alias" in tree else None


def widen(compiled: pl.Expr, frame: pl.DataFrame) -> pl.Expr:
    """Return an expression in which no operator or function computes whole numbers of fewer than 64 bits, and which fails beyond them.

    Parameters
    ----------
    frame
        Columns it may name, without rows.

    Raises
    ------
    polars.exceptions.PolarsError
        It does not type-check.
    ValueError
        It has whole numbers to widen and a literal that is no finite number, or is nested too deeply to be written anew.
    """
    tree = _tree(compiled)
    wide = _widened(tree, frame.schema).node
    return compiled if wide == tree else _expression(wide)


def _tree(compiled: pl.Expr) -> Node:
    return json.loads(compiled.meta.serialize(format="json"))


def _expression(tree: Node) -> pl.Expr:
    """Build an expression. polars reads JSON some fifty levels deep only, so operators, choices and casts are joined here."""
    (kind, body), *_ = tree.items()
    if kind == "BinaryExpr" and body["op"] in _OPERATORS:
        joined: pl.Expr = _OPERATORS[body["op"]](_expression(body["left"]), _expression(body["right"]))
        return joined
    if kind == "Ternary":
        return pl.when(_expression(body["predicate"])).then(_expression(body["truthy"])).otherwise(_expression(body["falsy"]))
    if kind == "Cast" and body["options"] != "Overflowing" and (type_ := _TYPES.get(str(body["dtype"].get("Literal")))):
        return _expression(body["expr"]).cast(type_, strict=body["options"] == "Strict")
    try:
        return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")
    except pl.exceptions.ComputeError as error:
        raise ValueError("a simpler expression: its parts stand in each other more than some fifty deep, or it names a number without end") from error


def _children(kind: str, body: Any) -> list[Node]:
    if kind == "Function":
        return list(body["input"])
    return [body[0]] if kind == "Alias" else [body[part] for part in _PARTS[kind]]


def _with_children(kind: str, body: Any, children: list[Node]) -> Node:
    if kind == "Function":
        return {kind: {**body, "input": children}}
    return {kind: [*children, *body[1:]]} if kind == "Alias" else {kind: {**body, **dict(zip(_PARTS[kind], children, strict=True))}}


def _other_rows(node: Node) -> Iterator[str]:
    if not isinstance(node, dict):
        yield str(node)
        return
    (kind, body), *_ = node.items()
    if kind in _LEAVES:
        return
    if kind not in _PARTS and kind not in ("Function", "Alias"):
        yield kind
        return
    if kind == "Function" and (name := _function_name(body["function"])) in _TABLE_FUNCTIONS:
        yield name
    for child in _children(kind, body):
        yield from _other_rows(child)


def _function_name(function: Any) -> str:
    """Return the name of a function, which polars gives as a word, or below its family or before its options."""
    while isinstance(function, dict):
        (name, body), *_ = function.items()
        if name not in ("Boolean", "Sql"):
            return str(name)
        function = body
    return str(function)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an expression.

    Attributes
    ----------
    node
        Its whole numbers have 64 bits.
    type
        None for a column or a constant, which stay as they are.
    names_column
        Whether it names one.
    exact
        The same in 128 bits, of a sum, a difference or a product of whole numbers.
    """

    node: Node
    type: Any
    names_column: bool
    exact: Exact | None = None


def _widened(node: Node, schema: Mapping[str, Any]) -> _Part:
    (kind, body), *_ = node.items()
    if kind in _LEAVES:
        return _Part(node, None, kind == "Column")
    parts = [_widened(child, schema) for child in _children(kind, body)]
    type_ = _type_of(kind, body, parts, schema)
    if kind in ("BinaryExpr", "Function") and type_ in _NARROW:
        # A choice or a cast computes nothing, so that a CASE of many branches is left as it is.
        parts = [_cast(part) if part.type in _NARROW else part for part in parts]
        type_ = _type_of(kind, body, parts, schema)
    names_column = any(part.names_column for part in parts)
    if type_ in _WHOLE and names_column:
        if number := _exact(kind, body, parts):
            return _Part(number.checked(), pl.Int64(), True, number)
        if kind == "Function" and body["function"] == {"Pow": "Generic"}:
            return _Part(power(body, *(part.node for part in parts)), type_, True)
        if kind == "Function" and body["function"] == {"TemporalExpr": {"TimeStamp": "Nanoseconds"}}:
            time = parts[0].type or _type_of("Alias", [parts[0].node, "value"], parts, schema)
            return _Part(nanoseconds(parts[0].node, time == pl.Datetime("us")), pl.Float64(), True)
    return _Part(_with_children(kind, body, [part.node for part in parts]), type_, names_column)


def _exact(kind: str, body: Any, parts: Sequence[_Part]) -> Exact | None:
    """Return what can leave 64 bits in 128; None for an operator or function whose value cannot."""
    if kind == "BinaryExpr":
        op = body["op"]
    elif kind == "Function":
        function = body["function"]
        if function == {"ListExpr": "Sum"}:
            return list_sum(parts[0].node)
        op = function.get("Sql", {}).get("Binary") if isinstance(function, dict) and isinstance(function.get("Sql"), dict) else function
    else:
        return None
    if not isinstance(op, str) or (op != "Abs" and op not in RING):
        return None
    numbers = [part.exact or exact(part.node) for part in parts]
    return magnitude(numbers[0]) if op == "Abs" else combined(op, *numbers)


def _type_of(kind: str, body: Any, parts: Sequence[_Part], schema: Mapping[str, Any]) -> Any:
    """Return the type of a node, which follows from those of its parts: a column in place of each keeps the work linear.

    Constants stay, since many functions take nothing else.
    """
    known, inputs = {}, []
    for i, part in enumerate(parts):
        if part.type is None or not part.names_column:
            inputs.append(part.node)
        else:
            known[f"_part{i}"] = part.type
            inputs.append({"Column": f"_part{i}"})
    expression = _expression(_with_children(kind, body, inputs)).alias("value")
    # A frame of every column at each step would make the work of an expression over a wide table grow with its square.
    known |= {name: schema[name] for name in expression.meta.root_names() if name in schema}
    return pl.LazyFrame(schema=known).select(expression).collect_schema()["value"]


def _cast(part: _Part) -> _Part:
    wide = {"Cast": {"expr": part.node, "dtype": {"Literal": "Int64"}, "options": "NonStrict"}}
    return _Part(wide, pl.Int64(), part.names_column)
