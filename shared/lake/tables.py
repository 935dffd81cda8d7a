"""Delta tables that take every batch exactly once, however often it is written."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError
from numpy.typing import ArrayLike

from tidemill.shared.lake.open_tables import OpenTables
from tidemill.shared.log.errors import ServerAwayError

_STAMP = pa.timestamp("us", "UTC")
PLAIN = WriterProperties(default_column_properties=ColumnProperties(dictionary_enabled=False))
"""Values as they are, neither compressed nor looked up among those before: written in a fifth of the processor time, and nearly twice as large."""


class LakeTypeError(RuntimeError):
    """A column's type is not the table's (crash: neither a retry nor the next record helps)."""


class Lake:
    """Tables of one application under one address.

    Parameters
    ----------
    uri
        A folder or an object store's address.
    app
        The application: the folder below.
    writing
        How files are written; None: compressed.
    """

    def __init__(self, uri: str, app: str, writing: WriterProperties | None = None) -> None:
        root = uri if "://" in uri else str(Path(uri).absolute())
        self._root = f"{root.rstrip('/')}/{app}"
        self._open, self._writing = OpenTables(), writing

    @property
    def root(self) -> str:
        """Address of the application's tables."""
        return self._root

    def append(self, table: str, batch: pa.Table, writer: str, offsets: ArrayLike) -> int:
        """Append the rows that this writer has not appended yet, in one Delta commit.

        Parameters
        ----------
        writer
            Who wrote: one name per (topic, partition). Its last offset is recorded in the same commit.
        offsets : ascending, one a row
            Rows up to the recorded offset are already there and are left out.

        Returns
        -------
        int
            Rows appended.

        A column that the table does not have yet is added to it, with nulls in the rows before.

        Raises
        ------
        ServerAwayError
            The store does not answer or is full, or another process has written for this writer since its offset was looked up (Delta refuses the
            commit, so nothing is doubled): the same call is right again.
        LakeTypeError
            A column has another type than in the table (crash).
        """
        places = np.asarray(offsets, np.int64)
        try:
            if not self.exists(table):
                # Made empty first, so that also the first append is held against the offset that was looked up.
                DeltaTable.create(self.uri(table), DeltaSchema.from_arrow(delta_ready(batch).schema), mode="ignore")
            held = self._open.take(self.uri(table))
            written = held.transaction_version(writer)
            fresh = places > (-1 if written is None else int(written))
            rows = int(fresh.sum())
            if rows:
                content = delta_ready(batch if rows == len(places) else batch.filter(pa.array(fresh)))
                _check_types(self.uri(table), held, content)
                mark = Transaction(writer, int(places[-1]))
                # On the version in which the offset was looked up: a later commit with this writer's mark is a conflict.
                commit = CommitProperties(app_transactions=[mark])
                write: Callable[..., None] = write_deltalake
                if self._writing is not None:
                    write = partial(write, writer_properties=self._writing)
                write(held, content, mode="append", schema_mode="merge", commit_properties=commit)
            self._open.keep(self.uri(table), held)
        except (DeltaError, OSError) as error:
            raise ServerAwayError(f"{self.uri(table)}: {error}") from error
        return rows

    def exists(self, table: str) -> bool:
        """Tell whether anything was ever appended."""
        return bool(DeltaTable.is_deltatable(self.uri(table)))

    def read(self, table: str, columns: Sequence[str], before_ms: int, time_column: str, version: int | None = None) -> pa.Table:
        """Return the rows available before an instant, times as milliseconds.

        Parameters
        ----------
        time_column
            The table's journal time.
        version
            Version of the table; the latest when None.
        """
        source = self.dataset(table, version)
        return milliseconds(source.to_table(columns=list(columns), filter=pc.field(time_column) < instant(before_ms)))

    def dataset(self, table: str, version: int | None = None) -> ds.Dataset:
        """Return a table for reading in pieces: files that a filter excludes by their statistics are not opened."""
        return DeltaTable(self.uri(table), version=version).to_pyarrow_dataset()

    def version(self, table: str) -> int:
        """Return the table's latest version."""
        return DeltaTable(self.uri(table)).version()

    def identity(self, table: str) -> str:
        """Return what tells a table from another one made later in its place."""
        return str(DeltaTable(self.uri(table)).metadata().id)

    def uri(self, table: str) -> str:
        """Return where a table lies."""
        return f"{self._root}/{table}"


def _check_types(uri: str, held: DeltaTable, content: pa.Table) -> None:
    """Refuse what Delta would cast without a word, cutting 1.5 to 1."""
    known = {field.name: field.type for field in held.schema().fields}
    for field in DeltaSchema.from_arrow(content.schema).fields:
        if known.get(field.name, field.type) != field.type:
            raise LakeTypeError(
                f"{uri}: expected {field.name} of type {known[field.name].type}, which the table has, got {field.type.type}:"
                " the column means something else now; give it another name, or archive under a new application name or lake address"
            )


def instant(time_ms: int) -> pa.Scalar:
    """Return a time as the tables hold it."""
    return pa.scalar(time_ms * 1_000, pa.int64()).cast(_STAMP)


def delta_ready(table: pa.Table) -> pa.Table:
    """Return the table in the types Delta has: microseconds in UTC for times, numbers for times of the day."""
    fields = [field.with_type(_delta_type(field.type)).with_nullable(True) for field in table.schema]
    return table.cast(pa.schema(fields))


def _delta_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return _STAMP
    if pa.types.is_time(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, kind.item_field.with_type(_delta_type(kind.item_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_delta_type(kind.value_type)))
    return pa.struct([field.with_type(_delta_type(field.type)) for field in kind]) if pa.types.is_struct(kind) else kind


def milliseconds(table: pa.Table) -> pa.Table:
    """Return the table with times as int64 milliseconds."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            values = pc.cast(pc.cast(table.column(i), pa.timestamp("ms", field.type.tz)), pa.int64())
            table = table.set_column(i, field.name, values)
    return table
