"""JSON values of Avro types as the Python values Arrow takes: events in JSON, and defaults of schemas."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Any, TypeVar

from tidemill.shared.avro.json_text import shown
from tidemill.shared.avro.schema_tree import AvroType

_T = TypeVar("_T")
Convert = Callable[[Any], Any]
# How a field becomes a column, or (a record) columns of a row.
_Way = tuple[Convert | None, Callable[[Any, dict[str, Any]], None] | None]
BytesOf = Callable[[Any, int | None, str], bytes]
DecimalOf = Callable[[Any, int, int, str], Decimal]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO = date(1970, 1, 1).toordinal()
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
FIRST_DAY, LAST_DAY = 1 - _DAY_ZERO, date.max.toordinal() - _DAY_ZERO
# Python's own reading also takes 1_000, digits of other scripts, NaN and infinities.
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
DAY_UNITS = {"time-millis": 86_400_000, "time-micros": 86_400_000_000}


@dataclass(frozen=True, slots=True)
class JsonForm:
    """How JSON has what it has no types of its own for.

    Attributes
    ----------
    bytes_of
        From a value, the size (None: any) and the field's name.
    decimal_of
        From a value, precision, scale and the field's name.
    skips_unknown
        Fields that the schema does not know are skipped, and one that is missing needs a default, as in Avro: for JSON that a machine writes by a
        schema. Otherwise an unknown field is refused, and a missing one may be one that may be null.
    """

    bytes_of: BytesOf
    decimal_of: DecimalOf
    skips_unknown: bool = False


def converter(kind: AvroType, name: str, form: JsonForm | None = None) -> Convert:
    """Return the function that turns a JSON value of an Avro type (without null) into what Arrow takes; it raises ValueError or TypeError.

    Numbers are checked, not cast: Arrow would make 1 of 1.5 and of true. Times may be numbers in the type's unit or ISO 8601 text (without an
    offset: UTC); decimals numbers or text; bytes are text of the code points 0 to 255, as in Avro's own JSON.
    """
    logical, own = kind.logical, form or AVRO_JSON
    if logical == "decimal":
        return lambda item: own.decimal_of(item, kind.precision, kind.scale, name)
    if logical == "uuid":
        return lambda item: _uuid(item, name)
    if logical == "date":
        return lambda item: _date(item, name)
    if logical in DAY_UNITS:
        return lambda item: time_of_day(item, logical, name)
    if logical.endswith(("-millis", "-micros")):
        per_second = 1_000 if logical.endswith("-millis") else 1_000_000
        return lambda item: _timestamp(item, per_second, name)
    if kind.kind in ("int", "long"):
        bits = 32 if kind.kind == "int" else 64
        return lambda item: integer(item, bits, name)
    if kind.kind in ("float", "double"):
        return lambda item: _number(item, name)
    if kind.kind in ("bytes", "fixed"):
        return lambda item: own.bytes_of(item, kind.size if kind.kind == "fixed" else None, name)
    if kind.kind == "enum":
        symbols, default = frozenset(kind.symbols), kind.default
        return lambda item: _symbol(item, symbols, default, name)
    if kind.kind == "array":
        one = nullable_converter(kind.item, f"{name}[]", form)
        return lambda item: [one(value) for value in _of(item, list, "array", name)]
    if kind.kind == "map":
        value_of = nullable_converter(kind.item, f"{name}[]", form)
        return lambda item: [(_text(key, name), value_of(value)) for key, value in _of(item, dict, "object", name).items()]
    if kind.kind == "record":
        return _record(kind, name, form)
    if kind.kind == "boolean":
        return lambda item: _of(item, bool, "bool", name)
    return lambda item: _text(item, name)


def nullable_converter(kind: AvroType, name: str, form: JsonForm | None = None) -> Convert:
    """Return the converter of a type, or of null and a type."""
    base, null = kind.without_null()
    convert = converter(base, name, form)

    def either(item: Any) -> Any:
        if item is None:
            if null < 0:
                raise ValueError(f"expected a value in {name}, found none")
            return None
        return convert(item)

    return either


def flat_record(
    kind: AvroType, name: str, read_as: Mapping[str, Convert] | None = None, form: JsonForm | None = None
) -> Callable[[Any, dict[str, Any]], None]:
    """Return the function that puts a JSON object of a record into a row, by the dotted names of its columns.

    A missing field takes its default; an unknown one is refused, so that a misspelt name is seen and not taken for a missing value (unless the form
    says otherwise). `read_as` converts columns in another way, by their dotted names.
    """
    lenient = form is not None and form.skips_unknown
    prefix = f"{name}." if name else ""
    known = [field.name for field in kind.fields]
    allowed = frozenset(known)
    steps: list[tuple[str, Any, bool, bool, _Way, _Way]] = []
    for field in kind.fields:
        base, null = field.type.without_null()
        path = prefix + field.name
        if base.kind == "record":
            given: _Way = None, flat_record(base, path, read_as, form)
            default: _Way = given if field.default is None else (None, flat_record(base, path, None, AVRO_DEFAULT))
        else:
            given = (read_as or {}).get(path) or converter(base, path, form), None
            # A default is the schema's, whatever form its events have.
            default = converter(base, path, AVRO_DEFAULT), None
        steps.append((field.name, field.default, field.has_default, null >= 0, given, default))

    def put(item: Any, row: dict[str, Any]) -> None:
        if not isinstance(item, dict):
            raise TypeError(f"expected an object in {name}, found {shown(item)}" if name else f"expected a JSON object, found {type(item).__name__}")
        if not lenient and not allowed.issuperset(item):
            unknown = min(set(item) - allowed)
            raise ValueError(f"expected fields among {', '.join(prefix + one for one in known)}, found {shown(prefix + unknown)[1:-1]}")
        for key, default, has_default, nullable, given, by_default in steps:
            if key in item:
                value, (convert, inner) = item[key], given
            else:
                value, (convert, inner) = default if has_default else None, by_default
            if value is None:
                if not nullable or (lenient and key not in item and not has_default):
                    raise ValueError(f"expected a value in {prefix}{key}, found none")
            elif convert is not None:
                row[prefix + key] = convert(value)
            elif inner is not None:
                inner(value, row)

    return put


def _record(kind: AvroType, name: str, form: JsonForm | None) -> Convert:
    put = flat_record(kind, "", None, form)

    def convert(item: Any) -> dict[str, Any]:
        row: dict[str, Any] = {}
        try:
            put(item, row)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {error}") from error
        return row

    return convert


def _of(item: Any, kind: type, what: str, name: str) -> Any:
    if not isinstance(item, kind):
        raise TypeError(f"expected {what} in {name}, found {shown(item)}")
    return item


def _text(item: Any, name: str) -> str:
    if not isinstance(item, str):
        raise TypeError(f"expected string in {name}, found {shown(item)}")
    if not item.isascii():
        try:
            item.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"expected text of Unicode in {name}, found half of a pair of surrogates at character {error.start}") from error
    return item


def integer(item: Any, bits: int, name: str) -> int:
    """Return a whole number that fits so many bits; TypeError or ValueError names the field."""
    if isinstance(item, bool) or not isinstance(item, int):
        raise TypeError(f"expected int{bits} in {name}, found {shown(item)}")
    if not -(1 << bits - 1) <= item < 1 << bits - 1:
        raise ValueError(f"expected a {bits}-bit integer in {name}, found {shown(item)}")
    return item


def _number(item: Any, name: str) -> float:
    if isinstance(item, bool) or not isinstance(item, (int, float, Decimal)):
        raise TypeError(f"expected double in {name}, found {shown(item)}")
    try:
        return float(item)
    except OverflowError as error:
        raise ValueError(f"expected a number that a double can hold in {name}, found {shown(item)}") from error


def decimal_value(item: Any, precision: int, scale: int, name: str) -> Decimal:
    """Return a number, or the text of one, as a decimal that loses no digit; ValueError or TypeError names the field."""
    if isinstance(item, bool) or not isinstance(item, (int, float, str, Decimal)):
        raise TypeError(f"expected decimal({precision}, {scale}) in {name}, found {shown(item)}")
    if len(str(item)) > 400 or (isinstance(item, str) and _NUMBER.fullmatch(item) is None):
        raise ValueError(f"expected decimal({precision}, {scale}) in {name}, found {shown(item)}")
    try:
        with localcontext(prec=500):
            number = Decimal(repr(item) if isinstance(item, float) else item)
            exact = number.is_finite() and abs(number.adjusted()) < 400 and number == round(number, scale)
            held = exact and abs(number) < Decimal(10) ** (precision - scale)
            if held:
                return round(number, scale)
    except InvalidOperation:
        pass
    raise ValueError(f"expected decimal({precision}, {scale}) in {name}, found {shown(str(item))}")


def _iso(read: Callable[[str], _T], item: str, what: str, name: str) -> _T:
    try:
        return read(item)
    except ValueError as error:
        raise ValueError(f"expected {what} in {name}, found {shown(item)}") from error


def _uuid(item: Any, name: str) -> str:
    if not isinstance(item, str) or UUID.fullmatch(item) is None:
        raise ValueError(f"expected a uuid such as 123e4567-e89b-12d3-a456-426614174000 in {name}, found {shown(item)}")
    return item.lower()


def _date(item: Any, name: str) -> int:
    if isinstance(item, str):
        return _iso(date.fromisoformat, item, "an ISO 8601 date", name).toordinal() - _DAY_ZERO
    if isinstance(item, bool) or not isinstance(item, int):
        raise TypeError(f"expected days since 1970 or an ISO 8601 date in {name}, found {shown(item)}")
    if not FIRST_DAY <= item <= LAST_DAY:
        raise ValueError(f"expected a day of the years 1 to 9999 in {name}, found {shown(item)}")
    return item


def time_of_day(item: Any, logical: str, name: str) -> int:
    """Return a number of the type's units, or ISO 8601 text as one; ValueError or TypeError names the field."""
    most = DAY_UNITS[logical]
    if isinstance(item, str):
        parsed = _iso(time.fromisoformat, item, "an ISO 8601 time of day", name)
        if parsed.utcoffset():
            raise ValueError(f"expected a time of day without an offset in {name}, found {shown(item)}")
        micros = ((parsed.hour * 60 + parsed.minute) * 60 + parsed.second) * 1_000_000 + parsed.microsecond
        return micros * most // DAY_UNITS["time-micros"]
    if isinstance(item, bool) or not isinstance(item, int):
        raise TypeError(f"expected {logical} or ISO 8601 text in {name}, found {shown(item)}")
    if not 0 <= item < most:
        raise ValueError(f"expected {logical} below {most} in {name}, found {shown(item)}")
    return item


def _timestamp(item: Any, per_second: int, name: str) -> int:
    if isinstance(item, bool) or not isinstance(item, (int, str)):
        what = "milliseconds" if per_second == 1_000 else "microseconds"
        raise TypeError(f"expected {what} or ISO 8601 text in {name}, found {shown(item)}")
    if isinstance(item, int):
        return integer(item, 64, name)
    moment = _iso(datetime.fromisoformat, item, "ISO 8601 text", name)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return round(micros / 1_000) if per_second == 1_000 else micros


def _bytes(item: Any, size: int | None, name: str) -> bytes:
    if not isinstance(item, str):
        raise TypeError(f"expected text of the code points 0 to 255 (Avro's JSON of bytes) in {name}, found {shown(item)}")
    try:
        content = item.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(f"expected text of the code points 0 to 255 (Avro's JSON of bytes) in {name}, found {shown(item)}") from error
    if size is not None and len(content) != size:
        raise ValueError(f"expected {size} bytes in {name}, found {len(content)}")
    return content


AVRO_JSON = JsonForm(_bytes, decimal_value)
"""Bytes as text of the code points 0 to 255, decimals as numbers or their text."""


def _decimal_of_bytes(item: Any, precision: int, scale: int, name: str) -> Decimal:
    unscaled = int.from_bytes(_bytes(item, None, name), "big", signed=True)
    if abs(unscaled) >= 10**precision:
        raise ValueError(f"expected decimal({precision}, {scale}) in {name}, found {unscaled} without its point")
    return Decimal(unscaled).scaleb(-scale, Context(prec=100))


AVRO_DEFAULT = JsonForm(_bytes, _decimal_of_bytes)
"""Defaults in schemas: decimals, too, as the code points of their bytes."""


def _symbol(item: Any, symbols: frozenset[str], default: str | None, name: str) -> str:
    if isinstance(item, str):
        if item in symbols:
            return item
        if default is not None:
            return default
    raise ValueError(f"expected one of {', '.join(sorted(symbols))[:200]} in {name}, found {shown(item)}")
