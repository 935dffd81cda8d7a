"""Be told of drift, of what is decided about it and of retrainings, with a faust agent on three public topics.

    python events.py APP

At least once: faust commits an offset after the agent has come back for the next record, so a record may come again after a kill.
`drift_id`, `decision_id` with `verdict`, and `decision_id` with `event` tell what was seen before. It may be started before the application: it
looks for the topics every few seconds.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import faust
import httpx
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

# By default, topics that did not exist when faust joined are found after five minutes, and a request that is never answered holds the agent up.
TOPICS_LOOKED_FOR_EVERY_MS = 3_000
REGISTRY_ANSWERS_WITHIN_S = 10.0
ASKED_AGAIN_AFTER_S = 1.0
# A registry that is there says it: no schema has the id that stands before the record.
SCHEMA_NOT_FOUND = 40403


class CommittedConsumerThread(AIOKafkaConsumerThread):
    """Reads committed records only, which faust has no setting for: what a stage wrote in a transaction that was aborted never happened."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - there is no other way
        return consumer


class CommittedConsumer(Consumer):
    """A consumer on that thread."""

    def _new_consumer_thread(self) -> CommittedConsumerThread:
        return CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(Transport):
    """Kafka, read by that consumer."""

    Consumer = CommittedConsumer


async def decoded(decode: Callable[[bytes, SerializationContext], Any], topic: str, value: bytes) -> Any:
    """Return the record of a value, however long the registry is away.

    An agent that raises is started again behind the record that it raised on. That is right for a record that cannot be read, as one whose schema
    the registry does not know, and would lose one that can be read once the registry is back.
    """
    while True:
        try:
            # In a thread: faust's own work goes on while the registry is asked.
            return await asyncio.to_thread(decode, value, SerializationContext(topic, MessageField.VALUE))
        except (httpx.TransportError, SchemaRegistryError) as problem:
            if isinstance(problem, SchemaRegistryError) and problem.error_code == SCHEMA_NOT_FOUND:
                raise
            print(f"{topic}: the registry does not answer, asking again: {problem!r}", file=sys.stderr, flush=True)
            await asyncio.sleep(ASKED_AGAIN_AFTER_S)


def event_app(name: str) -> faust.App:
    """Return the faust application for a Tidemill application of this name."""
    decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["TIDEMILL_REGISTRY__URL"], "timeout": REGISTRY_ANSWERS_WITHIN_S}))
    brokers = [f"kafka://{server}" for server in os.environ["TIDEMILL_KAFKA__BOOTSTRAP_SERVERS"].split(",")]
    app = faust.App(
        f"{name}-events",  # the consumer group, too
        broker=brokers,
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=TOPICS_LOOKED_FOR_EVERY_MS,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=os.environ.get("FAUST_DATADIR", ".faust"),
    )
    app.transport = CommittedTransport(app.conf.broker_consumer, app)
    topics = [f"{name}-{kind}" for kind in ("drift", "decisions", "retraining")]

    @app.agent(app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"))
    async def tell(stream: Any) -> None:
        async for event in stream.events():
            topic = event.message.topic
            record = await decoded(decode, topic, event.value)
            if topic.endswith("-drift"):
                print(f"drift {record['severity']} {record['model']} {record['kind']}: {record['detail']}", flush=True)
            elif topic.endswith("-decisions"):
                print(f"decision {record['verdict']} {record['action']} {record['model']} ({record['trigger']}): {record['reason']}", flush=True)
            else:
                print(f"retraining {record['event']} {record['model']} ({record['trigger']}): {record['reason']}", flush=True)

    return app


if __name__ == "__main__":
    # Standard output is for events alone: faust would take what is printed for warnings of its log, and show a spinner there.
    worker = faust.Worker(event_app(sys.argv[1]), loglevel="warning", redirect_stdouts=False, quiet=True, stdout=sys.stderr)
    worker.execute_from_commandline()
