"""The partition key of an event whose application derives it from the event's fields."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.shared.application.connect_json import DebeziumJsonDecoder
from tidemill.shared.application.debezium_rows import ChangedRows
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.json_events import JsonDecoder
from tidemill.shared.avro.key_text import key_texts


class DerivedKey:
    """Computes a stream's derived key from one event in JSON, as ingestion computes the column: the same columns, the same expressions.

    Of a change that Debezium writes the columns are those of its row.
    """

    def __init__(self, stream: StreamPlan) -> None:
        self._name, self._arrow, envelope = stream.key, stream.user_arrow, stream.envelope
        self._rows = None if envelope is None else ChangedRows(stream.user_arrow, envelope)
        self._decoder = (
            JsonDecoder(stream.user_schema, stream.times, stream.event_time)
            if envelope is None
            else DebeziumJsonDecoder(envelope, stream.times, stream.event_time)
        )
        names = [name for name, _ in stream.derivations]
        # A derived column may name those before it.
        self._derivations = stream.derivations[: names.index(stream.key) + 1]

    def of(self, value: bytes) -> str:
        """Return the key; ValueError for an event that ingestion would refuse, or for which the expression has no value."""
        decoded = self._decoder.decode([value])
        if decoded.errors:
            raise ValueError(f"expected an event from which the partition key {self._name} follows: {decoded.errors[0].detail}")
        batch = decoded.batch if self._rows is None else self._row(self._rows, decoded.batch)
        for i, field in enumerate(batch.schema):
            batch = batch.set_column(i, field.with_nullable(True), _finite(batch.column(i)))
        for name, expression in self._derivations:
            values, failed = expression.attempt(batch)
            if failed.any():
                raise ValueError(f"expected an event from which {name} follows: {expression.sql} has no value for it")
            batch = batch.append_column(name, _finite(values))
        key = key_texts(batch.column(self._name))[0].as_py()
        if not key:
            raise ValueError(f"expected the partition key {self._name}: {self._derivations[-1][1].sql} gives none for this event")
        return str(key)

    def _row(self, rows: ChangedRows, wire: pa.RecordBatch) -> pa.RecordBatch:
        columns, unreadable = rows.columns(wire)
        if strange := [name for name, bad in unreadable.items() if bad.any()]:
            raise ValueError(
                f"expected a change from which the partition key {self._name} follows: {strange[0]} is no time in ISO 8601 with an offset"
            )
        return pa.RecordBatch.from_arrays([columns[name] for name in self._arrow.names], names=self._arrow.names)


def _finite(column: pa.Array) -> pa.Array:
    """Return numbers without those that ingestion takes for no value."""
    if not pa.types.is_floating(column.type) or np.isfinite(column.to_numpy(zero_copy_only=False)).all():
        return column
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
