"""Tasks that some records crash, in every way there is; and how such a stage is made in a child process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.property.runner_tasks import APP, CountingTask, arguments
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage, StepContext, Task, TaskInputs

INPUT, OUTPUT, COPIES = f"{APP}-input", f"{APP}-output", f"{APP}-copies"
BOOM, SEGFAULT, KILLED, MEMORY, HANG = b"boom", b"segfault", b"killed", b"memory", b"hang"
# Ends the process without an exception, by the value.
Ends = Callable[[bytes], None]


def end_really(value: bytes) -> None:
    """What a child does: die of it."""
    if value == SEGFAULT:
        os.kill(os.getpid(), signal.SIGSEGV)
    if value == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    hoard = []
    while value == MEMORY:
        hoard.append(b"x" * (64 << 20))
    while value == HANG:
        time.sleep(1)


class Fragile(CountingTask):
    """Crashes on one value with an exception and on others without; may do so in a replay only."""

    def __init__(self, ends: Ends, partition: int, version: str = "1") -> None:
        super().__init__(APP, partition, BOOM, version)
        self._ends = ends

    def _fold(self, records: Records) -> list[bytes]:
        for value in records.values:
            if value == BOOM:
                raise ZeroDivisionError("poison")
            if value in (SEGFAULT, KILLED, MEMORY, HANG):
                self._ends(value)
        return super()._fold(records)


class Marking(Fragile):
    """Leaves the number of its process in a file each time that it is brought back."""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        with open(os.environ["RESTORES"], "a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        super().restore(entries)


class Threaded(Marking):
    """Has a thread of its own from its restore on, so that its process cannot be forked, as that of every stage with expressions.

    Says in a file how many records each step gives it.
    """

    def restore(self, entries: Sequence[StateEntry]) -> None:
        super().restore(entries)
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        with open(os.environ["RESTORES"] + ".handed", "a", encoding="ascii") as file:
            file.write(f"{sum(map(len, inputs))}\n")
        return super().process(inputs, context)


class LateThreaded(Marking):
    """Has a thread from its fortieth record on: a scout that has become the base cannot be forked any more."""

    def _fold(self, records: Records) -> list[bytes]:
        if self.position <= 40 < self.position + len(records):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super()._fold(records)


class Paired(Fragile):
    """Does not survive the second of a pair once it has taken the first, and remembers that in its state."""

    def _fold(self, records: Records) -> list[bytes]:
        said = []
        for row, value in enumerate(records.values):
            if value == b"second" and "first" in self.counts:
                if row % 2:
                    raise ZeroDivisionError("pair")
                self._ends(SEGFAULT)
            if value == b"first":
                self.counts["first"] = 1
                self.dirty.setdefault("first", int(records.offsets[row]))
            said += super()._fold(records[row : row + 1])
        return said


class Holding(Fragile):
    """Holds records back until one says go, and falls over them only then: the step that crashes does not hold the culprit."""

    def __init__(self, ends: Ends, partition: int) -> None:
        super().__init__(ends, partition)
        self._held: list[tuple[int, bytes, bytes]] = []
        self._next = 0

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        self._next = self.position

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        said: list[bytes] = []
        for records in inputs:
            for row, (offset, value) in enumerate(zip(records.offsets.tolist(), records.values, strict=True)):
                self._held.append((offset, records.keys[row] or b"", value or b""))
                self._next = offset + 1
                if value == b"go":
                    for held, key, content in self._held:
                        said += self._fold(
                            Records(INPUT, self.partition, records.offsets[:1] * 0 + held, records.timestamps_ms[:1], [key], [content])
                        )
                    self._held = []
        self.position = self._held[0][0] if self._held else self._next
        emissions = [Emission(OUTPUT, self.partition, [None] * len(said), said)] if said else []
        return Step(emissions, {TopicPartition(INPUT, self.partition): self.position}, Coverage(self.position, self.position))

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        return Checkpoint((), {TopicPartition(INPUT, self.partition): 0})


class ReadingAhead(Fragile):
    """Reads three records for each one that it is done with, and falls over what it reads: each time from a later position than before."""

    def __init__(self, ends: Ends, partition: int) -> None:
        super().__init__(ends, partition)
        self._read: list[Records] = []
        self._next = 0

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        self._next = self.position

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        for records in inputs:
            for row, value in enumerate(records.values):
                if value == BOOM:
                    raise ZeroDivisionError("poison")
                if value in (SEGFAULT, KILLED, MEMORY, HANG):
                    self._ends(value)
                self._read.append(
                    Records(INPUT, self.partition, records.offsets[row : row + 1], records.timestamps_ms[row : row + 1], [records.keys[row]], [value])
                )
                self._next = int(records.offsets[row]) + 1
        said = self._fold(self._read.pop(0)) if self._read else []
        self.position = int(self._read[0].offsets[0]) if self._read else self._next
        emissions = [Emission(OUTPUT, self.partition, [None] * len(said), said)] if said else []
        return Step(emissions, {TopicPartition(INPUT, self.partition): self.position}, Coverage(self.position, self.position))

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        return Checkpoint((), {TopicPartition(INPUT, self.partition): 0})


class Ticking(Fragile):
    """Crashes when it is called without input, as long as the world is bad."""

    bad = True

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        if not inputs and type(self).bad:
            raise ZeroDivisionError("tick")
        return super().process(inputs, context)


class Broken(Fragile):
    """Crashes whatever it is given, as long as the world is bad."""

    bad = True

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        if self.partition == 0 and type(self).bad:
            raise ZeroDivisionError("state")
        return super().process(inputs, context)


class Hoarding(Fragile):
    """Passes its inputs only once it has many, or when none come: until then a restart gives it everything again (as the archive does)."""

    def __init__(self, ends: Ends, partition: int) -> None:
        super().__init__(ends, partition)
        self._kept: list[bytes] = []
        self._told = 0

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)
        self._told = self.position

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        step = super().process(inputs, context)
        self._kept += [value for emission in step.emissions for value in emission.values if value is not None]
        here, kept = TopicPartition(INPUT, self.partition), self._kept
        if inputs and len(kept) < 150:
            return Step([], {here: self._told} if self._told else {}, Coverage(self._told, self._told))
        self._told, self._kept = self.position, []
        return Step([Emission(OUTPUT, self.partition, [None] * len(kept), kept)] if kept else [], step.positions, step.coverage)

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        return Checkpoint()


class Copying(Task):
    """A stage that follows the counting one in its process: copies what that says, and ends the process over one of its records."""

    def __init__(self, ends: Ends, partition: int) -> None:
        self.partition, self._ends, self._position = partition, ends, 0

    def restore(self, entries: Sequence[StateEntry]) -> None:
        assert not entries

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        self._position = positions.get(TopicPartition(OUTPUT, self.partition), 0)

    def replay(self, inputs: Sequence[Records]) -> None:
        """There is no state."""

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        copies: list[bytes | None] = []
        for records in inputs:
            if any((value or b"").endswith(b"@17") for value in records.values):
                self._ends(SEGFAULT)
            copies += records.values
            self._position = int(records.offsets[-1]) + 1
        here = TopicPartition(OUTPUT, self.partition)
        emissions = [Emission(COPIES, self.partition, [None] * len(copies), copies)] if copies else []
        return Step(emissions, {here: self._position} if self._position else {}, Coverage(self._position, self._position))

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        return Checkpoint((), {TopicPartition(OUTPUT, self.partition): self._position})

    def versions(self) -> Mapping[str, str]:
        return {"core": "1"}


def copying(ends: Ends) -> Stage:
    """The stage that follows."""
    return Stage("copying", TaskInputs((OUTPUT,), other_outputs=(COPIES,)), lambda partition: Copying(ends, partition))


def chain_in_child(max_batch: int, broker: Broker, folder: Path) -> Runner:
    """Both stages in a child."""
    chosen = RunnerSettings(state_folder=folder, max_batch=max_batch)
    return Runner(**arguments(APP, broker, settings=chosen, followers=[copying(end_really)]))


def made_in_child(kind: type[Fragile], partitions: int, max_batch: int, more: Mapping[str, Any], broker: Broker, folder: Path) -> Runner:
    """What a child goes through its rehearsals with; `more` are arguments of the task."""
    chosen = RunnerSettings(state_folder=folder, max_batch=max_batch)
    return Runner(**arguments(APP, broker, partitions, settings=chosen, task_factory=lambda partition: kind(end_really, partition, **more)))
