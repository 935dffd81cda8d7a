"""The state of alerts in its topic: one record that replaces the one before it."""

import logging
import zlib

from tidemill.services.alerts.domain.fold import VERSION
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition

log = logging.getLogger(__name__)
KEY = b"state"
_BACK = 50


def encode_state(codec: RecordCodec, state: bytes) -> bytes:
    """Return the record's value."""
    return codec.encode({"version": VERSION, "state": zlib.compress(state, 1)})


def read_state(broker: Broker, topic: str, codec: RecordCodec) -> bytes | None:
    """Return the newest state; None before the first, and when another version wrote it."""
    reader, partition = broker.reader(), TopicPartition(topic, 0)
    try:
        first, end = reader.watermarks(partition)
        values = [value for records in reader.read(partition, max(first, end - _BACK)) for value in records.values if value is not None]
    finally:
        reader.close()
    if not values:
        return None
    record = codec.decode(values[-1])
    if record["version"] != VERSION:
        log.warning(
            "the state of alerts is of another version and is not read: alerts that are firing begin anew", extra={"version": record["version"]}
        )
        return None
    return zlib.decompress(record["state"])
