"""Dead letters as they are read back: what was refused, where and why."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from tidemill.shared.avro.times import instant_text
from tidemill.shared.short_text import short_text

_LONGEST_PLACE = 40


class LetterSource(NamedTuple):
    """Where the record stood that became a dead letter."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class LetterPlace(NamedTuple):
    """Where a dead letter stands on the topic of dead letters; written ``partition:offset``."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "LetterPlace":
        """Read what `str` writes; ValueError."""
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal() and len(text) <= _LONGEST_PLACE):
            raise ValueError(f"expected the place of a dead letter as PARTITION:OFFSET, got {short_text(text, _LONGEST_PLACE)!r}")
        return cls(int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes
    ----------
    record
        Fields of `tidemill.Rejected`.
    stream
        The application's stream whose topic the record stood on; empty for a record of an internal topic.
    replayed_at
        When its original was published again, milliseconds; None: it was not.
    """

    place: LetterPlace
    record: Mapping[str, Any]
    stream: str
    replayed_at: int | None = None

    @property
    def source(self) -> LetterSource:
        """Where the record stood."""
        return LetterSource(self.record["source_topic"], self.record["source_partition"], self.record["source_offset"])


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; an empty field selects all.

    Attributes
    ----------
    since_ms, until_ms
        Kafka timestamp of the source record: from, and before.
    replayed
        Only those that were (True) or were not (False) published again.
    """

    reasons: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    places: frozenset[LetterPlace] = field(default_factory=frozenset)
    replayed: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a stretch of time that holds nothing: ValueError."""
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ValueError(f"expected since before until, found {instant_text(self.since_ms)} and {instant_text(self.until_ms)}")

    def holds(self, letter: Letter) -> bool:
        """Whether a dead letter is one of them."""
        record = letter.record
        return (
            (not self.reasons or record["reason"] in self.reasons)
            and (not self.streams or letter.stream in self.streams)
            and (not self.stages or record["stage"] in self.stages)
            and (self.since_ms is None or record["source_timestamp"] >= self.since_ms)
            and (self.until_ms is None or record["source_timestamp"] < self.until_ms)
            and (not self.places or letter.place in self.places)
            and (self.replayed is None or (letter.replayed_at is not None) == self.replayed)
        )


def absent_reasons(selection: Selection, letters: Iterable[Letter]) -> str:
    """Say which reasons of a selection no dead letter has, which may have been meant, and which there are.

    Nothing where each has one, or where there are no dead letters to tell by.
    """
    there = Counter(letter.record["reason"] for letter in letters)
    absent = sorted(selection.reasons - set(there))
    if not absent or not there:
        return ""
    near = "".join(f" (did you mean {close[0]}?)" for one in absent if (close := get_close_matches(one, there, 1)))
    counts = ", ".join(f"{reason} ({count:,})" for reason, count in there.most_common())
    return f"no dead letter has the reason {', '.join(absent)}{near}; there are: {counts}"
