"""The gateway's way to what drift tells people: Kafka and the registry, reached when somebody asks."""

from collections.abc import Sequence

from tidemill.services.gateway.newest_records import Key, NewestRecords, Record
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics

_KEPT = 5_000


class KafkaDriftDesk:
    """`DriftDesk` of the gateway; its topics are made if they are not there, and reached when somebody asks for the first time."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        self._plan, self._broker, self._registry = plan, broker, registry
        self._books: dict[str, NewestRecords] = {}

    def incidents(self) -> Sequence[Record]:
        """Return the newest record of each incident, the newest last."""
        return self._book(self._plan.topics.incidents, "incident", ("incident_id",)).read()

    def findings(self) -> Sequence[Record]:
        """Return the newest finding of each model, kind, subject and slice, the newest last."""
        return self._book(self._plan.topics.drift, "drift", ("model", "kind", "subject", "slice")).read()

    def _book(self, topic: str, message: str, key: Key) -> NewestRecords:
        if topic not in self._books:
            application = self._plan.application
            self._broker.create_topics([spec for spec in catalogue_topics(application.app, application.partitions) if spec.name == topic])
            self._books[topic] = NewestRecords(self._broker, self._registry, topic, message, key, _KEPT)
        return self._books[topic]
