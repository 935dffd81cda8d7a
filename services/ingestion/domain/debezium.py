"""Debezium's messages as rows: what each change means for a stream, and what is wrong with it. Pure and replay-safe."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.raw import SKIPPED, RecordVerdict
from tidemill.shared.application.debezium import ID, EnvelopePlan
from tidemill.shared.application.debezium_rows import DELETE, ChangedRows
from tidemill.shared.application.plan import StreamPlan
from tidemill.shared.avro.columns import DecodedColumns
from tidemill.shared.log.errors import InvalidRecord

_EVENTS, _UPDATE = ("c", "r", "u", DELETE), "u"
_UNAVAILABLE = "__debezium_unavailable_value"
_OTHERS = {
    "t": ("truncate", "op t: the table was emptied (TRUNCATE), which names no row; set skipped.operations to t in the connector, or delete by row"),
    "m": ("unknown_operation", "op m: a message of pg_logical_emit_message is no change of a row; give it a topic of its own"),
}


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What became of a batch of Debezium's messages.

    Attributes
    ----------
    decoded
        Rows that count, with the stream's columns; errors as ever.
    deletes : bool array, shape (decoded.batch.num_rows,)
        Rows that delete their key's row (reference streams): nothing but their key means anything.
    flags
        Of records that are no events, by position in the input.
    """

    decoded: DecodedColumns
    deletes: NDArray[np.bool_]
    flags: Mapping[int, int]


class Unwrapper:
    """Makes rows of messages decoded with `EnvelopePlan.wire_schema`.

    The row is `after`, of a deletion `before`. A record without a value is the tombstone that Debezium writes behind a deletion for Kafka's
    compaction: the deletion itself has been said.
    """

    def __init__(self, stream: StreamPlan, envelope: EnvelopePlan) -> None:
        self._envelope = envelope
        self._rows = ChangedRows(stream.user_arrow, envelope)
        self._arrow = stream.user_arrow
        self._is_reference, self._key = stream.is_reference, stream.key
        self._columns = self._rows.names
        self._required = [field.name for field in self._arrow if field.name in self._columns and not field.nullable]

    def unwrap(self, decoded: DecodedColumns, tombstones: NDArray[np.bool_]) -> RowChanges:
        """Sort messages into rows, deletions, what is skipped and what is refused; `tombstones` says which have no value, shape (n,)."""
        flags = dict.fromkeys(np.flatnonzero(tombstones).tolist(), SKIPPED["tombstone"])
        wire, place = decoded.batch, decoded.rows
        n = wire.num_rows
        operations = wire.column("op").to_numpy(zero_copy_only=False)
        deleted, updated = operations == DELETE, operations == _UPDATE
        refusals: dict[int, RecordVerdict] = {}
        for i in np.flatnonzero(~np.isin(operations, _EVENTS)).tolist():
            op = str(operations[i])
            refusals[i] = RecordVerdict(*_OTHERS.get(op, ("unknown_operation", f"expected op c, r, u or d, found {op[:80]!r}")))
        skipped = np.zeros(n, np.bool_)
        if not self._is_reference:
            for mask, fate, what in ((deleted, self._envelope.deletes, "delete"), (updated, self._envelope.updates, "update")):
                if fate == "skip":
                    flags |= dict.fromkeys(place[mask].tolist(), SKIPPED[f"skipped_{what}"])
                    skipped |= mask
                elif fate == "reject":
                    _refuse(refusals, mask, "unexpected_operation", f"expected no {what} of a row ({what}s: reject)")
        columns, unreadable = self._rows.columns(wire)
        for name, bad in unreadable.items():
            detail = f"{name}: expected a time in ISO 8601 with an offset, such as 2024-01-15T12:30:45.123456Z"
            _refuse(refusals, bad & ~skipped, "undecodable", detail)
        self._judge(columns, wire, deleted, updated, skipped, refusals)
        keep = ~skipped
        keep[list(refusals)] = False
        errors = [
            *decoded.errors,
            *(InvalidRecord(int(place[i]), verdict.reason, verdict.detail) for i, verdict in refusals.items() if not skipped[i]),
        ]
        chosen = pa.array(np.flatnonzero(keep))
        batch = pa.RecordBatch.from_arrays([columns[field.name].take(chosen) for field in self._arrow], schema=self._arrow)
        rows = replace(decoded, batch=batch, rows=place[keep], errors=sorted(errors, key=lambda error: error.index))
        return RowChanges(rows, (deleted & self._is_reference)[keep], flags)

    def _judge(
        self, columns: dict[str, pa.Array], wire: pa.RecordBatch, deleted: NDArray[np.bool_], updated: NDArray[np.bool_], skipped: NDArray[np.bool_],
        refusals: dict[int, RecordVerdict],
    ) -> None:  # fmt: skip
        whole = ~deleted if self._is_reference else ~skipped
        for name in self._required:
            absent = _absent(columns[name]) & whole
            _refuse(refusals, absent & ~deleted, "missing_row", f"expected a row in after, with {name}; found null")
            detail = f"expected the whole row in before, found no {name}: the connector knows its key only; ALTER TABLE ... REPLICA IDENTITY FULL"
            _refuse(refusals, absent & deleted, "incomplete_row", detail)
        for name in self._columns:
            _refuse(
                refusals, _unavailable(columns[name]) & whole, "unavailable_value",
                f"{name}: the connector does not know its value, not changed (TOAST); leave it out, or ALTER TABLE ... REPLICA IDENTITY FULL",
            )  # fmt: skip
        if self._is_reference and self._key in self._columns:
            key = self._key
            _refuse(
                refusals, deleted & _absent(columns[key]), "incomplete_row",
                f"expected {key}, the key of the row to delete, in before; let {key} be the table's primary key (message.key.columns), or"
                " ALTER TABLE ... REPLICA IDENTITY FULL",
            )  # fmt: skip
            old = wire.column(f"before.{key}")
            moved = updated & np.asarray(pc.fill_null(pc.not_equal(old, columns[key]), False).to_numpy(zero_copy_only=False), np.bool_)
            _refuse(
                refusals, moved, "changed_key", f"{key}, the key, has changed: the row under the old one would stay; set message.key.columns to it"
            )
        if self._envelope.primary_key:
            detail = (
                "expected in source the place of the change in the database's log (lsn; file, pos; change_lsn; scn) and a value in"
                f" {', '.join(self._envelope.primary_key)}; where the connector says neither, derive an event_id"
            )
            _refuse(refusals, _absent(columns[ID]) & ~skipped, "missing_event_id", detail)


def _refuse(refusals: dict[int, RecordVerdict], rows: NDArray[np.bool_], reason: str, detail: str) -> None:
    for i in np.flatnonzero(rows).tolist() if rows.any() else ():
        refusals.setdefault(i, RecordVerdict(reason, detail))


def _absent(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _unavailable(column: pa.Array) -> NDArray[np.bool_]:
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        marker = pa.scalar(_UNAVAILABLE.encode() if pa.types.is_binary(column.type) else _UNAVAILABLE, column.type)
        return np.asarray(pc.fill_null(pc.equal(column, marker), False).to_numpy(zero_copy_only=False), np.bool_)
    return np.zeros(len(column), np.bool_)
