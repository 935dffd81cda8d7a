"""The gateway's way to explanations: Kafka and the registry, reached when somebody asks."""

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.services.gateway.drift_desk import NewestRecords
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics

NEWEST = 10_000
"""Records of each partition among which a request is looked for."""


class KafkaExplanationDesk:
    """`ExplanationDesk` of the gateway; the topic is made if it is not there, and reached when somebody asks for the first time."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, newest: int = NEWEST) -> None:
        self._plan, self._broker, self._registry, self._newest = plan, broker, registry, newest
        self._books: list[NewestRecords] = []

    def of_request(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the newest explanation of a request by each model that answered it; none if it is unknown."""
        # Explanations have the keys of their requests' records, so that the id does not tell the partition.
        return [record for book in self._partitions() for record in book.read() if record["request_id"] == request_id]

    def _partitions(self) -> Sequence[NewestRecords]:
        if not self._books:
            application, topic = self._plan.application, self._plan.topics.explanations
            self._broker.create_topics([spec for spec in catalogue_topics(application.app, application.partitions) if spec.name == topic])
            codec = message_codec(self._registry, topic, "explanation")
            self._books = [
                NewestRecords(
                    self._broker, topic, codec, lambda one: (one["request_id"], one["model"]), self._newest, partition=partition, reach=self._newest
                )
                for partition in range(application.partitions)
            ]
        return self._books
