"""Raw events in JSON as columns: the same schema, the same verdicts, no Avro library at the publisher."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from shared.avro.arrow_types import arrow_schema
from shared.avro.columns import DecodedColumns
from shared.avro.times import DoubtfulTimeError, read_time
from shared.streaming.errors import InvalidRecord


class JsonDecoder:
    """Decodes JSON objects to a stream's columns.

    Times may be milliseconds since the epoch or ISO 8601 text (without an offset: UTC), unless they are declared otherwise. A missing field
    takes the schema's default. Unknown fields are refused, so that a misspelt name is seen and not taken for a missing value.

    Parameters
    ----------
    schema
        The stream's Avro schema, JSON.
    times
        How columns of times are written, by name.
    event_time
        The column whose undeclared numbers must be likely milliseconds: seconds would be events of 1970, and nobody would see it.
    """

    def __init__(self, schema: str, times: Mapping[str, str] | None = None, event_time: str | None = None) -> None:
        self.arrow = arrow_schema(schema)
        self._names = frozenset(self.arrow.names)
        self._fields = [(field.name, field.nullable, self._check(field)) for field in self.arrow]
        self._times = times or {}
        self._event_time = event_time
        self._defaults = {field["name"]: field["default"] for field in json.loads(schema)["fields"] if "default" in field}

    def decode(self, values: Sequence[bytes | None]) -> DecodedColumns:
        """Decode every value; a bad one becomes an error at its position."""
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        errors: list[InvalidRecord] = []
        for i, value in enumerate(values):
            try:
                row = self.row(json.loads(value or b"", parse_constant=_no_constant))
                pa.RecordBatch.from_pylist([row], schema=self.arrow)
            except DoubtfulTimeError as error:
                errors.append(InvalidRecord(i, "implausible_event_time", str(error)))
                continue
            except (ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
                errors.append(InvalidRecord(i, "invalid_json", str(error)))
                continue
            rows.append(row)
            good.append(i)
        return DecodedColumns(pa.RecordBatch.from_pylist(rows, schema=self.arrow), np.array(good, np.int64), errors)

    def row(self, parsed: Any) -> dict[str, Any]:  # noqa: ANN401, RUF100 - whatever the JSON holds
        """Return the values of a parsed object by column; ValueError or TypeError says what was expected and what came."""
        if not isinstance(parsed, dict):
            raise TypeError(f"expected a JSON object, found {type(parsed).__name__}")
        if unknown := sorted(parsed.keys() - self._names):
            raise ValueError(f"expected fields among {', '.join(self.arrow.names)}, found {unknown[0]}")
        row: dict[str, Any] = {}
        for name, nullable, check in self._fields:
            given = name in parsed
            item = parsed[name] if given else self._defaults.get(name)
            if item is None and not nullable:
                raise ValueError(f"expected a value in {name}, found none")
            row[name] = check(name, item) if given and item is not None else item
        return row

    def _check(self, field: pa.Field) -> Callable[[str, Any], Any]:
        """Return what checks a column's JSON type: Arrow would make 1 of 1.5, and of true."""
        if field.type == pa.timestamp("ms"):
            return self._milliseconds
        for holds, types in ((pa.types.is_string, str), (pa.types.is_boolean, bool), (pa.types.is_integer, int), (pa.types.is_floating, int | float)):
            if holds(field.type):
                return _checked(str(field.type), types, whole=pa.types.is_integer(field.type))
        return lambda name, item: item

    def _milliseconds(self, name: str, item: Any) -> int:  # noqa: ANN401, RUF100 - whatever the JSON holds
        declared = self._times.get(name)
        digits = isinstance(item, str) and declared is None and item.strip().isdigit()
        if digits or isinstance(item, bool) or not isinstance(item, int | float | str):
            raise TypeError(f"expected milliseconds or ISO 8601 text in {name}, found {item!r}")
        if isinstance(item, int) and declared is None and name != self._event_time:
            return _in_range(name, item)
        try:
            return read_time(item, declared)
        except (ValueError, OverflowError) as problem:
            raise (DoubtfulTimeError if isinstance(problem, DoubtfulTimeError) else ValueError)(f"{name}: {problem}") from problem


def _checked(kind: str, types: type | UnionType, *, whole: bool) -> Callable[[str, Any], Any]:
    def check(name: str, item: Any) -> Any:  # noqa: ANN401, RUF100 - whatever the JSON holds
        if not isinstance(item, types) or (isinstance(item, bool) and types is not bool):
            raise TypeError(f"expected {kind} in {name}, found {item!r}")
        if whole and isinstance(item, int):
            _in_range(name, item)
        return item

    return check


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"expected a number, found {text}, which JSON does not have")


def _in_range(name: str, item: int) -> int:
    """Refuse what no 64-bit integer holds, by name: Arrow only says that it is too large."""
    if not -(2**63) <= item < 2**63:
        raise ValueError(f"expected a 64-bit integer in {name}, found {item}")
    return item
