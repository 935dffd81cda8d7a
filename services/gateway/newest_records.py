"""The newest records of a topic that people ask for, kept as they are encoded."""

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_schema
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker, TopicRemadeError
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.topic_identity import TopicIdentities

Record = Mapping[str, Any]
Key = tuple[str, ...]


class NewestRecords:
    """The newest record of every key of one partition of a topic; each look reads on from where the last one ended.

    Only the fields of the key are decoded when a record is read, and the whole record when somebody asks for it: a decoded record takes fifteen times
    the memory of its bytes.

    Parameters
    ----------
    message
        Name of the schema.
    key
        Fields that make the key, texts.
    kept
        Keys that are kept, those whose newest record is newest.
    reach
        How many offsets before the end are read at most: what came before is never known. None: all.
    """

    def __init__(
        self,
        broker: Broker,
        registry: SchemaRegistry,
        topic: str,
        message: str,
        key: Key,
        kept: int,
        *,
        partition: int = 0,
        reach: int | None = None,
    ) -> None:
        self._broker, self._place, self._key, self._kept, self._reach = broker, TopicPartition(topic, partition), key, kept, reach
        self._codec = message_codec(registry, topic, message)
        self._keys = ColumnDecoder(registry, _schema_of(message, key))
        self._begin()

    def read(self) -> Sequence[Record]:
        """Read to the end of the topic and return what is kept, the newest last."""
        self._read_on()
        return [self._codec.decode(value) for value in self._values.values()]

    def find(self, keys: Sequence[Key]) -> Sequence[Record]:
        """Read to the end of the topic and return the newest records of these keys, those that are kept."""
        self._read_on()
        return [self._codec.decode(self._values[key]) for key in keys if key in self._values]

    def _begin(self) -> None:
        """Know nothing of the topic: it is read from its first record on."""
        self._position = 0
        self._values: OrderedDict[Key, bytes] = OrderedDict()
        self._identity = TopicIdentities(self._broker, [self._place.topic], 0.0, time.monotonic)

    def _look(self) -> None:
        """Begin anew when the topic is another one under the same name, as its id says: its log may have grown to where the old one was read."""
        try:
            self._identity.look()
        except TopicRemadeError:
            self._begin()
            self._identity.look()

    def _read_on(self) -> None:
        self._look()
        reader = self._broker.reader()
        try:
            end = reader.watermarks(self._place)[1]
            if end < self._position:
                # Deleted and made anew, and the broker is too old for ids or did not give them in time.
                self._begin()
            if self._reach is not None:
                self._position = max(self._position, end - self._reach)
            for records in reader.read(self._place, self._position, end) if end > self._position else ():
                self._take(records)
                self._position = int(records.offsets[-1]) + 1
            self._position = max(self._position, end)
        finally:
            reader.close()

    def _take(self, records: Records) -> None:
        values = [value for value in records.values if value is not None]
        decoded = self._keys.decode(values)
        if decoded.errors:
            raise decoded.errors[0]
        for key, value in zip(_rows(decoded.batch), values, strict=True):
            self._values[key] = value
            self._values.move_to_end(key)
        while len(self._values) > self._kept:
            self._values.popitem(last=False)


def _schema_of(message: str, fields: Key) -> str:
    """Return a message's schema with some of its fields only."""
    whole = json.loads(message_schema(message))
    return json.dumps({**whole, "fields": [field for field in whole["fields"] if field["name"] in fields]})


def _rows(batch: pa.RecordBatch) -> Iterator[Key]:
    """Return the rows of columns of texts; what is said twice, as a model's name is, is one object."""
    columns = []
    for column in batch.columns:
        coded = column.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        columns.append([texts[code] for code in coded.indices.to_pylist()])
    return zip(*columns, strict=True)
