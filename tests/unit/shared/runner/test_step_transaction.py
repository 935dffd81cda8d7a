"""When a step is written: as it goes on, or at its end; and what goes out with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.runner.chain import Work
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.running_task import StepOutcome
from tidemill.shared.runner.step_transaction import StepTransaction

INPUT = TopicPartition("input", 0)


class RecordingSink:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def produce(self, emission: Emission) -> None:
        self.calls.append(emission.topic)

    def send_offsets(self, offsets: Mapping[TopicPartition, int], membership: object) -> None:
        self.calls.append(f"offsets {list(offsets.values())} of {membership}")

    def commit(self) -> Mapping[TopicPartition, int]:
        self.calls.append("commit")
        return {INPUT: 7}


def work(stage: int, changed: bool, offsets: Mapping[TopicPartition, int] | None = None) -> Work:
    output, record = (Emission(f"{name}{stage}", 0, [b""], [b""]) for name in ("out", "log"))
    outcome = StepOutcome([output], Progress(f"stage{stage}", 0), changed, dict(offsets or {}), record, 1, 0)
    running: Any = None
    return Work(stage, running, [], outcome)


def transaction(sink: Any, leads: int, eager: bool) -> StepTransaction:
    def known(changed: Sequence[Work]) -> Mapping[TopicPartition, int]:
        return {INPUT: 3}

    return StepTransaction(sink, lambda: "me", leads, known, eager)


def test_an_eager_one_writes_each_work_at_once_and_the_offsets_behind_the_last_lead() -> None:
    sink = RecordingSink()
    step = transaction(sink, 2, eager=True)
    step.add(work(0, True, {INPUT: 5}), lead=True)
    step.add(work(1, True), lead=False)
    assert sink.calls == ["begin", "out0", "log0", "out1", "log1"]
    step.add(work(0, True, {TopicPartition("input", 1): 6}), lead=True)
    assert sink.calls[5:] == ["out0", "log0", "offsets [5, 6] of me"]
    step.add(work(1, True), lead=False)
    assert step.commit() == {INPUT: 7}
    assert sink.calls[8:] == ["out1", "log1", "commit"]


def test_one_that_waits_writes_nothing_before_the_commit() -> None:
    sink = RecordingSink()
    step = transaction(sink, 1, eager=False)
    step.add(work(0, True, {INPUT: 5}), lead=True)
    step.add(work(1, True), lead=False)
    assert not sink.calls
    step.commit()
    assert sink.calls == ["begin", "out0", "log0", "out1", "log1", "offsets [5] of me", "commit"]


@pytest.mark.parametrize("eager", [False, True])
def test_without_new_offsets_one_that_is_known_goes_out_for_the_generations_sake(eager: bool) -> None:
    sink = RecordingSink()
    step = transaction(sink, 1, eager)
    step.add(work(0, False), lead=True)
    assert not sink.calls
    step.add(work(1, True), lead=False)
    step.commit()
    assert sink.calls == ["begin", "out1", "log1", "offsets [3] of me", "commit"]


@pytest.mark.parametrize("eager", [False, True])
def test_what_changes_nothing_is_not_written(eager: bool) -> None:
    sink = RecordingSink()
    step = transaction(sink, 1, eager)
    step.add(work(0, False), lead=True)
    step.add(work(1, False), lead=False)
    assert not step.changed
    assert not sink.calls
