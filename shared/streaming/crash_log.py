"""Counts crashes at one place across restarts, in a small file."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.streaming.records import TopicPartition


@dataclass(frozen=True, slots=True)
class Crash:
    """A place (a task and the positions it stood at), how often it crashed there, and what it had been given.

    Attributes
    ----------
    records
        Input records of the step that crashed last.
    ends
        Last offset of that step per input, by ``topic:partition``.
    """

    partition: int
    place: dict[str, int]
    count: int
    records: int
    ends: dict[str, int]
    error: str


class CrashLog:
    """The last crash of one instance. Removed when the place has been passed.

    Parameters
    ----------
    path
        The file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._crash = self._load()

    @property
    def last(self) -> Crash | None:
        """The crash that has not been passed yet."""
        return self._crash

    def record(self, partition: int, place: Mapping[TopicPartition, int], records: int, ends: Mapping[TopicPartition, int], error: str) -> Crash:
        """Write down a crash and count it."""
        text = _text(place)
        again = self._crash is not None and (self._crash.partition, self._crash.place) == (partition, text)
        count = self._crash.count + 1 if again and self._crash is not None else 1
        self._crash = Crash(partition, text, count, records, _text(ends), error)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self._crash)), encoding="utf-8")
        os.replace(draft, self._path)
        return self._crash

    def clear(self) -> None:
        """Forget the crash: its place has been passed."""
        if self._crash is not None:
            self._crash = None
            self._path.unlink(missing_ok=True)

    def stands_at(self, partition: int, place: Mapping[TopicPartition, int]) -> Crash | None:
        """Return the crash if it happened to this task at this very place."""
        crash = self._crash
        return crash if crash is not None and (crash.partition, crash.place) == (partition, _text(place)) else None

    def _load(self) -> Crash | None:
        if not self._path.exists():
            return None
        try:
            return Crash(**json.loads(self._path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as problem:
            raise ValueError(f"{self._path}: not written by this program ({problem}); remove the file to start counting anew") from problem


def _text(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    return {f"{topic}:{partition}": int(offset) for (topic, partition), offset in sorted(offsets.items())}
