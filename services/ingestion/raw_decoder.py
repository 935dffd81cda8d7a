"""Raw values of one topic as columns: each value is Avro (it begins with a zero byte) or JSON (a brace, after white space or a byte order mark)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.shared.application.connect_json import DebeziumJsonDecoder
from tidemill.shared.application.debezium import EnvelopePlan
from tidemill.shared.avro.columns import ColumnDecoder, DecodedColumns
from tidemill.shared.avro.connect_types import with_logical_types
from tidemill.shared.avro.json_events import JsonDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.packed import Packed, packed_or_list, taken

_BEFORE_TEXT = b" \t\r\n\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_FIRST_OF_TEXT = np.zeros(256, np.bool_)
_FIRST_OF_TEXT[list(b"{[" + _BEFORE_TEXT + b"".join(_WIDE_MARKS))] = True


class RawDecoder:
    """Decodes what publishers send; null values (heartbeats) are neither rows nor errors.

    Parameters
    ----------
    times, event_time
        Of the stream: how JSON has its times (see `JsonDecoder`); in Avro the schema says it.
    envelope
        Decodes what is read of Debezium's messages (`EnvelopePlan.wire_schema`) and not `schema`.
    """

    def __init__(
        self, registry: SchemaRegistry, schema: str, times: Mapping[str, str] | None = None, event_time: str | None = None,
        envelope: EnvelopePlan | None = None,
    ) -> None:  # fmt: skip
        if envelope is None:
            self._avro = ColumnDecoder(registry, schema, exact_length=True)
            self._json = JsonDecoder(schema, times, event_time)
        else:
            self._avro = ColumnDecoder(registry, envelope.wire_schema, exact_length=True, writers=with_logical_types)
            self._json = DebeziumJsonDecoder(envelope, times or {}, event_time or "")

    def decode(self, values: Sequence[bytes | None]) -> DecodedColumns:
        """Decode a batch; raises TransientError when a schema id is new and the registry cannot be reached."""
        if _all_avro(values):
            return self._avro.decode(values)
        there = np.array([value is not None for value in values], np.bool_)
        present = packed_or_list(taken(values, np.flatnonzero(there)))
        text = np.zeros(len(values), np.bool_)
        if not _all_avro(present):
            text = np.array([value is not None and _is_text(value) for value in values], np.bool_)
        framed = there & ~text
        parts: list[tuple[pa.RecordBatch, NDArray[np.int64]]] = []
        errors: list[InvalidRecord] = []
        writers = np.zeros(len(values), np.int64)
        for rows, decoder in ((np.flatnonzero(framed), self._avro), (np.flatnonzero(text), self._json)):
            if len(rows):
                decoded = decoder.decode(present if len(rows) == len(present) else taken(values, rows))
                parts.append((decoded.batch, rows[decoded.rows]))
                writers[rows] = 0 if decoded.writers is None else decoded.writers
                errors += [InvalidRecord(int(rows[error.index]), error.reason, error.detail) for error in decoded.errors]
        if not parts:
            return DecodedColumns(pa.RecordBatch.from_pylist([], schema=self._avro.arrow), np.empty(0, np.int64), (), writers)
        at = np.concatenate([rows for _, rows in parts])
        batch = pa.concat_batches([batch for batch, _ in parts])
        order = np.argsort(at)
        in_order = sorted(errors, key=lambda error: error.index)
        return DecodedColumns(batch if len(parts) == 1 else batch.take(pa.array(order)), at[order], in_order, writers)

    def names(self, writer: int) -> tuple[str, ...]:
        """Return the fields of records in JSON, by the number below 0 that `DecodedColumns.writers` has for them."""
        return self._json.names(writer)


def _all_avro(values: Sequence[bytes | None]) -> bool:
    """Say whether all are there and none can be JSON, by their first bytes."""
    packed = Packed.of(values)
    if packed is None:
        return False
    # An empty message stands where the next one begins; those at the end have none.
    begins = packed.stops[: int(np.searchsorted(packed.stops, packed.stops[-1]))]
    firsts = packed.content[begins]
    return not firsts.any() or not _FIRST_OF_TEXT[firsts].any()


def _is_text(value: bytes) -> bool:
    """Say whether a value is meant as JSON; an array is, so that its dead letter says that an object was expected."""
    return value[:1] == b"{" or value.lstrip(_BEFORE_TEXT)[:1] in (b"{", b"[") or value[:2] in _WIDE_MARKS
