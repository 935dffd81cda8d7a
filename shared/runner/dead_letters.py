"""Dead letters the runner writes itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidemill.shared.log.records import Emission, Records
from tidemill.shared.runner.letter_size import DEFAULT_LIMIT_BYTES, fitted, letter_key


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes `tidemill.Rejected` for records that the runner itself sets aside.

    Attributes
    ----------
    topic
        Dead letter topic of the application.
    encode
        Wire format of a Rejected record (`RecordCodec.encode`).
    limit_bytes
        What the topic takes; of a longer original the letter has the beginning.
    """

    topic: str
    stage: str
    encode: Callable[[dict[str, Any]], bytes]
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def emission(self, record: Records, partition: int, reason: str, detail: str, journal_time_ms: int) -> Emission:
        """Dead letter of a single record, to the task's own partition."""
        (key,), (value,) = record.keys, record.values
        letter = {
            "stage": self.stage,
            "reason": reason,
            "detail": detail,
            "source_topic": record.topic,
            "source_partition": record.partition,
            "source_offset": int(record.offsets[0]),
            "source_timestamp": int(record.timestamps_ms[0]),
            "key": key,
            "value": value,
            "journal_time": journal_time_ms,
        }
        return Emission(self.topic, partition, [letter_key(key)], [self.encode(fitted(letter, self.limit_bytes))])
