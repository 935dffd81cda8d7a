"""What a replay publishes: the records of one raw topic in order of availability."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.key_text import key_texts
from tidemill.shared.avro.registry import SchemaRegistry

Keys = Sequence[bytes | None]
"""Keys of records, or their values: both may be missing."""


class Feed(Protocol):
    """Records of one raw topic, sorted by availability."""

    @property
    def topic(self) -> str:
        """Where they go."""
        ...

    @property
    def available_ms(self) -> NDArray[np.int64]:
        """When each became known: its Kafka timestamp."""
        ...

    def records(self, begin: int, end: int) -> tuple[Keys, Keys]:
        """Return keys and values of a stretch."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedRecords:
    """Records encoded beforehand."""

    topic: str
    keys: Keys
    values: Sequence[bytes]
    available_ms: NDArray[np.int64]

    def records(self, begin: int, end: int) -> tuple[Keys, Keys]:
        """Return keys and values of a stretch."""
        return self.keys[begin:end], self.values[begin:end]


@dataclass(frozen=True, slots=True)
class StreamTable:
    """The rows of one stream.

    Attributes
    ----------
    columns
        As the stream's Avro schema has them.
    available_ms : int64 array, shape (n,)
        When each row became known.
    place
        Where a row stands, for messages: file and line. None for rows that are made.
    messages
        What is published for each row, where the columns are not simply encoded: Debezium's messages (None: one without a value).
    """

    columns: pa.Table
    available_ms: NDArray[np.int64]
    place: Callable[[int], str] | None = None
    messages: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.available_ms)


class TableFeed:
    """Rows of a stream, encoded when they are asked for; a year of columns takes a fraction of its encoded records.

    The record's key is the partition key, for a reference stream its reference key; either may be a derived column.

    Parameters
    ----------
    most_bytes
        What a record may weigh with its key, as the broker takes no more; None: whatever it weighs.
    """

    def __init__(self, stream: StreamPlan, table: StreamTable, registry: SchemaRegistry, most_bytes: int | None = None) -> None:
        order = np.argsort(table.available_ms, kind="stable")
        self._sorted = table.columns.take(pa.array(order))
        self._key = stream.key
        self._derivations = stream.derivations if stream.key not in stream.user_arrow.names else ()
        self._messages = None if table.messages is None else [table.messages[row] for row in order.tolist()]
        self._encoder = ColumnEncoder(registry, subject(stream), stream.user_schema) if self._messages is None else None
        self.topic = stream.topic
        self.available_ms = table.available_ms[order]
        self._most_bytes, self._place, self._order = most_bytes, table.place, order

    def records(self, begin: int, end: int) -> tuple[Keys, Keys]:
        """Encode a stretch; DataSetError for a record that is too large, with its place."""
        if begin == end:
            return [], []
        batch = self._sorted.slice(begin, end - begin).combine_chunks().to_batches()[0]
        keyed = derive(batch, self._derivations)
        keys = key_texts(keyed.column(self._key)).to_pylist()
        encoded = [None if key is None else key.encode() for key in keys]
        values = self._encoder.encode(batch) if self._encoder is not None else (self._messages or ())[begin:end]
        if self._most_bytes is not None:
            sizes = [len(key or b"") + len(value or b"") for key, value in zip(encoded, values, strict=True)]
            if (largest := max(sizes)) > self._most_bytes:
                row = int(self._order[begin + sizes.index(largest)])
                place = f"row {row + 1} of {self.topic}" if self._place is None else self._place(row)
                expected = f"expected a record that {self.topic} takes, of at most {self._most_bytes:,} bytes with its key"
                raise DataSetError(f"{place}: {expected}, found one of {largest:,}; TIDEMILL_KAFKA__MAX_MESSAGE_BYTES allows more")
        return encoded, values


def feeds_of(plan: Plan, registry: SchemaRegistry, tables: Mapping[str, StreamTable], most_bytes: int | None = None) -> Sequence[Feed]:
    """Return what a replay publishes; records of more than `most_bytes` with their keys are refused."""
    return [TableFeed(plan.streams[name], table, registry, most_bytes) for name, table in tables.items()]


def derive(batch: pa.RecordBatch, derivations: Sequence[tuple[str, Expression]]) -> pa.RecordBatch:
    """Return a batch with a stream's derived columns."""
    for name, expression in derivations:
        batch = batch.append_column(name, expression.evaluate(batch))
    return batch


def subject(stream: StreamPlan) -> str:
    """Return the registry's subject of a raw topic's records."""
    record = json.loads(stream.user_schema)
    full_name = f"{record['namespace']}.{record['name']}" if "namespace" in record else record["name"]
    return f"{stream.topic}-{full_name}"
