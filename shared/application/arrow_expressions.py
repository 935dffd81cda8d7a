"""Cheap SQL expressions as Arrow kernels: a call costs microseconds where the general engine needs its thread pool.

Only forms whose bits are the same are taken over: columns, comparisons of a column with a literal, AND, OR, NOT, IS NULL, IS NOT NULL, sums,
differences and products of float64 columns and literals, those of whole numbers (`exact_integers`), texts joined, CASE with number literals.
`agrees` holds the result against the general engine's on rows made to differ (null, NaN, infinities, signed zero, extremes, empty text), and a form
that does not agree is not used. Whole numbers are computed in 64 bits: a step beyond them raises, and the general engine says what comes of it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

Evaluate = Callable[[pa.RecordBatch], Any]
_COMPARE: Mapping[str, Callable[..., Any]] = {
    "Gt": pc.greater, "GtEq": pc.greater_equal, "Lt": pc.less, "LtEq": pc.less_equal, "Eq": pc.equal, "NotEq": pc.not_equal,
}  # fmt: skip
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Plus": pc.add,
    "Minus": pc.subtract,
    "Multiply": pc.multiply,
    "Add": pc.add,
    "Sub": pc.subtract,
    "Mul": pc.multiply,
}
_CHECKED: Mapping[str, Callable[..., Any]] = {"Plus": pc.add_checked, "Minus": pc.subtract_checked, "Multiply": pc.multiply_checked}
_WHOLE = ({"Literal": "Int64"}, {"Literal": "Int128"})
_PROBES: Mapping[pa.DataType, list[Any]] = {
    pa.float64(): [None, float("nan"), 0.0, -0.0, 1.0, -3.5, 15.0, 0.1, 1e300, float("inf"), float("-inf")],
    pa.int64(): [None, 0, 1, -7, 15, 2**53 + 1, 2**62],
    pa.int32(): [None, 0, 1, -7, 15, 2**31 - 1],
    pa.string(): [None, "", "x", "Ä", "EUR"],
    pa.bool_(): [None, True, False],
    pa.timestamp("ms"): [None, 0, 1_358_424_000_000, -5],
}
# Of whole numbers whose sums and products no probe takes beyond 64 bits, where the general engine fails for the batch.
_SMALL = 1_000
_MOST_ROWS = 2_000


class _Unsupported(Exception):
    """The expression needs the general engine."""


def compile_arrow(compiled: pl.Expr, schema: pa.Schema) -> Evaluate | None:
    """Return a function from a batch to the values of every row, None when the expression has another form.

    Parameters
    ----------
    compiled
        As polars parsed it.
    schema
        Columns the expression may name.
    """
    try:
        tree = json.loads(compiled.meta.serialize(format="json"))
        evaluate, _ = _node(tree, schema)
    except (_Unsupported, ValueError, OverflowError, KeyError, TypeError, pl.exceptions.PolarsError):
        return None
    return evaluate


def agrees(evaluate: Evaluate, general: Callable[[pa.RecordBatch], pa.Array], names: list[str], schema: pa.Schema) -> bool:
    """Say whether both give the same bits on difficult values of the columns they read: every combination, or 2,000 drawn where there are more."""
    if not names or any(schema.field(name).type not in _PROBES for name in names):
        return False
    probes = [_PROBES[schema.field(name).type] for name in names]
    small = [[value for value in values if not isinstance(value, int) or abs(value) < _SMALL] for values in probes]
    return _agree(evaluate, general, names, schema, probes) or (small != probes and _agree(evaluate, general, names, schema, small))


def _agree(evaluate: Evaluate, general: Callable[[pa.RecordBatch], pa.Array], names: list[str], schema: pa.Schema, probes: list[list[Any]]) -> bool:
    columns = [pa.array(values, schema.field(name).type) for values, name in zip(_combinations(probes), names, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, names=names)
    try:
        expected, answer = general(batch), evaluate(batch)
    except (pl.exceptions.PolarsError, pa.ArrowException):
        return False
    return bool(answer.type == expected.type) and _bits(answer) == _bits(expected)


def _combinations(probes: list[list[Any]]) -> list[Sequence[Any]]:
    """Return combinations of values, a column for each list. Of ten columns there are billions, so no list of them all is ever made."""
    if prod(map(len, probes)) <= _MOST_ROWS:
        return list(zip(*product(*probes), strict=True))
    draw = Random(7)
    return [draw.choices(values, k=_MOST_ROWS) for values in probes]


def _bits(column: pa.Array) -> list[str]:
    """Values as text that tells NaN from null and -0.0 from 0.0."""
    return [repr(value) for value in column.to_pylist()]


def _node(tree: Any, schema: pa.Schema) -> tuple[Evaluate, pa.DataType]:  # noqa: ANN401, RUF100 - polars' JSON
    if not isinstance(tree, dict):
        raise _Unsupported
    (kind, body), *rest = tree.items()
    if rest:
        raise _Unsupported
    if kind == "Column":
        return (lambda batch: batch.column(body)), schema.field(body).type
    if kind == "BinaryExpr":
        return _binary(body["op"], body["left"], body["right"], schema)
    if kind == "Function":
        return _function(body["input"], body["function"], schema)
    if kind == "Cast" and body["dtype"] in _WHOLE and body["options"] == "Strict":
        return _whole(tree, schema), pa.int64()
    if kind == "Cast":
        inner, type_ = _node(body["expr"], schema)
        if (body["dtype"], type_) not in (({"Literal": "String"}, pa.string()), ({"Literal": "Boolean"}, pa.bool_())):
            raise _Unsupported
        return inner, type_
    if kind == "Ternary":
        condition, type_ = _node(body["predicate"], schema)
        yes, no = pa.scalar(_number(body["truthy"]), pa.float64()), pa.scalar(_number(body["falsy"]), pa.float64())
        if type_ != pa.bool_():
            raise _Unsupported
        return (lambda batch: pc.if_else(pc.fill_null(condition(batch), False), yes, no)), pa.float64()
    raise _Unsupported


def _whole(tree: Any, schema: pa.Schema) -> Evaluate:  # noqa: ANN401, RUF100 - polars' JSON
    """Return what computes a whole number in 64 bits, step by step; it raises ArrowInvalid for a step that they do not hold."""
    (kind, body), *_ = tree.items()
    if kind == "Cast" and body["dtype"] in _WHOLE:
        return _whole(body["expr"], schema)
    if kind == "Literal":
        value = pa.scalar(int(body["Dyn"]["Int"]), pa.int64())
        return lambda _: value
    if kind == "BinaryExpr" and body["op"] in _CHECKED:
        first, second, apply = _whole(body["left"], schema), _whole(body["right"], schema), _CHECKED[body["op"]]
        return lambda batch: apply(first(batch), second(batch))
    if kind == "Function" and body["function"] == "Abs":
        inner = _whole(body["input"][0], schema)
        return lambda batch: pc.abs_checked(inner(batch))
    if kind == "Column" and schema.field(body).type == pa.int64():
        return lambda batch: batch.column(body)
    if kind == "Column" and schema.field(body).type == pa.int32():
        return lambda batch: batch.column(body).cast(pa.int64())
    raise _Unsupported


def _function(inputs: Any, function: Any, schema: pa.Schema) -> tuple[Evaluate, pa.DataType]:  # noqa: ANN401, RUF100
    if not isinstance(function, dict):
        raise _Unsupported  # a function of no family, such as Abs or Coalesce
    (kind, name), *_ = function.items()
    if kind == "Boolean" and name in ("IsNull", "IsNotNull", "Not"):
        inner, type_ = _node(inputs[0], schema)
        if name == "Not" and type_ != pa.bool_():
            raise _Unsupported
        apply = {"IsNull": pc.is_null, "IsNotNull": pc.is_valid, "Not": pc.invert}[name]
        return (lambda batch: apply(inner(batch))), pa.bool_()
    if kind == "Sql" and "Binary" in name:
        return _binary(name["Binary"], inputs[0], inputs[1], schema)
    raise _Unsupported


def _binary(op: str, left: Any, right: Any, schema: pa.Schema) -> tuple[Evaluate, pa.DataType]:  # noqa: ANN401, RUF100
    if op in ("And", "Or"):
        (first, type_), (second, other) = _node(left, schema), _node(right, schema)
        if (type_, other) != (pa.bool_(), pa.bool_()):
            raise _Unsupported
        join = pc.and_kleene if op == "And" else pc.or_kleene
        return (lambda batch: join(first(batch), second(batch))), pa.bool_()
    if op in _COMPARE:
        inner, type_ = _node(left, schema)
        literal = _literal(right, type_)
        compare = _COMPARE[op]
        if type_ == pa.float64() and op in ("Gt", "GtEq"):  # the general engine has NaN above every number
            return (lambda batch: _or_nan(compare(value := inner(batch), literal), value)), pa.bool_()
        return (lambda batch: compare(inner(batch), literal)), pa.bool_()
    if op in _ARITHMETIC:
        first, type_ = _operand(left, schema)
        second, other = _operand(right, schema)
        if op == "Plus" and (type_, other) == (pa.string(), pa.string()):
            return (lambda batch: pc.binary_join_element_wise(first(batch), second(batch), "")), pa.string()
        if (type_, other) != (pa.float64(), pa.float64()):
            raise _Unsupported
        apply = _ARITHMETIC[op]
        return (lambda batch: apply(first(batch), second(batch))), pa.float64()
    raise _Unsupported


def _or_nan(holds: Any, value: Any) -> Any:  # noqa: ANN401, RUF100
    return pc.or_kleene(holds, pc.is_nan(value))


def _operand(tree: Any, schema: pa.Schema) -> tuple[Evaluate, pa.DataType]:  # noqa: ANN401, RUF100
    inner = tree["Cast"]["expr"] if "Cast" in tree else tree
    if "Literal" in inner:
        scalar = _text(inner)
        value = pa.scalar(_number(inner), pa.float64()) if scalar is None else scalar
        return (lambda _: value), value.type
    return _node(tree, schema)


def _literal(tree: Any, type_: pa.DataType) -> pa.Scalar:  # noqa: ANN401, RUF100
    text = _text(tree)
    if text is not None and type_ == pa.string():
        return text
    if text is None and type_ == pa.float64():
        return pa.scalar(_number(tree), pa.float64())
    if type_ in (pa.int64(), pa.int32()) and "Dyn" in tree["Literal"]:
        return pa.scalar(int(tree["Literal"]["Dyn"]["Int"]), pa.int64())
    raise _Unsupported


def _text(tree: Any) -> pa.Scalar | None:  # noqa: ANN401, RUF100
    scalar = tree.get("Literal", {}).get("Scalar", {})
    return pa.scalar(scalar["String"], pa.string()) if "String" in scalar else None


def _number(tree: Any) -> float:  # noqa: ANN401, RUF100
    literal = tree["Literal"]
    if "Dyn" in literal:
        (kind, value), *_ = literal["Dyn"].items()
        if kind in ("Int", "Float"):
            return float(value)
    if "Decimal" in literal.get("Scalar", {}):
        digits, _, scale = literal["Scalar"]["Decimal"]
        return float(int(digits)) / float(10**scale)
    if "Float64" in literal.get("Scalar", {}):
        return float(literal["Scalar"]["Float64"])
    raise _Unsupported
