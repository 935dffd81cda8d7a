"""What a column may be used for, by its type: a feature, a key, a value of an expression."""

import numpy as np
import pyarrow as pa

FEATURES = "numbers, truth values, decimals, dates (as days since 1970) and texts are features"
KEYS = "texts, whole numbers, truth values, dates, decimals and uuids are keys"


def feature_kind(kind: pa.DataType) -> str | None:
    """Return what a column is in a vector, ``double`` or ``string``; None when it cannot be a feature."""
    if pa.types.is_string(kind):
        return "string"
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "double" if plain or pa.types.is_decimal(kind) or pa.types.is_date(kind) else None


def is_key(kind: pa.DataType) -> bool:
    """Say whether a column can identify something: its values have one text each."""
    return feature_kind(kind) is not None


def texts_meet(one: pa.DataType, other: pa.DataType) -> bool:
    """Say whether equal values of two keys have the same text, by which a label finds its request and a request its reference row.

    A decimal keeps the digits behind its point, so that 1.50 with two of them never meets 1.5 with one, nor 2.00 the whole number 2. What a text
    says is not known here.
    """
    first, second = _text_form(one), _text_form(other)
    return "text" in (first, second) or first == second


def _text_form(kind: pa.DataType) -> str:
    if pa.types.is_string(kind):
        return "text"
    if pa.types.is_decimal(kind) and kind.scale:
        return f"decimal with {kind.scale} digits behind the point"
    return "truth value" if pa.types.is_boolean(kind) else "date" if pa.types.is_date(kind) else "number"


def feature_values(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column as a vector has it: text, or float64 (a date as days since 1970)."""
    if column.type == kind:
        return column
    if pa.types.is_floating(kind):
        return doubles(column)
    return column.cast(kind)


def doubles(column: pa.Array) -> pa.Array:
    """Return a column of numbers, truth values, decimals or dates (as days since 1970) as the nearest float64: whole numbers beyond 2^53 as well."""
    if pa.types.is_decimal(column.type):
        return _decimal_doubles(column)
    days = column.view(pa.int32()) if pa.types.is_date32(column.type) else column
    return days if days.type == pa.float64() else days.cast(pa.float64(), safe=False)


def whole_numbers(column: pa.Array) -> pa.Array:
    """Return dates and times as the whole numbers they are stored as; other columns as they are."""
    if not pa.types.is_temporal(column.type):
        return _decimal_doubles(column) if pa.types.is_decimal(column.type) else column
    return column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())


def _decimal_doubles(column: pa.Array) -> pa.Array:
    """Return decimals as the nearest doubles. Arrow's own cast is an ulp off for some: 5.10 becomes 5.1000000000000005."""
    n, scale = len(column), column.type.scale
    words = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)[column.offset : column.offset + n] if n else np.empty((0, 2), np.int64)
    low, high = words[:, 0], words[:, 1]
    # Both numbers are exact doubles, so their quotient is the nearest one (Clinger, 1990).
    exact = (high == low >> 63) & (np.abs(low) <= 2**53) & (0 <= scale <= 22)
    if not exact.all():
        return pa.array([None if value is None else float(value) for value in column.to_pylist()], pa.float64())
    return pa.array(low / 10.0**scale, mask=column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None)


def way_out(name: str, kind: pa.DataType) -> str:
    """Say how a column that is no feature becomes one."""
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return f'derive: {{hour: "EXTRACT(hour FROM {name})"}}'
    if pa.types.is_list(kind):
        return f'derive: {{how_many: "ARRAY_LENGTH({name})"}}'
    return "leave it out of the model's features, or publish what is needed of it as a field of its own"
