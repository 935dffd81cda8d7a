"""Raw events in JSON as columns: the same schema, the same verdicts, no Avro library at the publisher."""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tidemill.shared.avro.arrow_types import arrow_schema, leaves
from tidemill.shared.avro.columns import DecodedColumns
from tidemill.shared.avro.json_text import json_parser, shown
from tidemill.shared.avro.json_values import JsonForm, flat_record, integer
from tidemill.shared.avro.schema_tree import parse_record
from tidemill.shared.avro.times import DoubtfulTimeError, read_time
from tidemill.shared.log.errors import InvalidRecord

_MOST_FIELD_SETS = 1_000
_DAY_MS = 86_400_000
_UNITS = {pa.timestamp("ms"): "milliseconds", pa.timestamp("us"): "microseconds"}


class JsonDecoder:
    """Decodes JSON objects to a stream's columns.

    Times may be numbers in the unit of their type (milliseconds or microseconds since the epoch) or ISO 8601 text (without an offset: UTC), unless
    they are declared otherwise. A missing field takes the schema's default. Unknown fields are refused, so that a misspelt name is seen and not taken
    for a missing value.

    Parameters
    ----------
    schema
        The stream's Avro schema, JSON.
    times
        How columns of times are written, by name.
    event_time
        The column whose undeclared numbers must be likely times: seconds would be events of 1970, and nobody would see it.
    form
        How bytes and decimals are written, and whether unknown fields are skipped; None: as Avro's own JSON, and they are refused.
    """

    def __init__(self, schema: str, times: Mapping[str, str] | None = None, event_time: str | None = None, form: JsonForm | None = None) -> None:
        record = parse_record(schema)
        self.arrow = arrow_schema(record)
        self._times = times or {}
        self._event_time = event_time
        read_as = {field.name: self._reader(field) for field in self.arrow if field.type in _UNITS or self._is_declared_date(field)}
        self._tells_fields = form is None
        self._own_names = {name for one in record.fields for name in (one.name, *one.aliases)}
        self._strange_sets = 0
        self._fields: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._orders: dict[tuple[str, ...], int] = {}
        self._put = flat_record(record, "", read_as, form)
        # A decimal loses digits as a double; everything else is quicker as one.
        self._float = _exact if any(column.type.logical or column.type.branches for column in leaves(record)) and "decimal" in schema else float
        self._parse = json_parser(self._float)

    def decode(self, values: Sequence[bytes | None]) -> DecodedColumns:
        """Decode every value; a bad one becomes an error at its position, the same whatever its neighbours are."""
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        errors: list[InvalidRecord] = []
        writers = np.zeros(len(values), np.int64)
        for i, value in enumerate(values):
            try:
                parsed = self.parse(value or b"")
                writers[i] = self._writer(parsed)
                rows.append(self.row(parsed))
            except DoubtfulTimeError as error:
                errors.append(InvalidRecord(i, "implausible_event_time", str(error)))
            except RecursionError:
                errors.append(InvalidRecord(i, "invalid_json", "expected some hundred objects and arrays within each other at most (recursion)"))
            except (ValueError, TypeError, ArithmeticError) as error:
                errors.append(InvalidRecord(i, "invalid_json", str(error)[:1_000]))
            else:
                good.append(i)
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in self.arrow]
        return DecodedColumns(pa.RecordBatch.from_arrays(arrays, schema=self.arrow), np.array(good, np.int64), errors, writers)

    def names(self, writer: int) -> tuple[str, ...]:
        """Return the fields that a number below 0 of `DecodedColumns.writers` stands for; numbers are of this process."""
        return self._fields[-1 - writer]

    def _writer(self, parsed: Any) -> int:  # whatever the JSON holds
        """Return the number of an object's fields, whatever their order; 0 where it is no object, and beyond a thousand of such sets.

        Sets with names that the schema does not have, which anybody can invent, are a thousand by themselves.
        """
        if not isinstance(parsed, dict) or not self._tells_fields:
            return 0
        order = tuple(parsed)
        known = self._orders.get(order)
        if known is not None:
            return known
        fields = tuple(sorted(order))
        number = self._numbers.get(fields, 0)
        is_strange = not self._own_names.issuperset(fields)
        if not number and (self._strange_sets if is_strange else len(self._fields) - self._strange_sets) < _MOST_FIELD_SETS:
            self._strange_sets += is_strange
            self._fields.append(fields)
            number = self._numbers[fields] = -len(self._fields)
        if len(self._orders) < _MOST_FIELD_SETS:
            self._orders[order] = number
        return number

    def parse(self, value: bytes | str) -> Any:  # whatever the JSON holds
        """Parse a text of JSON, numbers as exactly as the schema's types need them."""
        return self._parse(value if isinstance(value, str) else value.decode(json.detect_encoding(value), "surrogatepass"))

    def row(self, parsed: Any) -> dict[str, Any]:  # whatever the JSON holds
        """Return the values of a parsed object by column; ValueError or TypeError says what was expected and what came."""
        row: dict[str, Any] = dict.fromkeys(self.arrow.names)
        self._put(parsed, row)
        return row

    def _is_declared_date(self, field: pa.Field) -> bool:
        return field.name in self._times and bool(pa.types.is_date(field.type))

    def _reader(self, field: pa.Field) -> Callable[[Any], int]:
        if field.type in _UNITS:
            return partial(self._time, field.name, _UNITS[field.type])
        return lambda item: self._time(field.name, "milliseconds", item) // _DAY_MS

    def _time(self, name: str, unit: str, item: Any) -> int:  # whatever the JSON holds
        declared = self._times.get(name)
        digits = isinstance(item, str) and declared is None and item.strip().isdigit()
        item = float(item) if isinstance(item, Decimal) else item
        if digits or isinstance(item, bool) or not isinstance(item, int | float | str):
            raise TypeError(f"expected {unit} or ISO 8601 text in {name}, found {shown(item)}")
        if isinstance(item, int) and declared is None and name != self._event_time:
            return integer(item, 64, name)
        try:
            return read_time(item, declared, numbers=unit, unit=unit)
        except (ValueError, OverflowError) as problem:
            raise (DoubtfulTimeError if isinstance(problem, DoubtfulTimeError) else ValueError)(f"{name}: {problem}") from problem


def _exact(text: str) -> Decimal | tuple[str]:
    """Return a number with all its digits; one whose exponent no decimal has as what no type takes, so that its field is named."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return (text,)
