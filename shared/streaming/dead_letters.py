"""Dead letters the runner writes itself, and the limit beyond which a stream of them stops the process."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.streaming.letter_size import DEFAULT_LIMIT_BYTES, fitted, letter_key
from shared.streaming.records import Emission, Records


class DeadLetterLimitError(RuntimeError):
    """So much of the input is refused that the configuration, not the records, must be wrong (crash)."""


class DeadLetterLimit:
    """Stops loudly when too many records are refused.

    Parameters
    ----------
    share, window
        Greatest share among the last `window` input records.
    run
        Greatest number in a row, steps in which all input was refused counting as a row.
    topic
        Where they are, for the message.
    """

    def __init__(self, share: float, window: int, run: int, topic: str) -> None:
        self._share, self._window, self._run, self._topic = share, window, run, topic
        self._steps: deque[tuple[int, int]] = deque()
        self._read = 0
        self._refused = 0
        self._row = 0

    def observe(self, read: int, refused: int) -> None:
        """Take note of one step; raise when a limit is passed."""
        if not read and not refused:
            return
        self._steps.append((read, refused))
        self._read += read
        self._refused += refused
        while self._read - self._steps[0][0] >= self._window:
            old_read, old_refused = self._steps.popleft()
            self._read -= old_read
            self._refused -= old_refused
        self._row = self._row + refused if refused >= read else 0
        if self._row > self._run:
            raise DeadLetterLimitError(f"{self._row} records in a row became dead letters, at most {self._run} may; {self._advice}")
        if self._read >= self._window and self._refused > self._share * self._read:
            raise DeadLetterLimitError(
                f"{self._refused} of the last {self._read} records became dead letters, at most {self._share:.0%} may; {self._advice}"
            )

    @property
    def _advice(self) -> str:
        return f"read {self._topic} for the reasons, correct the application or the producer, or raise TIDEMILL_RUNNER__DEAD_LETTER_SHARE / _RUN"


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
