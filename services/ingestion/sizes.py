"""What the topics take, and where the whole of a record lies that outgrows a dead letter."""

import hashlib
import logging
from collections.abc import Callable, Sequence

import pyarrow as pa

from tidemill.services.ingestion.domain.rejections import Rejection
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.application.view_version import versions_bytes
from tidemill.shared.kinds.spelling import class_bytes
from tidemill.shared.lake.names import QUARANTINE
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.errors import TransientError
from tidemill.shared.runner.letter_size import DEFAULT_LIMIT_BYTES, ROOM_BYTES
from tidemill.shared.runner.stage_topics import require_room
from tidemill.shared.runner.state_parts import PART_BYTES
from tidemill.shared.service.stage import letter_limit

_LOG = logging.getLogger(__name__)
_FIXED_BYTES, _LEAST_BYTES = 1_024, 1_024


class TopicSizes:
    """The greatest record that each topic takes, asked of the broker once: what follows from an accepted record fits its topic, stage by stage.

    Raises
    ------
    TopicMismatchError
        A topic takes less than what is written there whatever the records are.
    """

    def __init__(self, plan: Plan, broker: Broker | None) -> None:
        self._plan = plan
        topics = plan.topics
        copies = [topics.journal, topics.duplicates, topics.late]
        answers = [topics.predictions, topics.shadow_scores, topics.outcomes, *map(topics.checkpoint, ("ingestion", "features", "outcomes"))]
        # An outcome and a shadow score have a probability by class twice.
        models = sum(len(name) for name in plan.models) + 2 * max((class_bytes(one.kind.classes) for one in plan.models.values()), default=0)
        # Numbers of a vector have nine bytes and which branch of the union they are, texts that and their length.
        fixed = {topics.vectors: _FIXED_BYTES + 11 * len(plan.features), **dict.fromkeys(answers, _FIXED_BYTES + models)}
        needed = {topic: ROOM_BYTES + fixed.get(topic, _FIXED_BYTES) for topic in (*copies, topics.vectors, *answers)}
        self._room: dict[str, int] = {}
        switch = ROOM_BYTES + _FIXED_BYTES + versions_bytes(plan.features)
        require_room(topics.view_switches, _takes(broker, topics.view_switches), switch, "the versions of all features")
        for topic, needs in needed.items():
            takes = _takes(broker, topic)
            require_room(topic, takes, needs + _LEAST_BYTES, "what is there whatever the records are, and a kilobyte of them")
            self._room[topic] = takes - needs + (0 if topic in (topics.vectors, *answers) else _FIXED_BYTES)
        self._letter = letter_limit(plan, broker) if broker is not None else DEFAULT_LIMIT_BYTES

    @property
    def letter(self) -> int:
        """Of the dead letters."""
        return self._letter

    def entry(self, stream: StreamPlan) -> int:
        """What a stream's journal entry may weigh, so that it, and whatever copies its texts, fits.

        A vector holds texts of its request and of a row of each reference stream: each of them gets its share. Predictions and outcomes have the
        request's id and key, each of which the entry has twice.
        """
        references = {feature.source for feature in self._plan.features if feature.type == "string" and feature.origin == "reference"}
        own = min(room for topic, room in self._room.items() if topic != self._plan.topics.vectors)
        if stream.name not in references and stream.name not in self._plan.asking_streams:
            return own
        return min(own, self._room[self._plan.topics.vectors] // (1 + len(references)))

    @property
    def name(self) -> int:
        """What a text may weigh that names state (an entity, a reference row): it is the key of the state's entries."""
        takes = self._room[self._plan.topics.checkpoint("features")]
        return takes - min(PART_BYTES, takes // 2)


def _takes(broker: Broker | None, topic: str) -> int:
    """Return the greatest record of a topic; one that is missing is the layout's to report, by the stage that works with it."""
    return DEFAULT_LIMIT_BYTES if broker is None or not broker.partitions(topic) else broker.max_message_bytes(topic)


class Quarantine:
    """Keeps whole originals in the lake's table `quarantine`, each once by the place it came from.

    Parameters
    ----------
    append
        `Lake.append`.
    uri
        The lake's address, for the letter.
    """

    def __init__(self, append: Callable[[str, pa.Table, str, list[int]], int], uri: str) -> None:
        self._append, self._uri = append, uri

    def keep(self, rejections: Sequence[Rejection], topic: str) -> bool:
        """Write originals of one topic partition down, in offset order, in one commit.

        False (and a line in the log) when the lake does not answer: the letters must not wait for it.
        """
        partition, offsets = rejections[0].partition, [one.offset for one in rejections]
        values = [one.value or b"" for one in rejections]
        rows = {
            "source_topic": [topic] * len(values), "source_partition": [partition] * len(values), "source_offset": offsets,
            "source_timestamp": [one.timestamp_ms for one in rejections], "key": [one.key or b"" for one in rejections], "value": values,
            "value_sha256": [hashlib.sha256(value).hexdigest() for value in values],
        }  # fmt: skip
        try:
            self._append(QUARANTINE, pa.table(rows), f"quarantine {topic}:{partition}", offsets)
        except TransientError as problem:
            _LOG.error("%s[%d]@%d to %d: the originals are not kept in the lake: %s", topic, partition, offsets[0], offsets[-1], problem)
            return False
        return True

    def place(self, rejection: Rejection, topic: str) -> str:
        """Say where an original lies, for its letter."""
        return f"{self._uri}: table {QUARANTINE}, {topic}[{rejection.partition}]@{rejection.offset}"
