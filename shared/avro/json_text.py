"""JSON of strangers as Python values: what the standard leaves open, or the standard library takes beyond it, is refused by name."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

_SHOWN = 80
_TOO_LONG = "Exceeds the limit"
_MOST_DIGITS = 4_300


def shown(item: Any) -> str:  # whatever the JSON holds
    """Return a value as a message shows it: never the whole of a long one."""
    text = str(item) if isinstance(item, Decimal) else repr(item)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON (`object_pairs_hook`); ValueError when a name comes twice, since nothing says which of its values is meant."""
    members = dict(pairs)
    if len(members) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"expected each field once, found {shown(name)} {times} times")
    return members


def json_parser(parse_float: Callable[[str], Any] = float, *, constants: bool = False) -> Callable[[str], Any]:
    """Return a function that parses a text of JSON.

    It raises ValueError for what is no JSON, for a name that comes twice in an object, and for whole numbers of more than 4,300 digits, whose
    conversion takes a time that grows with their square; RecursionError for some hundred levels.

    Parameters
    ----------
    parse_float
        Makes a number of one with a point or an exponent.
    constants
        Whether NaN, Infinity and -Infinity are taken, which Python writes and JSON does not have.
    """
    # What json.loads does, which makes a decoder for each text.
    decode = json.JSONDecoder(object_pairs_hook=each_once, parse_float=parse_float, parse_constant=float if constants else _no_constant).decode

    def parse(text: str) -> Any:
        try:
            return decode(text)
        except ValueError as error:
            if isinstance(error, _NotANumberError) or str(error).startswith(_TOO_LONG):
                _name_the_field(text, constants)
            raise

    return parse


class _NotANumberError(ValueError):
    """A constant that JSON does not have."""


@dataclass(frozen=True, slots=True)
class _NoNumber:
    """Stands for what is refused until its field is known."""

    found: str
    expected: str = "a number"


def _name_the_field(text: str, constants: bool) -> None:
    """Raise ValueError that names the field of what is no number: the parser knows it only once its object has ended."""

    def whole(digits: str) -> int | _NoNumber:
        count = len(digits.removeprefix("-"))
        return int(digits) if count <= _MOST_DIGITS else _NoNumber(f"one of {count:,}", f"a number of at most {_MOST_DIGITS:,} digits")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, value in pairs:
            refuse(value, f" in {shown(name)[1:-1]}")
        return each_once(pairs)

    def refuse(value: Any, where: str) -> None:
        if (refused := _first_refused(value)) is not None:
            raise ValueError(f"expected {refused.expected}{where}, found {refused.found}")

    constant = float if constants else lambda name: _NoNumber(f"{name}, which JSON does not have")
    refuse(json.JSONDecoder(object_pairs_hook=members, parse_int=whole, parse_constant=constant).decode(text), "")


def _first_refused(value: Any) -> _NoNumber | None:
    """Return the first one of a value or of the arrays in it."""
    if isinstance(value, list):
        return next((refused for item in value if (refused := _first_refused(item)) is not None), None)
    return value if isinstance(value, _NoNumber) else None


def _no_constant(text: str) -> NoReturn:
    raise _NotANumberError(text)
