"""Arithmetic of whole numbers that is exact or fails: computed in 128 bits, and a result beyond 64 fails for its record.

polars' own wraps around: ``n + 1`` is -9223372036854775808 for the largest ``n``. A result is held against 64 bits where it leaves a sum, a
difference or a product; within one, a step is held against them only where 128 bits would not hold what comes of it.
"""

from dataclasses import dataclass
from typing import Any

Node = Any
"""A node of polars' JSON."""

RING = {"Plus": "Plus", "Minus": "Minus", "Multiply": "Multiply", "Add": "Plus", "Sub": "Minus", "Mul": "Multiply"}
"""Operators that can leave 64 bits, by polars' names, of the engine and of SQL."""
_WORD = 2**63
_WIDEST = 2**127 - 1


@dataclass(frozen=True, slots=True)
class Exact:
    """A whole number in 128 bits, not yet held against 64: its node, and a bound of its magnitude."""

    node: Node
    most: int

    def checked(self) -> Node:
        """Return the number in 64 bits; evaluating it raises for one that they do not hold."""
        return cast(self.node, "Int64")


def cast(node: Node, kind: Any) -> Node:  # noqa: ANN401, RUF100 - polars' JSON
    """Return a node as another type; evaluating it raises for a value that has none there."""
    return {"Cast": {"expr": node, "dtype": {"Literal": kind}, "options": "Strict"}}


def exact(node: Node) -> Exact:
    """Return a whole number or a truth value of at most 64 bits in 128."""
    value = node.get("Literal", {}).get("Dyn", {}).get("Int")
    return Exact(cast(cast(node, "Int64"), "Int128"), _WORD if value is None else abs(int(value)))


def combined(op: str, left: Exact, right: Exact) -> Exact:
    """Return the sum, difference or product, which 128 bits hold: operands that would be too large are held against 64 bits first."""
    if _most(op, left, right) > _WIDEST:
        left, right = _held(left), _held(right)
    return Exact({"BinaryExpr": {"left": left.node, "op": RING[op], "right": right.node}}, _most(op, left, right))


def magnitude(number: Exact) -> Exact:
    """Return the absolute value: that of -2^63 has 65 bits."""
    return Exact({"Function": {"input": [number.node], "function": "Abs"}}, number.most)


def list_sum(node: Node) -> Exact:
    """Return the sum of a list of whole numbers of at most 64 bits."""
    return Exact({"Function": {"input": [cast(node, {"List": "Int128"})], "function": {"ListExpr": "Sum"}}}, _WIDEST)


def power(body: Any, base: Node, exponent: Node) -> Node:  # noqa: ANN401, RUF100 - polars' JSON
    """Return an integral power in 64 bits; evaluating it raises where the same power as a double, which is never near 2^63 by chance, is beyond."""
    whole = {"Function": {**body, "input": [base, exponent]}}
    rough = {"Function": {"input": [cast(base, "Float64"), cast(exponent, "Float64")], "function": {"Pow": "Generic"}}}
    nothing = {"BinaryExpr": {"left": cast(rough, "Int64"), "op": "Multiply", "right": {"Literal": {"Dyn": {"Int": 0}}}}}
    return {"BinaryExpr": {"left": whole, "op": "Plus", "right": nothing}}


def nanoseconds(time: Node, microseconds: bool) -> Node:
    """Return a time's distance from 1970 as a double, as EXTRACT(epoch ...) divides it: 64 bits hold the nanoseconds until 2262 only."""
    unit, times = ("Microseconds", 10**3) if microseconds else ("Milliseconds", 10**6)
    stamp = exact({"Function": {"input": [time], "function": {"TemporalExpr": {"TimeStamp": unit}}}})
    return cast(combined("Multiply", stamp, exact({"Literal": {"Dyn": {"Int": times}}})).node, "Float64")


def _most(op: str, left: Exact, right: Exact) -> int:
    return left.most * right.most if RING[op] == "Multiply" else left.most + right.most


def _held(number: Exact) -> Exact:
    return number if number.most <= _WORD else Exact(cast(number.checked(), "Int128"), _WORD)
