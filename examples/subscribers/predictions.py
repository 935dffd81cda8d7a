"""Follow an application's predictions with plain confluent-kafka: committed records only, Avro through the registry, resumed by consumer group.

    python predictions.py APP [--group NAME] [--limit N]

`process` stands for your own code. A record counts as processed once its offset is committed, which happens after `process` has come back: a
program that is killed in between sees those records again (at least once), so make `process` idempotent by `request_id` and `model`.
"""

import argparse
import json
import os
import signal
from typing import Any

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def process(prediction: dict[str, Any]) -> None:
    """Do something with a prediction: here, print it as a line of JSON."""
    print(json.dumps(prediction, default=str), flush=True)


def follow(app: str, group: str, limit: int | None) -> None:
    """Process predictions until SIGTERM or Ctrl-C, or until `limit` of them are done."""
    topic = f"{app}-predictions"
    decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["TIDEMILL_REGISTRY__URL"], "timeout": 10.0}))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["TIDEMILL_KAFKA__BOOTSTRAP_SERVERS"],
            "group.id": group,
            # Predictions of a transaction that was aborted are not answers.
            "isolation.level": "read_committed",
            # A new group begins with the oldest prediction that the topic holds; a known one where it stopped.
            "auto.offset.reset": "earliest",
            # An offset is committed after its record was processed, not after it was fetched.
            "enable.auto.commit": False,
        }
    )
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    consumer.subscribe([topic])
    done = 0
    try:
        while not stopping and done != limit:
            messages = consumer.consume(500 if limit is None else min(500, limit - done), timeout=0.5)
            for message in messages:
                if message.error() is not None:
                    raise KafkaException(message.error())
                process(decode(message.value(), SerializationContext(topic, MessageField.VALUE)))
            if messages:
                consumer.commit(asynchronous=False)
            done += len(messages)
    finally:
        consumer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print an application's predictions as lines of JSON.")
    parser.add_argument("app", help="name of the application, as app.yaml says")
    parser.add_argument("--group", default="my-service", help="consumer group: remembers how far this program has come")
    parser.add_argument("--limit", type=int, help="stop after so many predictions")
    given = parser.parse_args()
    follow(given.app, given.group, given.limit)
