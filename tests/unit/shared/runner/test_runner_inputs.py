"""Which task is given what, and when a runner is ready."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.patience import until
from tests.property.runner_tasks import APP, STAGE, CountingTask, arguments, expected, output, topics
from tests.unit.shared.runner.runners import HERE, INPUT, OUTPUT, filled, quick, steps
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Coverage, Emission, Records, Step, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.stage_topics import TopicMismatchError
from tidemill.shared.runner.task import StepContext, TaskInputs
from tidemill.shared.runner.topic_growth import TopicGrownError

REFERENCE = f"{APP}-reference"


def test_missing_topics_and_unequal_partitions_are_refused_before_the_first_record(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with pytest.raises(TopicMismatchError, match="there is no topic shop-input, shop-counting-progress"):
        Runner(**arguments(APP, broker))
    broker.create_topics(topics(APP, 1))
    broker.create_topics([TopicSpec("shop-wide", 3)])
    with pytest.raises(TopicMismatchError, match="expected 1 partitions everywhere, but shop-wide has 3"):
        Runner(**arguments(APP, broker, inputs=TaskInputs((INPUT, "shop-wide"))))


@pytest.mark.parametrize("grown", [INPUT, "shop-other"])
def test_partitions_that_are_added_while_a_stage_works_are_told_and_not_left_unread(tmp_path: Path, grown: str) -> None:
    """Nobody read them, or the stage waited for its own topics there."""
    broker = filled("ab")
    broker.create_topics([TopicSpec("shop-other")])
    inputs = TaskInputs((INPUT, "shop-other"), sole_outputs=(OUTPUT,))
    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path), inputs=inputs))
    steps(runner)
    broker.add_partitions(grown, 2)
    with pytest.raises(TopicMismatchError, match=rf"somebody has added {grown}:1 while the stage works; the application has 1 partitions"):
        steps(runner)
    runner.close()
    with pytest.raises(TopicMismatchError, match=f"expected 1 partitions everywhere, but {grown} has 2"):
        Runner(**arguments(APP, broker, settings=quick(tmp_path), inputs=inputs))


def test_readiness_follows_the_assignment(tmp_path: Path) -> None:
    broker = filled("ab")
    health = ProcessHealth()
    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path), health=health))
    assert not health.ready
    steps(runner)
    assert health.ready
    runner.close()
    assert not health.ready


class Watching(CountingTask):
    """Also reads a broadcast topic."""

    heard: list[bytes | None]

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        self.heard = getattr(self, "heard", [])
        mine = [records for records in inputs if records.topic == INPUT]
        step = super().process(mine, context)
        ends = {}
        for records in inputs:
            if records.topic != INPUT:
                self.heard.extend(records.values)
                ends[TopicPartition(records.topic, records.partition)] = int(records.offsets[-1]) + 1
        return Step(step.emissions, {**step.positions, **ends}, step.coverage)

    def replay(self, inputs: Sequence[Records]) -> None:
        super().replay([records for records in inputs if records.topic == INPUT])
        self.heard = [value for records in inputs if records.topic != INPUT for value in records.values]


def test_every_task_hears_every_broadcast_record_once(tmp_path: Path) -> None:
    broker = MemoryBroker()
    broker.create_topics(topics(APP, 3))
    changes: dict[str, Any] = {
        "inputs": TaskInputs((INPUT,), (f"{APP}-reference",), other_outputs=(OUTPUT,)),
        "task_factory": lambda partition: Watching(APP, partition),
        "settings": quick(tmp_path),
    }
    said = [b"%d" % number for number in range(30)]
    for number, value in enumerate(said):
        broker.sink().publish(f"{APP}-reference", None, value, number, number % 3)
    runner = steps(Runner(**arguments(APP, broker, 3, **changes)))
    for running in runner.tasks.values():
        task: Any = running.task
        assert sorted(task.heard) == sorted(said)
    broker.sink().publish(f"{APP}-reference", None, b"last", 1, 0)
    again = steps(Runner(**arguments(APP, broker, 3, **changes)))
    for running in again.tasks.values():
        task = running.task
        assert sorted(task.heard) == sorted([*said, b"last"])
    assert HERE not in broker.group(f"{APP}-{STAGE}").committed


def test_partitions_added_to_a_broadcast_topic_end_the_stage_and_are_read_by_the_next(tmp_path: Path) -> None:
    """Nobody read them until somebody started the stage again for another reason, in silence."""
    broker = filled("ab")
    changes: dict[str, Any] = {
        "inputs": TaskInputs((INPUT,), (REFERENCE,), other_outputs=(OUTPUT,)),
        "task_factory": lambda partition: Watching(APP, partition),
        "settings": quick(tmp_path, topic_check_ms=1),
    }
    count = broker.partitions(REFERENCE)
    runner = steps(Runner(**arguments(APP, broker, **changes)))
    broker.add_partitions(REFERENCE, count + 1)
    broker.sink().publish(REFERENCE, None, b"new", 1, count)
    with pytest.raises(TopicGrownError, match=rf"somebody has added {REFERENCE}:{count} while the stage works"):
        until(lambda: not steps(runner), "the stage ends")
    runner.close()
    task: Any = steps(Runner(**arguments(APP, broker, **changes))).tasks[0].task
    assert task.heard == [b"new"]


class Following(Watching):
    """Notes for every step which topics it is given."""

    given: list[str]

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        self.given = [*getattr(self, "given", []), *(records.topic for records in inputs)]
        return super().process(inputs, context)


def reading_first(broker: MemoryBroker, folder: Path, partitions: int = 1) -> Runner:
    reference = f"{APP}-reference"
    changes: dict[str, Any] = {
        "inputs": TaskInputs((INPUT,), (reference,), read_first=(reference,), other_outputs=(OUTPUT,)),
        "task_factory": lambda partition: Following(APP, partition),
        "settings": quick(folder, max_batch=4),
    }
    return Runner(**arguments(APP, broker, partitions, **changes))


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_read_first_is_read_to_the_end_it_had_before_anything_else(tmp_path: Path, partitions: int) -> None:
    """Of several steps, with what transactions leave behind at the end of the log: markers, aborted records, and one that is open."""
    broker, said = MemoryBroker(), [b"%d" % number for number in range(6)]
    broker.create_topics(topics(APP, partitions))
    for number in range(30):
        broker.sink().publish(INPUT, b"k", b"", 1, number % partitions)
    sink = broker.transactional_sink("aborts")
    sink.open()
    for value in said:
        sink.begin()
        sink.produce(Emission(f"{APP}-reference", 0, [None], [value]))
        sink.commit()
    sink.begin()
    sink.produce(Emission(f"{APP}-reference", 0, [None], [b"aborted"]))
    sink.abort()
    sink.begin()
    sink.produce(Emission(f"{APP}-reference", 0, [None], [b"open"]))
    runner = steps(reading_first(broker, tmp_path, partitions), 30)
    for running in runner.tasks.values():
        task: Any = running.task
        first = task.given.index(INPUT)
        assert set(task.given[:first]) == {f"{APP}-reference"}
        assert set(task.given[first:]) == {INPUT}, "no transaction that does not end holds it up"
        assert task.heard == said
    sink.commit()
    steps(runner, 10)
    assert [running.task.heard for running in runner.tasks.values()] == [[*said, b"open"]] * partitions  # type: ignore[attr-defined]  # of Watching
    assert sum(len(output(broker, OUTPUT, number)) for number in range(partitions)) == 30
    # And again, where it goes on: what came meanwhile is heard before what came with it.
    runner.close()
    for number in range(9):
        broker.sink().publish(INPUT, b"k", b"", 1, number % partitions)
        broker.sink().publish(f"{APP}-reference", None, b"late", 1, 0)
    again = steps(reading_first(broker, tmp_path, partitions), 30)
    for running in again.tasks.values():
        task = running.task
        assert task.heard == [*said, b"open", *[b"late"] * 9]
        assert f"{APP}-reference" not in task.given[task.given.index(INPUT) :]
    assert sum(len(output(broker, OUTPUT, number)) for number in range(partitions)) == 39


def test_a_topic_that_is_read_first_and_holds_nothing_holds_nothing_up(tmp_path: Path) -> None:
    broker = filled("abc")
    steps(reading_first(broker, tmp_path))
    assert output(broker, OUTPUT) == expected("abc")


def test_a_gathered_stage_has_one_task_for_all_partitions(tmp_path: Path) -> None:
    class Gathering(CountingTask):
        def __init__(self) -> None:
            super().__init__(APP, 0)
            self.ends: dict[TopicPartition, int] = {}

        def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
            for records in inputs:
                self.ends[TopicPartition(records.topic, records.partition)] = int(records.offsets[-1]) + 1
                self._fold(records)
            return Step([], dict(self.ends), super().process([], context).coverage)

    broker = MemoryBroker()
    broker.create_topics(topics(APP, 3))
    for number in range(9):
        broker.sink().publish(INPUT, b"k", b"", 1, number % 3)
    changes: dict[str, Any] = {
        "inputs": TaskInputs((INPUT,), gathered=True, other_outputs=(OUTPUT,)),
        "task_factory": lambda _: Gathering(),
        "settings": quick(tmp_path),
    }
    first = Runner(**arguments(APP, broker, 1, **changes))
    second = Runner(**arguments(APP, broker, 1, **changes, instance="1"))
    for _ in range(20):
        first.step()
        second.step()
    assert (sorted(first.tasks), sorted(second.tasks)) == ([0], [])
    assert broker.group(f"{APP}-{STAGE}").committed == {TopicPartition(INPUT, number): 3 for number in range(3)}


class Hoarder(CountingTask):
    """Writes nothing before its process stops and there is no more to read."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(APP, 0)
        self._stop = stop
        self.held: list[Records] = []

    @property
    def buffered(self) -> int:
        return sum(map(len, self.held))

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        self.held += inputs
        if inputs:
            self._stop.set()
        if context.stopping and not inputs:
            written, self.held = self.held, []
            return super().process(written, context)
        return Step([], {HERE: self.position}, Coverage(0, self.position - 1))


def test_a_task_that_buffers_reads_on_to_the_end_and_writes_all_before_its_process_stops(tmp_path: Path) -> None:
    broker, stop = filled("abcab"), threading.Event()
    task = Hoarder(stop)
    Runner(**arguments(APP, broker, settings=quick(tmp_path, max_batch=1), task_factory=lambda partition: task)).run(stop)
    assert task.buffered == 0
    assert output(broker, OUTPUT) == expected("abcab")
