"""The gateway's way to explanations: Kafka and the registry, reached when somebody asks."""

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.services.gateway.newest_records import NewestRecords
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics

NEWEST = 25_000
"""Records of each partition among which a request is looked for; some 530 bytes each, so four partitions take 53 MB once somebody asks."""


class KafkaExplanationDesk:
    """`ExplanationDesk` of the gateway; the topic is made if it is not there, and reached when somebody asks for the first time."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, newest: int = NEWEST) -> None:
        self._plan, self._broker, self._registry, self._newest = plan, broker, registry, newest
        self._books: list[NewestRecords] = []

    def of_request(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the newest explanation of a request by each model that answered it; none if it is unknown."""
        asked = [(request_id, name) for name, model in self._plan.models.items() if model.settings.explain is not None]
        # Explanations have the keys of their requests' records, so that the id does not tell the partition.
        return [record for book in self._partitions() for record in book.find(asked)]

    def _partitions(self) -> Sequence[NewestRecords]:
        if not self._books:
            application, topic = self._plan.application, self._plan.topics.explanations
            self._broker.create_topics([spec for spec in catalogue_topics(application.app, application.partitions) if spec.name == topic])
            key, newest = ("request_id", "model"), self._newest
            self._books = [
                NewestRecords(self._broker, self._registry, topic, "explanation", key, newest, partition=partition, reach=newest)
                for partition in range(application.partitions)
            ]
        return self._books
