"""Keep an application's outcomes as Parquet files, each row once, however often this program is killed.

    python outcomes.py APP FOLDER [--rows 50000] [--every 10]

A file holds a range of offsets of one partition and is named after the first one. It appears whole or not at all, and says in its metadata where
the next range begins: the files are the only memory, so nothing is doubled or left out. A second copy of this program that writes a range which is
there already ends with FileExistsError.
"""

import argparse
import os
import signal
import time
from pathlib import Path
from threading import Event
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

TEXTS, TIMES = ("request_id", "model", "model_version", "status"), ("event_time", "journal_time")
COLUMNS = [("offset", pa.int64()), *((name, pa.string()) for name in TEXTS), *((name, pa.timestamp("ms", "UTC")) for name in TIMES)]
SCHEMA = pa.schema([*COLUMNS, ("score", pa.float64()), ("label", pa.float64()), ("delay_ms", pa.int64()), ("revision", pa.int32())])
Record = tuple[int, bytes | None]


def next_offset(folder: Path, partition: int) -> int:
    """Return where the newest file of a partition says that the next range begins; without a file, the oldest record that the topic holds."""
    files = sorted(folder.glob(f"{partition:04d}-*.parquet"))
    return int(pq.read_metadata(files[-1]).metadata[b"next_offset"]) if files else int(OFFSET_BEGINNING)


def write_range(folder: Path, topic: str, partition: int, records: list[Record], decode: AvroDeserializer) -> None:
    """Write one file: whole under another name first, then linked to its own, which fails where it exists."""
    context = SerializationContext(topic, MessageField.VALUE)
    rows = [{"offset": offset, **cast("dict[str, object]", decode(value, context))} for offset, value in records]
    (first, _), (last, _) = records[0], records[-1]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({"next_offset": str(last + 1)}))
    name = folder / f"{partition:04d}-{first:020d}.parquet"
    part = name.with_suffix(f".part-{os.getpid()}")
    pq.write_table(table, part, compression="zstd")
    os.link(part, name)
    part.unlink()
    print(f"{len(rows)} outcomes in {name}", flush=True)


def follow(app: str, folder: Path, rows: int, every_s: float, stopping: Event) -> None:
    """Write a file per partition whenever `rows` have come or `every_s` have passed; what is not written is read again next time."""
    folder.mkdir(parents=True, exist_ok=True)
    decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["TIDEMILL_REGISTRY__URL"], "timeout": 10.0}))
    # librdkafka wants the name of a group, which is never used: offsets come from the files.
    settings: dict[str, str | bool] = {
        "group.id": "unused",
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
    }
    consumer = Consumer({"bootstrap.servers": os.environ["TIDEMILL_KAFKA__BOOTSTRAP_SERVERS"], **settings, "enable.auto.commit": False})
    topic = f"{app}-outcomes"
    waiting: dict[int, list[Record]] = {partition: [] for partition in consumer.list_topics(topic, 30).topics[topic].partitions}
    consumer.assign([TopicPartition(topic, partition, next_offset(folder, partition)) for partition in waiting])
    written = time.monotonic()
    while not stopping.is_set():
        for message in consumer.consume(5_000, timeout=0.5):
            partition, offset = message.partition(), message.offset()
            if message.error() is not None or partition is None or offset is None:
                raise KafkaException(message.error())
            waiting[partition].append((offset, message.value()))
        if time.monotonic() - written >= every_s or sum(map(len, waiting.values())) >= rows:
            for partition, records in waiting.items():
                if records:
                    write_range(folder, topic, partition, records, decode)
                    records.clear()
            written = time.monotonic()
    consumer.close()


if __name__ == "__main__":
    parser, stop = argparse.ArgumentParser(description="Keep an application's outcomes as Parquet files."), Event()
    for name, kind, default in (("app", str, None), ("folder", Path, None), ("--rows", int, 50_000), ("--every", float, 10.0)):
        parser.add_argument(name, type=kind, default=default)
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    follow(given.app, given.folder, given.rows, given.every, stop)
