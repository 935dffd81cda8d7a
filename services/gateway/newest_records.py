"""The newest records of a topic that people ask for, kept as they are encoded."""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec, message_schema
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker, TopicRemadeError
from tidemill.shared.log.errors import InvalidRecord
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.topic_identity import TopicIdentities

Record = Mapping[str, Any]
Key = tuple[str, ...]
log = logging.getLogger(__name__)


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
        return self._decoded(self._values.values())

    def find(self, keys: Sequence[Key]) -> Sequence[Record]:
        """Read to the end of the topic and return the newest records of these keys, those that are kept."""
        self._read_on()
        return self._decoded(self._values[key] for key in keys if key in self._values)

    def _begin(self) -> None:
        """Know nothing of the topic: it is read from its first record on."""
        self._position = 0
        self._values: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()
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
        came = [(offset, value) for offset, value in zip(records.offsets.tolist(), records.values, strict=True) if value is not None]
        decoded = self._keys.decode([value for _, value in came])
        if decoded.errors:
            self._skip(came[decoded.errors[0].index][0], decoded.errors[0], len(decoded.errors))
        for key, row in zip(_rows(decoded.batch), decoded.rows.tolist(), strict=True):
            self._values[key] = came[row]
            self._values.move_to_end(key)
        while len(self._values) > self._kept:
            self._values.popitem(last=False)

    def _decoded(self, kept: Iterable[tuple[int, bytes]]) -> list[Record]:
        records: list[Record] = []
        for offset, value in kept:
            try:
                records.append(self._codec.decode(value))
            except InvalidRecord as error:
                self._skip(offset, error)
        return records

    def _skip(self, offset: int, error: InvalidRecord, count: int = 1) -> None:
        """Whoever may write to the topic can write what is no record of it; nobody else's record is withheld for that. The first is named."""
        first = {"topic": self._place.topic, "partition": self._place.partition, "offset": offset, "reason": error.reason, "detail": error.detail}
        log.error("records of a public topic cannot be read, and are skipped", extra={"records": count, **first})


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
