"""How the commands reach Kafka: with the options and the password that the services have."""

from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.connection import Connection
from tidemill.shared.observability.settings import KafkaSettings

_ASK_S = 10.0


def connect(kafka: KafkaSettings) -> KafkaBroker:
    """Return the broker."""
    return KafkaBroker(kafka.bootstrap_servers, kafka.client_options(), deadline_s=kafka.deadline_s, topics=kafka.topic_settings())


def client_settings(kafka: KafkaSettings, special: dict[str, Any]) -> dict[str, Any]:
    """Return librdkafka's settings of a single consumer or producer: its special ones over those that the environment gives."""
    return {"bootstrap.servers": kafka.bootstrap_servers, **kafka.client_options(), **special}


def end_of(consumer: Consumer, kafka: KafkaSettings, topic: str, partition: int) -> int:
    """Return where a log ends for a consumer; of a topic that was just made, once its leader is known.

    Raises
    ------
    BrokerUnreachableError, KafkaFailureError
    """
    connection = Connection(kafka.bootstrap_servers, kafka.client_options(), kafka.deadline_s)
    place = TopicPartition(topic, partition)
    return int(connection.call(f"end of {topic}:{partition}", lambda: consumer.get_watermark_offsets(place, timeout=_ASK_S))[1])
