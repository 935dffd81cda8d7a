"""Events to Kafka, without holding up anybody else."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidemill.shared.kafka.admin import AdminClient, ConfigResource

log = logging.getLogger(__name__)
_DELIVERY_S = 10.0
_POLL_S = 0.2
_ASK_S = 5.0
_LARGEST_BYTES = 100_000_000


class EventTooLargeError(ValueError):
    """The broker does not take so large a record."""


class Publisher(Protocol):
    """Publishes one event and says where it went."""

    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        """Return partition and offset.

        Raises
        ------
        ConnectionError
            The broker has not taken it, as far as is known: publish it again under the same event id.
        EventTooLargeError
        """
        ...


class KafkaPublisher:
    """Publisher on Kafka: a coroutine waits until all replicas have the event, a thread serves the client."""

    def __init__(self, bootstrap_servers: str, options: Mapping[str, str]) -> None:
        self._shared: dict[str, str | int | float | bool] = {**options, "bootstrap.servers": bootstrap_servers}
        self._producer = Producer(
            {
                **self._shared,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 2,
                "delivery.timeout.ms": int(_DELIVERY_S * 1e3),
                "message.max.bytes": _LARGEST_BYTES,
            }
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="publisher", daemon=True)
        self._thread.start()

    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        """Publish; returns partition and offset."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[KafkaError | None, int, int]] = loop.create_future()

        def settle(error: KafkaError | None, partition: int, offset: int) -> None:
            if not answer.done():
                answer.set_result((error, partition, offset))

        def delivered(error: KafkaError | None, message: Message) -> None:
            loop.call_soon_threadsafe(settle, error, message.partition() or 0, message.offset() or 0)

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except BufferError as error:
            raise ConnectionError("too many events wait for Kafka") from error
        except KafkaException as error:
            raise _meaning(error.args[0]) from error
        failure, partition, offset = await answer
        if failure is not None:
            raise _meaning(failure)
        return partition, offset

    def limits(self, topics: Sequence[str]) -> dict[str, int]:
        """Ask the broker for the greatest record batch that each topic takes, bytes; waits.

        Raises
        ------
        ConnectionError
        """
        client = AdminClient(self._shared)
        asked = {ConfigResource(ConfigResource.Type.TOPIC, topic): topic for topic in topics}
        try:
            answers = client.describe_configs(list(asked), request_timeout=_ASK_S)
            return {asked[resource]: int(future.result()["max.message.bytes"].value) for resource, future in answers.items()}
        except KafkaException as error:
            raise ConnectionError(error.args[0].str()) from error

    def close(self) -> None:
        """Wait for what is under way, five seconds at most."""
        self._producer.flush(5.0)
        self._stopped.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(_POLL_S)


def _meaning(error: KafkaError) -> Exception:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return EventTooLargeError(error.str())
    return ConnectionError(error.str())
