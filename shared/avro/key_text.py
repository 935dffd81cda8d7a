"""How a column that names something (a partition key, an id, an entity) is written as text: one rule for every stage and for the gateway."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.avro.json_values import UUID, decimal_value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORD = 2.0**63


class KeyTextError(ValueError):
    """A value is not one that its column can hold: says what was expected and what came."""


def key_texts(column: pa.Array) -> pa.Array:
    """Return a column as text; null stays null.

    Booleans are ``true`` and ``false``. A whole number keeps its digits whatever it is stored as: 1234567890123.0 is ``1234567890123``, where
    Arrow's own cast writes 1.234567890123e+12 and no two languages write the same. -0.0 is ``0``, because it equals 0.
    """
    if column.type == pa.string():
        return column
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    texts = column.cast(pa.string())
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    whole = np.isfinite(values) & (np.abs(values) < _WORD)
    whole[whole] = np.trunc(values[whole]) == values[whole]
    if not whole.any():
        return texts
    digits = pa.array(np.where(whole, values, 0.0).astype(np.int64)).cast(pa.string())
    return pc.if_else(pa.array(whole), digits, texts)


def key_text(value: object, kind: pa.DataType, *, uuid: bool = False) -> str:
    """Return what `key_texts` makes of one value of a JSON document, which a column of that type (`uuid`: of uuids) is to hold.

    >>> key_text(True, pa.bool_()), key_text(1234567890123, pa.float64()), key_text("1970-01-01T00:00:00.5", pa.timestamp("ms"))
    ('true', '1234567890123', '1970-01-01 00:00:00.500')

    Raises
    ------
    KeyTextError
        Ingestion would refuse the record for this value: 1 is no text, true is no number.
    """
    if uuid and isinstance(value, str):
        return uuid_text(value)
    try:
        item = _item(value, kind)
        text = key_texts(pa.array([item], kind))[0].as_py()
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise KeyTextError(f"expected {kind}, got {_shown(value)}") from error
    if not text:
        raise KeyTextError(f"expected {kind}, got {_shown(value)}, which names nothing")
    return str(text)


def uuid_text(text: str) -> str:
    """Return a uuid as the codecs write it, in small letters; KeyTextError when it is none."""
    if UUID.fullmatch(text) is None:
        raise KeyTextError(f"expected a uuid such as 123e4567-e89b-12d3-a456-426614174000, got {_shown(text)}")
    return text.lower()


def written_key(text: str, kind: pa.DataType, *, uuid: bool = False) -> str:
    """Return what the stages write for a key that somebody wrote by hand: ``True`` is ``true``, ``1.50`` is ``1.5``; texts as they are.

    >>> written_key("True", pa.bool_()), written_key("1e3", pa.float64()), written_key("007", pa.int64()), written_key("007", pa.string())
    ('true', '1000', '7', '007')
    >>> written_key("1.5", pa.decimal128(9, 2)), written_key("20240115", pa.date32())
    ('1.50', '2024-01-15')

    Raises
    ------
    KeyTextError
        The text is no value of that type, so nothing can have this key.
    """
    if uuid:
        return uuid_text(text)
    if pa.types.is_boolean(kind):
        lower = text.lower()
        if lower in ("true", "false"):
            return lower
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return key_text(int(text) if pa.types.is_integer(kind) else float(text), kind)
        except ValueError:
            pass
    elif pa.types.is_decimal(kind) or pa.types.is_date(kind):
        return key_text(text, kind)
    else:
        return text
    raise KeyTextError(f"expected a key of type {kind}, got {_shown(text)}")


def _item(value: object, kind: pa.DataType) -> object:
    if pa.types.is_boolean(kind):
        right: tuple[type, ...] = (bool,)
    elif pa.types.is_integer(kind):
        right = (int,)
    elif pa.types.is_floating(kind):
        right = (int, float)
    elif pa.types.is_timestamp(kind) and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round((moment - _EPOCH).total_seconds() * 1000)
    elif pa.types.is_timestamp(kind):
        right = (int,)
    elif pa.types.is_decimal(kind):
        right = (int, float, str, Decimal)
    elif pa.types.is_date(kind):
        right = (int, str)
    else:
        right = (str,)
    if not isinstance(value, right) or (isinstance(value, bool) and bool not in right):
        raise TypeError
    if isinstance(value, int | float) and pa.types.is_floating(kind):
        value = float(value)
        if not math.isfinite(value):
            raise ValueError
    if pa.types.is_decimal(kind):
        return decimal_value(value, kind.precision, kind.scale, "key")
    if isinstance(value, str):
        value.encode()
        return date.fromisoformat(value) if pa.types.is_date(kind) else value
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
