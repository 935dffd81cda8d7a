"""The search for what crashes a stage that follows others: what it is told of their progress says nothing of the records that it fell over."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.property.fragile_tasks import BOOM, COPIES, OUTPUT, SEGFAULT, Ends, Fragile
from tests.property.runner_tasks import APP, codec, output
from tests.property.test_crash_searches import SUPERVISOR_LIMIT, Machine, filled, read_all
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Checkpoint, Coverage, Emission, Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage, StepContext, Task, TaskInputs

MIDDLE, LAST, ANSWERS = "delaying", "answering", f"{APP}-answers"
PROGRESS = f"{APP}-{MIDDLE}-progress"


class Stateless(Task):
    """Remembers a position only."""

    def __init__(self, partition: int, topic: str) -> None:
        self.place, self._position, self._steps = TopicPartition(topic, partition), 0, 0

    def restore(self, entries: Sequence[StateEntry]) -> None:
        assert not entries

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        self._position, self._steps = positions.get(self.place, 0), coverage_offset

    def replay(self, inputs: Sequence[Records]) -> None:
        """There is no state."""

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        return Checkpoint((), {self.place: self._position})

    def versions(self) -> Mapping[str, str]:
        return {"core": "1"}

    def read(self, inputs: Sequence[Records]) -> list[tuple[int, bytes]]:
        return [
            (offset, value)
            for records in inputs
            if records.topic == self.place.topic
            for offset, value in zip(records.offsets.tolist(), records.values, strict=True)
            if value is not None
        ]

    def says(self, topic: str, values: Sequence[bytes | None], covered: int) -> Step:
        emissions = [Emission(topic, self.place.partition, [None] * len(values), values)] if values else []
        return Step(emissions, {self.place: self._position} if self._position else {}, Coverage(covered, covered))


class Delaying(Stateless):
    """Copies each record when the next one comes: after each restore it is given the last one again, and says that it has come further."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition, OUTPUT)
        self._held: list[tuple[int, bytes]] = []

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        self._held += self.read(inputs)
        done, self._held = self._held[:-1], self._held[-1:]
        self._position = self._held[0][0] if self._held else 0
        self._steps += bool(inputs)
        return self.says(COPIES, [value for _, value in done], self._steps)


class Answering(Stateless):
    """Answers copies, and crashes over one of them."""

    def __init__(self, ends: Ends, partition: int, poison: bytes) -> None:
        super().__init__(partition, COPIES)
        self._ends, self._poison = ends, poison

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        copies = self.read(inputs)
        if any(value.endswith(b"@17") for _, value in copies):
            if self._poison == BOOM:
                raise ZeroDivisionError("poison")
            self._ends(self._poison)
        self._position = max([self._position, *(offset + 1 for offset, _ in copies)])
        return self.says(ANSWERS, [value for _, value in copies], self._position)


def followers(ends: Ends, poison: bytes) -> list[Stage]:
    return [
        Stage(MIDDLE, TaskInputs((OUTPUT,), other_outputs=(COPIES,)), Delaying),
        Stage(LAST, TaskInputs((COPIES, PROGRESS), other_outputs=(ANSWERS,)), lambda partition: Answering(ends, partition, poison)),
    ]


@pytest.mark.parametrize("poison", [BOOM, SEGFAULT], ids=["exception", "no exception"])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_culprit_is_found_whose_stage_is_told_of_progress_while_it_waits(tmp_path: Path, batch: int, poison: bytes) -> None:
    machine = Machine(tmp_path, filled([[b"%d" % place for place in range(40)]]), max_batch=batch)
    names = ["copies", "answers", *(f"{stage}-{kind}" for stage in (MIDDLE, LAST) for kind in ("progress", "checkpoint"))]
    machine.broker.create_topics([TopicSpec(f"{APP}-{name}", 1) for name in names])
    machine.followers = followers(machine.end, poison)
    machine.most_steps = 600

    def answered(runner: Runner) -> bool:
        return read_all(machine)(runner) and len(output(machine.broker, ANSWERS)) == 38

    machine.run(lambda partition: Fragile(machine.end, partition), answered)
    said = output(machine.broker, OUTPUT)
    assert len(said) == 40 and output(machine.broker, ANSWERS) == [value for value in said[:-1] if not (value or b"").endswith(b"@17")]
    letters = [codec("rejected").decode(value or b"") for value in output(machine.broker, f"{APP}-rejected")]
    assert [(letter["source_topic"], letter["reason"]) for letter in letters] == [(COPIES, "quarantined")]
    assert machine.deaths <= (1 if poison == BOOM else 6) and machine.most_stuck <= SUPERVISOR_LIMIT
