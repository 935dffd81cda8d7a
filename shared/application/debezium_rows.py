"""Columns of a stream out of Debezium's messages: the row that each change is about, and what the envelope says of it. Pure."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.shared.application.debezium import ID, OP, PREFIX, TS, EnvelopePlan
from tidemill.shared.avro.key_text import key_texts

DELETE = "d"
"""Operation of a deletion, whose row is the one before it."""


class ChangedRows:
    """Takes the columns of a stream from messages decoded with `EnvelopePlan.wire_schema`: of `after`, of a deletion `before`.

    Attributes
    ----------
    names
        Columns of the row, in the order of the stream's.
    """

    def __init__(self, arrow: pa.Schema, envelope: EnvelopePlan) -> None:
        self._envelope = envelope
        self.names = [name for name in arrow.names if not name.startswith(f"{PREFIX}.")]

    def columns(self, wire: pa.RecordBatch) -> tuple[dict[str, pa.Array], Mapping[str, NDArray[np.bool_]]]:
        """Return every column of the stream for every message, whatever becomes of it, and where texts that are to be times are none."""
        deleted = wire.column("op").to_numpy(zero_copy_only=False) == DELETE
        some_deleted = bool(deleted.any())
        columns: dict[str, pa.Array] = {}
        for name in self.names:
            column = wire.column(f"after.{name}")
            if some_deleted and self._envelope.reads_before:
                both = pa.concat_arrays([column, wire.column(f"before.{name}")])
                column = both.take(pa.array(np.arange(len(column)) + len(column) * deleted))
            columns[name] = column
        columns[OP], columns[TS] = wire.column("op"), wire.column("ts_ms")
        for name in wire.schema.names:
            if name.startswith("source."):
                columns[f"{PREFIX}.{name}"] = wire.column(name)
        unreadable = {}
        for name in sorted(self._envelope.instants):
            columns[name], unreadable[name] = instants(columns[name])
        if self._envelope.primary_key:
            columns[ID] = self._identity(columns, wire)
        return columns, unreadable

    def _identity(self, columns: Mapping[str, pa.Array], wire: pa.RecordBatch) -> pa.Array:
        """Return operation, place in the log and primary key as text; null where one is missing. A message that is sent again has the same."""
        one = pa.scalar("0")

        def said(name: str) -> pa.Array:
            return key_texts(wire.column(f"source.{name}"))

        places = pc.coalesce(
            said("lsn"),
            pc.binary_join_element_wise(pc.fill_null(said("server_id"), one), said("file"), said("pos"), pc.fill_null(said("row"), one), ":"),
            pc.binary_join_element_wise(pc.coalesce(said("change_lsn"), said("commit_lsn")), pc.fill_null(said("event_serial_no"), one), ":"),
            pc.binary_join_element_wise(said("scn"), pc.fill_null(said("rs_id"), one), pc.fill_null(said("ssn"), one), ":"),
        )
        keys = [key_texts(columns[name]) for name in self._envelope.primary_key]
        if len(keys) > 1:
            # So that ("a:b", "c") and ("a", "b:c") are two keys.
            keys = [pc.replace_substring(pc.replace_substring(key, "\\", "\\\\"), ":", "\\:") for key in keys]
        return pc.binary_join_element_wise(wire.column("op"), places, *keys, ":")


def instants(texts: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return texts in ISO 8601 with an offset as points in time (UTC, microseconds), and which are none."""
    kind, zoned = pa.timestamp("us"), pa.timestamp("us", "UTC")
    try:
        return texts.cast(zoned).cast(kind), np.zeros(len(texts), np.bool_)
    except pa.ArrowInvalid:
        made: list[int | None] = []
        bad = np.zeros(len(texts), np.bool_)
        for i, text in enumerate(texts):
            try:
                # Not as a datetime: with its offset, a time of the year 9999 may be one of 10000.
                made.append(text.cast(zoned).value)
            except pa.ArrowInvalid:
                made.append(None)
                bad[i] = True
        return pa.array(made, pa.int64()).view(kind), bad
