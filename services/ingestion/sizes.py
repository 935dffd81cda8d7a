"""What the topics take, and where the whole of a record lies that outgrows a dead letter."""

import hashlib
import logging
from collections.abc import Callable, Sequence

import pyarrow as pa

from services.ingestion.domain.rejections import Rejection
from shared.application.plan import Plan, StreamPlan
from shared.lake.names import QUARANTINE
from shared.streaming.broker import Broker
from shared.streaming.errors import TransientError
from shared.streaming.letter_size import DEFAULT_LIMIT_BYTES, ROOM_BYTES

_LOG = logging.getLogger(__name__)


class TopicSizes:
    """The greatest record that each topic takes, asked of the broker once."""

    def __init__(self, plan: Plan, broker: Broker | None) -> None:
        self._plan = plan
        topics = plan.topics
        wanted = (topics.journal, topics.rejected, topics.duplicates, topics.late, topics.vectors)
        self._limits = {topic: DEFAULT_LIMIT_BYTES if broker is None else broker.max_message_bytes(topic) for topic in wanted}

    @property
    def letter(self) -> int:
        """Of the dead letters."""
        return self._limits[self._plan.topics.rejected]

    def entry(self, stream: StreamPlan) -> int:
        """What a stream's journal entry may weigh, so that it, and whatever copies its texts, fits.

        A vector holds texts of its request and of a row of each reference stream: where it does, each of them gets its share.
        """
        texts = {feature.source for feature in self._plan.features if feature.type == "string" and feature.origin in ("event", "reference")}
        shares = max(1, len(texts))
        smallest = min(limit for topic, limit in self._limits.items() if topic != self._plan.topics.rejected)
        return (smallest - ROOM_BYTES) // (shares if stream.name in texts or stream.name in self._plan.asking_streams else 1)


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
