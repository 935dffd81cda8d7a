"""The gateway's way to the dead letters: Kafka and the registry, reached when somebody asks."""

from collections.abc import Sequence
from heapq import nlargest

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.dead_letters.letters import Letter, LetterPlace, Selection
from tidemill.shared.dead_letters.originals import Originals
from tidemill.shared.dead_letters.reading import DeadLetterOffice
from tidemill.shared.dead_letters.replaying import DeadLetterReplay, LetterReplayResult
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.released_memory import release_memory

_LOOKED_AT = 100_000


class KafkaLetterDesk:
    """`LetterDesk` of the gateway; originals that letters have only the beginning of are looked for on their topics and in `lake`."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry, on_replay_clock: bool, lake: Lake | None = None) -> None:
        self._originals = Originals(broker, lake)
        self._plan, self._broker, self._registry, self._on_replay_clock = plan, broker, registry, on_replay_clock
        application = plan.application
        own = (plan.topics.rejected, plan.topics.replayed)
        self._topics = [spec for spec in catalogue_topics(application.app, application.partitions) if spec.name in own]

    def newest(self, selection: Selection, limit: int) -> Sequence[Letter]:
        """Return the newest dead letters that a selection holds, oldest first."""
        self._broker.create_topics(self._topics)
        office = DeadLetterOffice(self._plan, self._broker, self._registry, _LOOKED_AT)

        def age(letter: Letter) -> tuple[int, LetterPlace]:
            return letter.record["journal_time"], letter.place

        try:
            return sorted(nlargest(limit, office.letters(selection), key=age), key=age)
        finally:
            release_memory()

    def replay(self, selection: Selection) -> LetterReplayResult:
        """Publish originals again, each once."""
        self._broker.create_topics(self._topics)
        try:
            return DeadLetterReplay(self._plan, self._broker, self._registry, self._originals, self._on_replay_clock).run(selection)
        finally:
            release_memory()
