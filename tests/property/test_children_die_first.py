"""What ends a process without an exception ends child processes after that; with children of its own kind, as in a service."""

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patient
from tests.property.fragile_tasks import (
    BOOM,
    COPIES,
    HANG,
    INPUT,
    KILLED,
    MEMORY,
    OUTPUT,
    SEGFAULT,
    Fragile,
    Hoarding,
    Holding,
    chain_in_child,
    copying,
    end_really,
    made_in_child,
)
from tests.property.runner_tasks import APP, CountingTask, codec, expected, output
from tests.property.test_crash_searches import Machine, check, column, filled, read_all
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Records, StateEntry, Step, TopicPartition
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import StepContext


def machine_with_children(folder: Path, values: list[list[bytes]], kind: type[Fragile] = Fragile, **changes: Any) -> Machine:
    chosen = {"trial_memory_bytes": 1 << 30, **changes}
    machine = Machine(folder, filled(values), len(values), **chosen)
    machine.in_children = partial(made_in_child, kind, len(values), chosen.get("max_batch", 10_000), {})
    return machine


@pytest.mark.lasts(5)
def test_a_record_in_a_batch_of_ten_thousand_costs_two_processes_and_a_child_for_each_32nd(tmp_path: Path) -> None:
    values = [column({7_777: SEGFAULT}, 10_000)]
    machine = machine_with_children(tmp_path, values)
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths == 2


@pytest.mark.lasts(5)
@pytest.mark.parametrize("value", [MEMORY, HANG])
def test_lack_of_memory_and_a_hang_meet_the_limits_of_a_child(tmp_path: Path, value: bytes) -> None:
    values = [column({17: value}, 20)]
    machine = machine_with_children(tmp_path, values, trial_timeout_s=2)
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths == (1 if value == HANG else 2), "who ends a process for a hang leaves word of it"


@pytest.mark.lasts(10)
def test_several_in_one_batch_and_another_partition_cost_two_for_each_partition(tmp_path: Path) -> None:
    values = [column({3: SEGFAULT, 4: BOOM}, 20), column({19: KILLED}, 20)]
    machine = machine_with_children(tmp_path, values)
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths <= 4


@pytest.mark.lasts(10)
@pytest.mark.parametrize("kind", [Holding, Hoarding])
def test_a_record_that_was_held_back_is_found_by_children(tmp_path: Path, kind: type[Any]) -> None:
    values = [column({7: SEGFAULT, 11: b"go", 15: b"go"}, 16)]
    machine = machine_with_children(tmp_path, values, kind)
    machine.run(lambda partition: kind(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths == 2


@pytest.mark.lasts(10)
def test_a_record_that_another_version_does_not_survive_in_its_replay_is_found_by_children(tmp_path: Path) -> None:
    values = [column({5: SEGFAULT}, 8)]
    broker = filled(values)
    (tmp_path / "old").mkdir()
    old = Machine(tmp_path / "old", broker)
    old.run(lambda partition: CountingTask(APP, partition), read_all(old))
    broker.sink().publish(INPUT, b"a", b"more", 1, 0)
    (tmp_path / "new").mkdir()
    new = Machine(tmp_path / "new", broker)
    new.in_children = partial(made_in_child, Fragile, 1, 10_000, {"version": "2"})
    runner = new.run(lambda partition: Fragile(new.end, partition, "2"), read_all(new))
    assert list(runner.tasks[0].quarantined) == [(INPUT, 0, 5)]
    assert new.deaths == 2


@pytest.mark.lasts(5)
def test_a_stage_that_follows_in_the_same_process_is_tried_once_its_input_is_in_the_log(tmp_path: Path) -> None:
    """The record that it does not survive has no place in the log before the stage that writes it goes on alone."""
    values = [column({}, 40)]
    machine = machine_with_children(tmp_path, values)
    machine.broker.create_topics([TopicSpec(name) for name in (COPIES, f"{APP}-copying-progress", f"{APP}-copying-checkpoint")])
    machine.followers, machine.in_children = [copying(machine.end)], partial(chain_in_child, 10_000)
    keys = ["abc"[place % 3] for place in range(40)]

    def copied(runner: Runner) -> bool:
        return len(output(machine.broker, COPIES)) == 39

    machine.run(lambda partition: CountingTask(APP, partition), copied)
    assert output(machine.broker, OUTPUT) == expected(keys)
    assert output(machine.broker, COPIES) == [said for said in expected(keys) if not said.endswith(b"@17")]
    (letter,) = (codec("rejected").decode(value or b"") for value in output(machine.broker, f"{APP}-rejected"))
    assert (letter["source_topic"], letter["value"][-3:], letter["reason"]) == (OUTPUT, b"@17", "quarantined")
    assert machine.deaths == 2


class Idle(Fragile):
    """Ends the process when the task of partition 0 has no input, as long as the world is bad."""

    bad = True

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        if not inputs and self.partition == 0 and (type(self).bad if self._ends is not end_really else os.environ["WORLD"] == "bad"):
            self._ends(SEGFAULT)
        return super().process(inputs, context)


@pytest.mark.lasts(5)
def test_a_step_without_input_that_ends_the_process_is_tried_again_in_a_child_until_it_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.shared.runner.suspensions._FIRST_S", 0.1)
    monkeypatch.setenv("WORLD", "bad")
    Idle.bad = True
    values = [column({}, 20), column({}, 20)]
    machine = machine_with_children(tmp_path, values, Idle, max_batch=7)

    def answered(runner: Runner) -> bool:
        at = {p: one.progress.input_offsets.get(TopicPartition(INPUT, p)) for p, one in runner.tasks.items()}
        return at == {0: 20, 1: 20} and tried(runner) > 0

    def tried(runner: Runner) -> int:
        return max((one.suspended for link in runner._links for one in link.verdicts._crashes if one.muted), default=0)

    runner = machine.run(lambda partition: Idle(machine.end, partition), answered)
    deaths = machine.deaths
    while tried(runner) < 3:
        runner.step()
    Idle.bad = False
    monkeypatch.setenv("WORLD", "good")
    deadline = time.monotonic() + patient(60)
    while not read_all(machine)(runner):
        assert time.monotonic() < deadline
        runner.step()
    check(machine, values)
    assert machine.deaths == deaths <= 6, "after two deaths at one place children are tried, and nothing else any more"


class Relic(Fragile):
    """Faults natively when the task of partition 0 is brought back, as long as the world is bad: by its checkpoint, or by its last progress."""

    bad = True

    def _fault(self, where: str) -> None:
        if (
            self.partition == 0
            and os.environ["WHERE"] == where
            and (type(self).bad if self._ends is not end_really else os.environ["WORLD"] == "bad")
        ):
            self._ends(SEGFAULT)

    def restore(self, entries: Sequence[StateEntry]) -> None:
        self._fault("restore")
        super().restore(entries)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        self._fault("resume")
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)


@pytest.mark.lasts(5)
@pytest.mark.parametrize("where", ["restore", "resume"])
def test_a_native_fault_while_a_task_is_brought_back_sets_it_aside_and_blames_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The process dies of it twice, children after that; the other partition goes on, and with another world the task does as well."""
    monkeypatch.setattr("tidemill.shared.runner.suspensions._FIRST_S", 0.05)
    monkeypatch.setenv("WORLD", "bad")
    monkeypatch.setenv("WHERE", where)
    values = [column({}, 20), column({}, 20)]
    machine = machine_with_children(tmp_path, values, Relic)
    machine.run(lambda partition: CountingTask(APP, partition), read_all(machine))
    for partition in (0, 1):
        machine.broker.sink().publish(INPUT, b"c", b"20", 20, partition)
    values = [column({}, 21), column({}, 21)]
    Relic.bad = True
    runner = machine.run(
        lambda partition: Relic(machine.end, partition),
        lambda runner: 0 not in runner.tasks and 1 in runner.tasks and len(output(machine.broker, OUTPUT, 1)) == 21,
    )
    assert output(machine.broker, f"{APP}-rejected", 0) == [], "no record is blamed"
    deaths = machine.deaths
    Relic.bad = False
    monkeypatch.setenv("WORLD", "good")
    deadline = time.monotonic() + patient(60)
    while not read_all(machine)(runner):
        assert time.monotonic() < deadline
        runner.step()
    check(machine, values)
    assert machine.deaths == deaths == 2
