"""The last judgement before a record is accepted: its journal entry can be encoded and read again, and fits wherever it goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidemill.services.ingestion.domain.raw import CleanRows, RecordVerdict
from tidemill.shared.log.packed import Packed

_ENVELOPE_BYTES = 128
_YEAR_1_MS, _YEAR_10000_MS = -62_135_596_800_000, 253_402_300_800_000
Encode = Callable[[pa.RecordBatch], Packed]
Decode = Callable[[Packed], Mapping[int, tuple[str, str]]]


class EntryProof:
    """Refuses records of one stream whose entry nobody could read, or no topic would take. Pure and replay-safe.

    What an entry weighs is its own columns, what is derived of them, the id and (in the entry and as Kafka's key) the key: it can be many times the
    raw record. A batch none of whose rows can be large is not looked at further where its types hold whatever their columns can (numbers, truth
    values, texts, bytes, times of the years 1 to 9999).

    Parameters
    ----------
    encode
        Encodes user and derived columns; ValueError for a value that the schema cannot hold.
    decode
        Reads them again as the journal's readers do; which rows they would refuse, and why.
    limit_bytes
        What the smallest of the topics that carry the entry, or copies of it, takes.
    always
        Prove every batch: some column can hold what its schema cannot, or what could not be read again.
    names, name_bytes
        Columns of texts that name state, and what such a text may weigh.
    """

    def __init__(self, encode: Encode, decode: Decode, limit_bytes: int, always: bool, names: Sequence[str] = (), name_bytes: int = 1 << 62) -> None:
        self._encode, self._decode, self._limit, self._always = encode, decode, limit_bytes, always
        self._names, self._name_bytes = names, name_bytes
        self._timed: tuple[pa.Schema, list[int]] | None = None

    def prove(self, rows: CleanRows) -> CleanRows:
        """Return the rows with those refused that fail."""
        if not len(rows):
            return rows
        rows = self._within_years(rows)
        if not self._always:
            columns, most = rows.columns, min(self._limit, 2 * self._name_bytes) - 16 * rows.columns.num_columns - _ENVELOPE_BYTES
            # A batch that is small as a whole has small rows; so has one whose largest values would together make a small row.
            if 2 * columns.nbytes <= most or 2 * sum(map(_largest, columns.columns)) <= most:
                return rows
        candidates = np.flatnonzero(~rows.refused & ~rows.heartbeat & ~rows.skipped)
        verdicts: dict[int, RecordVerdict] = {}
        self._judge(rows.columns.take(pa.array(candidates)), candidates, verdicts)
        return self._refuse(rows, verdicts)

    def _within_years(self, rows: CleanRows) -> CleanRows:
        """Refuse times of other years than 1 to 9999, which no lake or client could read (the event time has its own verdicts before)."""
        verdicts: dict[int, RecordVerdict] = {}
        schema = rows.columns.schema
        if self._timed is None or (self._timed[0] is not schema and not self._timed[0].equals(schema)):
            # The columns of a stream are the same at every step: which of them hold times is looked up once.
            kinds = (pa.types.is_timestamp, pa.types.is_nested)
            timed = [field.name for field in schema if field.name != "_event_time" and any(of(field.type) for of in kinds)]
            self._timed = schema, [schema.get_field_index(name) for name in timed]
        for i in self._timed[1]:
            beyond = _beyond_years(rows.columns.column(i))
            if beyond is not None:
                for row in np.flatnonzero(beyond & ~rows.refused & ~rows.heartbeat).tolist():
                    verdicts.setdefault(row, RecordVerdict("out_of_range", f"{schema.names[i]}: expected a time of the years 1 to 9999"))
        return self._refuse(rows, verdicts)

    @staticmethod
    def _refuse(rows: CleanRows, verdicts: Mapping[int, RecordVerdict]) -> CleanRows:
        if not verdicts:
            return rows
        refused = rows.refused.copy()
        refused[list(verdicts)] = True
        return replace(rows, refused=refused, verdicts={**rows.verdicts, **verdicts})

    def _judge(self, columns: pa.RecordBatch, rows: NDArray[np.int64], verdicts: dict[int, RecordVerdict]) -> None:
        if not len(rows):
            return
        own = columns.select([name for name in columns.schema.names if not name.startswith("_")])
        try:
            entries = self._encode(own)
        except ValueError as error:
            if len(rows) == 1:
                verdicts[int(rows[0])] = RecordVerdict("not_encodable", str(error)[:1_000])
                return
            half = len(rows) // 2
            self._judge(columns.slice(0, half), rows[:half], verdicts)
            self._judge(columns.slice(half), rows[half:], verdicts)
            return
        for i, (_, detail) in self._decode(entries).items():
            verdicts[int(rows[i])] = RecordVerdict("not_decodable", f"the journal's readers would refuse the entry: {detail[:1_000]}")
        total = entries.lengths + _ENVELOPE_BYTES + 2 * _bytes(columns.column("_event_id")) + 2 * _bytes(columns.column("_key"))
        for name in self._names:
            for i in np.flatnonzero(_bytes(columns.column(name)) > self._name_bytes).tolist():
                detail = f"{name}: expected a text of at most {self._name_bytes} bytes, as it names state; raise max.message.bytes of the checkpoints"
                verdicts.setdefault(int(rows[i]), RecordVerdict("too_large", detail))
        for i in np.flatnonzero(total > self._limit).tolist():
            detail = f"expected a journal entry of at most {self._limit} bytes, this one has {int(total[i])}; raise max.message.bytes of the topics"
            verdicts.setdefault(int(rows[i]), RecordVerdict("too_large", detail))


def _beyond_years(column: pa.Array) -> NDArray[np.bool_] | None:
    """Say in which rows a time, or one within, lies outside of the years 1 to 9999; None where none does."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        if column.null_count == len(column):
            return None
        scale = 1_000 if kind.unit == "us" else 1
        low, high = _YEAR_1_MS * scale, _YEAR_10000_MS * scale
        # What stands under a null counts for nothing, but is there: it is looked at only where some number is beyond.
        numbers = np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)
        if int(numbers.min()) >= low and int(numbers.max()) < high:
            return None
        return np.asarray(((numbers < low) | (numbers >= high)) & ~np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_), np.bool_)
    if not pa.types.is_nested(kind):
        return None
    if pa.types.is_struct(kind):
        inner = [beyond for beyond in map(_beyond_years, column.flatten()) if beyond is not None]
        return np.logical_or.reduce(inner) if inner else None
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    # A map is a list of its items; those of a null list may be there and mean nothing, and are good like any others.
    items = _beyond_years((column.items if pa.types.is_map(kind) else column.values).slice(first, last - first))
    if items is None:
        return None
    counts = np.concatenate([[0], np.cumsum(items)])
    return np.asarray(np.diff(counts[offsets - first]) > 0, np.bool_)


def _bytes(texts: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False), np.int64)


def _largest(column: pa.Array) -> int:
    """Return what no value of a column weighs more than, bytes."""
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        return int(np.diff(offsets).max())
    if pa.types.is_primitive(column.type) or pa.types.is_fixed_size_binary(column.type):
        return max(16, int(column.type.bit_width) // 8)
    return int(column.nbytes)
