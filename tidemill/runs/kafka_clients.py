"""How the commands reach Kafka: with the options and the password that the services have."""

from typing import Any

from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.observability.settings import KafkaSettings


def connect(kafka: KafkaSettings) -> KafkaBroker:
    """Return the broker."""
    return KafkaBroker(kafka.bootstrap_servers, kafka.client_options(), deadline_s=kafka.deadline_s, topics=kafka.topic_settings())


def client_settings(kafka: KafkaSettings, special: dict[str, Any]) -> dict[str, Any]:
    """Return librdkafka's settings of a single consumer or producer: its special ones over those that the environment gives."""
    return {"bootstrap.servers": kafka.bootstrap_servers, **kafka.client_options(), **special}
