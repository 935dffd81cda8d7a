"""Where the records of a transaction were to stand, and where the broker has put them."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, Message

from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition


class WrittenPlaces:
    """Holds the offsets that a broker gives in one transaction against those that its records were given before they were written.

    Offsets of a partition rise, so the first and the last of each run prove the rest.

    Attributes
    ----------
    topics
        All that were written to.
    """

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self._asked: dict[TopicPartition, list[int]] = {}
        self._given: dict[TopicPartition, list[int]] = {}

    def ask(self, emission: Emission) -> None:
        """Take note of what is going to be written."""
        self.topics.add(emission.topic)
        if emission.first_offset is not None and len(emission):
            asked = self._asked.setdefault(TopicPartition(emission.topic, emission.partition), [])
            asked += sorted({emission.first_offset, emission.first_offset + len(emission) - 1})

    def note(self, error: KafkaError | None, message: Message) -> None:
        """Take note of an acknowledgement: a delivery report of the first or the last record of a run."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error is None and topic is not None and partition is not None and offset is not None:
            self._given.setdefault(TopicPartition(topic, partition), []).append(offset)

    @property
    def asked(self) -> bool:
        """Whether any record was given a place before it was written."""
        return bool(self._asked)

    @property
    def acknowledged(self) -> bool:
        """Whether the broker has told the place of every run."""
        return all(len(self._given.get(place, ())) >= len(asked) for place, asked in self._asked.items())

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """By partition, the offset behind the last record."""
        return {place: given[-1] + 1 for place, given in self._given.items()}

    def check(self) -> None:
        """Compare the places.

        Raises
        ------
        TransientError
            The broker has put a run elsewhere: somebody else writes to its partition, and the tasks are restored.
        """
        for place, asked in self._asked.items():
            given = self._given.get(place, [])
            if given != asked:
                raise TransientError(
                    f"{place.topic}:{place.partition}: expected the offsets {asked[0]} to {asked[-1]}, the broker gave {given or 'none'}:"
                    " somebody else has written there"
                )
