"""What a process was doing when it died without a word: a few bytes in shared memory that outlive it."""

import faulthandler
import logging
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import Span

log = logging.getLogger(__name__)
_SIZE = 16_384
_HEAD, _COUNT, _SHORT = struct.Struct("<8sQI"), struct.Struct("<Q"), struct.Struct("<I")
_MAGIC = b"tidemil1"
_ADVANCES, _LENGTH = 8, 16
# The last byte says whether the process was ended for a hang.
_CAUSE = _SIZE - 1
_ROOM = _CAUSE - _HEAD.size
_HUNG = "a hang"
_TRACE = 4_000


@dataclass(frozen=True, slots=True)
class Death:
    """The step in which a process died.

    Attributes
    ----------
    stage, partition
        The task, by the stage's place in the chain.
    sequence
        Commits of the task when the step began: once it has made more, the step is behind it.
    restoring
        True when the task was being brought back from the log.
    step
        Its input records.
    held
        Of a task that held records back: last offset per input that earlier steps had given it.
    cause
        What ended the process, where that is known: a native fault, or a hang. None may have been a kill from outside.
    """

    stage: int
    partition: int
    sequence: int
    restoring: bool
    step: Span
    held: dict[str, int]
    cause: str | None = None


class DeathNote:
    """Says before each call into a task what it is about to process, and takes it back afterwards.

    Written through a memory map, so it costs microseconds and no call to the kernel, and outlives SIGKILL and SIGSEGV (not a crash of
    the machine, which no record causes). Nothing in it is a promise: a note that cannot be read or made says nothing, and searches
    then begin with exceptions only.

    Parameters
    ----------
    path
        The file, one for each process; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._map: mmap.mmap | None = None
        self._faults = path.with_suffix(".fault")
        self._fault_file: TextIO | None = None
        self.death: Death | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                os.ftruncate(file, _SIZE)
                self._map = mmap.mmap(file, _SIZE)
            finally:
                os.close(file)
        except OSError as problem:
            log.error("no note can be kept of what may end this process", extra={"path": str(path), "error": str(problem)})
            return
        magic, _, length = _HEAD.unpack_from(self._map)
        if magic != _MAGIC:
            _HEAD.pack_into(self._map, 0, _MAGIC, 0, 0)
        elif length:
            cause = _HUNG if self._map[_CAUSE] else _first_line(self._faults)
            self.death = _parsed(self._map[_HEAD.size : _HEAD.size + min(length, _ROOM)], cause)
            self.done()
        self._map[_CAUSE] = 0

    def watch_faults(self) -> None:
        """Have the interpreter write a native fault down, for the next process; once, for the whole process."""
        if _first_line(self._faults) is not None:
            trace = self._faults.read_text(encoding="utf-8", errors="replace")[:_TRACE]
            log.error("the process before ended by a native fault", extra={"trace": trace})
        try:
            self._fault_file = self._faults.open("w", encoding="utf-8")
        except OSError as problem:
            log.error("native faults cannot be written down", extra={"path": str(self._faults), "error": str(problem)})
            return
        faulthandler.enable(self._fault_file)

    def hangs(self) -> None:
        """Note, from another thread, that the process is about to be ended because the step does not come back."""
        if self._map is not None:
            self._map[_CAUSE] = 1

    def begin(
        self,
        stage: int,
        partition: int,
        sequence: int,
        inputs: Sequence[Records] = (),
        held: Mapping[TopicPartition, int] | None = None,
        restoring: bool = False,
    ) -> None:
        """Note the step that begins; offsets that do not fit are left out.

        Parameters
        ----------
        held
            Of a task that holds records back: last offset it was given per input.
        """
        if self._map is None:
            return
        runs = "|".join([f"{run.topic}:{run.partition}:{run.offsets[0]}:{run.offsets[-1]}" for run in inputs if len(run)])
        before = "|".join([f"{topic}:{number}:{last}" for (topic, number), last in held.items()]) if held else ""
        text = f"{stage} {partition} {sequence} {restoring:d} {sum(map(len, inputs))} {runs} {before}".encode()[:_ROOM]
        self._map[_HEAD.size : _HEAD.size + len(text)] = text
        _SHORT.pack_into(self._map, _LENGTH, len(text))

    def done(self) -> None:
        """Take the note back: the step is over, well or with an exception."""
        if self._map is not None:
            _SHORT.pack_into(self._map, _LENGTH, 0)

    def advanced(self) -> None:
        """Leave for the supervisor that something was committed, or that a search has come further."""
        if self._map is not None:
            _COUNT.pack_into(self._map, _ADVANCES, _COUNT.unpack_from(self._map, _ADVANCES)[0] + 1)


def advances(path: Path) -> int:
    """How often processes have come further (a commit, a search narrowed), as they left it in a note; 0 when there is none."""
    try:
        with path.open("rb") as file:
            magic, count, _ = _HEAD.unpack(file.read(_HEAD.size))
    except (OSError, struct.error):
        return 0
    return int(count) if magic == _MAGIC else 0


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] or None
    except OSError:
        return None


def _parsed(text: bytes, cause: str | None) -> Death | None:
    try:
        stage, partition, sequence, restoring, records, runs, held = text.decode().split(" ", 6)
        step = Span(int(records), *_spans(runs))
        return Death(int(stage), int(partition), int(sequence), restoring == "1", step, _ends(held), cause)
    except (UnicodeDecodeError, ValueError):
        return None


def _spans(text: str) -> tuple[dict[str, int], dict[str, int]]:
    parts = [run.rsplit(":", 2) for run in text.split("|") if run.count(":") >= 3]
    return {name: int(first) for name, first, _ in reversed(parts)}, {name: int(last) for name, _, last in parts}


def _ends(text: str) -> dict[str, int]:
    return {name: int(offset) for name, _, offset in (run.rpartition(":") for run in text.split("|") if run.count(":") >= 2)}
