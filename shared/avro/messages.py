"""The project's own messages: their schemas (`schemas/*.avsc`), and the codecs of the topics that hold them."""

from functools import cache
from pathlib import Path

from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry

_FOLDER = Path(__file__).parents[2] / "schemas"


@cache
def message_schema(name: str) -> str:
    """Schema of a message, JSON, by the name of its file: ``"view-switch"``."""
    return (_FOLDER / f"{name}.avsc").read_text(encoding="utf-8")


def message_codec(registry: SchemaRegistry, topic: str, name: str, longest_text: int | None = None) -> RecordCodec:
    """Codec of a topic of low rate, one record at a time; see `RecordCodec` for `longest_text`."""
    return RecordCodec(registry, _subject(topic, name), message_schema(name), longest_text)


def message_encoder(registry: SchemaRegistry, topic: str, name: str) -> ColumnEncoder:
    """Columnar encoder of a topic."""
    return ColumnEncoder(registry, _subject(topic, name), message_schema(name))


def message_decoder(registry: SchemaRegistry, name: str) -> ColumnDecoder:
    """Columnar decoder of a message, whoever wrote it."""
    return ColumnDecoder(registry, message_schema(name))


def _subject(topic: str, name: str) -> str:
    """Topic and full name of the record (Confluent's TopicRecordNameStrategy)."""
    return f"{topic}-tidemill.{name.title().replace('-', '')}"
