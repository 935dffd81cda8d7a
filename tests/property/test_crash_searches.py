"""Whatever crashes a task, wherever and however it ends the process: the culprit is set aside, everything else is answered, and few processes end."""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.patience import patient
from tests.property.fragile_tasks import BOOM, HANG, KILLED, MEMORY, SEGFAULT, Broken, Fragile, Hoarding, Holding, ReadingAhead, Ticking
from tests.property.runner_tasks import APP, CountingTask, DyingBroker, Killed, arguments, codec, expected, output, topics
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import StateEntry, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.death_note import advances
from tidemill.shared.runner.offer import MakeStage
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage

INPUT, OUTPUT, REJECTED = f"{APP}-input", f"{APP}-output", f"{APP}-rejected"
# A supervisor gives a service up that ends more often than this without having come further.
SUPERVISOR_LIMIT = 6


class Machine:
    """Runs processes one after the other on one disk, each in a thread; one that dies without an exception stands still there for ever."""

    def __init__(self, folder: Path, broker: MemoryBroker, partitions: int = 1, **changes: Any) -> None:
        self.folder, self.broker, self.partitions = folder, broker, partitions
        self._changes = changes
        self._ends: queue.SimpleQueue[Runner | BaseException | None] = queue.SimpleQueue()
        self.deaths = self.stuck = self.most_stuck = 0
        self._advances = 0
        self.in_children: MakeStage | None = None
        self._runner: Runner | None = None
        self.followers: Sequence[Stage] = ()
        self.most_steps = 3_000

    def end(self, value: bytes) -> None:
        """End the process without an exception that it could catch."""
        if value == HANG and self._runner is not None:
            # As the guard does that ends a process which hangs.
            self._runner.note_hang()
        self._ends.put(None)
        threading.Event().wait()

    def run(
        self,
        make: Callable[[int], Any],
        done: Callable[[Runner], bool],
        lives: Sequence[tuple[int, bool]] = (),
        limit: int = 200,
        unsteady: int = 0,
    ) -> Runner:
        """Start processes until one has done everything; the first ones are killed at a call to the broker."""
        killed = list(lives)
        for _ in range(limit):
            broker: Any = DyingBroker(self.broker, *killed.pop(0)) if killed else Unsteady(self.broker, unsteady) if unsteady else self.broker
            threading.Thread(target=self._live, args=(broker, make, done), daemon=True).start()
            end = self._ends.get(timeout=patient(120))
            if isinstance(end, Runner):
                return end
            if not isinstance(end, (ZeroDivisionError, Killed, type(None))):
                raise end
            self.deaths += 1
            further = max((advances(path) for path in self.folder.glob("*.note")), default=0)
            self.stuck = self.stuck + 1 if further == self._advances else 1
            self._advances = further
            self.most_stuck = max(self.most_stuck, self.stuck)
        raise AssertionError(f"still crashing after {self.deaths} processes")

    def _live(self, broker: Any, make: Callable[[int], Any], done: Callable[[Runner], bool]) -> None:
        quick: dict[str, Any] = {"commit_interval_ms": 1, "idle_interval_ms": 1, "backoff_initial_ms": 0, "state_folder": self.folder}
        chosen = RunnerSettings(**{**quick, **self._changes})
        try:
            runner = Runner(**arguments(APP, broker, self.partitions, settings=chosen, task_factory=make, followers=self.followers))
            self._runner = runner
            if self.in_children is not None:
                runner.use_children(self.in_children, ("tidemill.shared.service.loaded_once",))
            for _ in range(self.most_steps):
                runner.step()
                if done(runner):
                    self._ends.put(runner)
                    return
            raise AssertionError(f"neither done nor dead after {self.most_steps:,} steps")
        except BaseException as problem:
            self._ends.put(problem)


def filled(values: Sequence[Sequence[bytes]]) -> MemoryBroker:
    """One input partition for each sequence of values; keys are a, b, c, ... in turn."""
    broker = MemoryBroker()
    broker.create_topics(topics(APP, len(values)))
    for partition, column in enumerate(values):
        for place, value in enumerate(column):
            broker.sink().publish(INPUT, b"abc"[place % 3 : place % 3 + 1], value, place, partition)
    return broker


def read_all(machine: Machine) -> Callable[[Runner], bool]:
    def done(runner: Runner) -> bool:
        ends = {number: machine.broker.log(TopicPartition(INPUT, number)).end for number in range(machine.partitions)}
        at = {number: running.progress.input_offsets.get(TopicPartition(INPUT, number), 0) for number, running in runner.tasks.items()}
        return at == ends and not any(path.name.endswith(".json") for path in machine.folder.iterdir())

    return done


def check(machine: Machine, values: Sequence[Sequence[bytes]]) -> None:
    """Everything but the poison is answered, and the poison is a dead letter, once."""
    for partition, column in enumerate(values):
        poison = [place for place, value in enumerate(column) if value in (BOOM, SEGFAULT, KILLED, MEMORY, HANG)]
        keys = ["abc"[place % 3] for place in range(len(column))]
        assert output(machine.broker, OUTPUT, partition) == expected(keys, without=poison)
        letters = [codec("rejected").decode(value or b"") for value in output(machine.broker, REJECTED, partition)]
        assert sorted(letter["source_offset"] for letter in letters) == poison
        assert all(letter["reason"] == "quarantined" and letter["source_topic"] == INPUT for letter in letters)


PLACES = st.dictionaries(st.integers(0, 39), st.sampled_from([BOOM, SEGFAULT]), max_size=5)


def column(poison: Mapping[int, bytes], length: int = 40) -> list[bytes]:
    return [poison.get(place, b"%d" % place) for place in range(length)]


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    poisons=st.lists(PLACES, min_size=1, max_size=3),
    batch=st.sampled_from([1, 3, 16, 10_000]),
    lives=st.lists(st.tuples(st.integers(3, 60), st.booleans()), max_size=3),
)
def test_any_poison_in_any_partition_whoever_kills_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, poisons: list[dict[int, bytes]], batch: int, lives: list[tuple[int, bool]]
) -> None:
    values = [column(poison) for poison in poisons]
    machine = Machine(tmp_path_factory.mktemp("state"), filled(values), len(values), max_batch=batch)
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine), lives)
    check(machine, values)
    assert machine.most_stuck <= SUPERVISOR_LIMIT


@pytest.mark.parametrize("places", [(None, 7), (7, 7), (0, 0), (100, 100), (7, 300)])
def test_exceptions_in_two_partitions_cost_one_process(tmp_path: Path, places: tuple[int | None, int]) -> None:
    values = [column({} if place is None else {place: BOOM}, 400) for place in places]
    machine = Machine(tmp_path, filled(values), 2)
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths == 1


def test_a_record_that_kills_the_process_costs_six_of_them_in_a_batch_of_ten_thousand(tmp_path: Path) -> None:
    values = [column({7_777: SEGFAULT}, 10_000)]
    machine = Machine(tmp_path, filled(values))
    machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths <= SUPERVISOR_LIMIT


def test_any_number_of_poisons_costs_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [column(dict.fromkeys(range(50, 74, 2), BOOM), 90)]
    machine = Machine(tmp_path, filled(values))
    monkeypatch.setattr("tidemill.shared.runner.quarantine.NEWEST", 5)
    runner = machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.deaths == 1
    # All of them are known to the next process; the progress record repeats the newest only.
    machine.broker.sink().publish(INPUT, b"a", b"more", 1, 0)
    again = machine.run(lambda partition: Fragile(machine.end, partition), read_all(machine))
    assert len(again.tasks[0].quarantined) == 12 and len(runner.tasks[0].progress.quarantined) == 5


@pytest.mark.parametrize("value", [BOOM, SEGFAULT])
def test_a_record_that_another_version_cannot_replay_is_set_aside(tmp_path: Path, value: bytes) -> None:
    """The version before took it; the new one rebuilds its state from the log and falls over it."""
    values = [column({21: value})]
    broker = filled(values)
    old = Machine(tmp_path / "old", broker)
    (tmp_path / "old").mkdir()
    old.run(lambda partition: CountingTask(APP, partition), read_all(old))
    (tmp_path / "new").mkdir()
    new = Machine(tmp_path / "new", broker)
    broker.sink().publish(INPUT, b"a", b"more", 1, 0)
    runner = new.run(lambda partition: Fragile(new.end, partition, "2"), read_all(new))
    assert list(runner.tasks[0].quarantined) == [(INPUT, 0, 21)]
    assert new.most_stuck <= SUPERVISOR_LIMIT
    task: Any = runner.tasks[0].task
    assert task.counts == {"a": 14, "b": 13, "c": 13}


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    poison=st.dictionaries(st.sampled_from([0, 5, 7, 13, 25, 31, 38]), st.sampled_from([BOOM, SEGFAULT]), min_size=1, max_size=3),
    batch=st.sampled_from([1, 7, 10_000]),
)
def test_a_record_that_was_held_back_is_found(tmp_path_factory: pytest.TempPathFactory, poison: dict[int, bytes], batch: int) -> None:
    values = [column({**dict.fromkeys([9, 19, 29, 39], b"go"), **poison})]
    machine = Machine(tmp_path_factory.mktemp("state"), filled(values), max_batch=batch)
    machine.run(lambda partition: Holding(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.most_stuck <= SUPERVISOR_LIMIT


@pytest.mark.parametrize("poison", [BOOM, SEGFAULT])
def test_a_culprit_that_is_met_from_another_position_each_time_is_found_as_soon(
    tmp_path: Path, poison: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    values = [column({31: poison})]
    machine = Machine(tmp_path, filled(values), max_batch=3, crash_limit=3)
    machine.run(lambda partition: ReadingAhead(machine.end, partition), read_all(machine))
    check(machine, values)
    # Three to begin the search, one for each size of step on the way to a single record.
    assert len([one for one in caplog.records if one.getMessage() in ("task crashed", "the process before died in this task")]) <= 5


class Unrestorable(Fragile):
    """Cannot be brought back in partition 0, as long as the world is bad."""

    bad, where = True, ""

    def _trouble(self, where: str) -> None:
        if self.partition == 0 and type(self).bad and where == type(self).where:
            raise ZeroDivisionError("state")

    def restore(self, entries: Sequence[StateEntry]) -> None:
        self._trouble("restore")
        super().restore(entries)

    def resume(self, positions: Mapping[TopicPartition, int], outputs: Mapping[str, int], coverage_offset: int, coverage_time_ms: int) -> None:
        self._trouble("resume")
        super().resume(positions, outputs, coverage_offset, coverage_time_ms)


@pytest.mark.parametrize("where", ["restore", "resume"])
@pytest.mark.parametrize("before", [False, True], ids=["at its first start", "with state"])
def test_a_task_that_cannot_be_brought_back_is_set_aside_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, before: bool
) -> None:
    monkeypatch.setattr("tidemill.shared.runner.suspensions._FIRST_S", 0.01)
    values = [column({}), column({})]
    machine = Machine(tmp_path, filled(values), 2)
    if before:
        machine.run(lambda partition: CountingTask(APP, partition), read_all(machine))
        for partition in (0, 1):
            machine.broker.sink().publish(INPUT, b"b", b"40", 40, partition)
        values = [column({}, 41), column({}, 41)]
    Unrestorable.bad, Unrestorable.where = True, where
    runner = machine.run(
        lambda partition: Unrestorable(machine.end, partition),
        lambda runner: 0 not in runner.tasks and 1 in runner.tasks and len(output(machine.broker, OUTPUT, 1)) == len(values[1]),
    )
    assert output(machine.broker, REJECTED, 0) == [], "no record is blamed"
    Unrestorable.bad = False
    deadline = time.monotonic() + patient(30)
    while not read_all(machine)(runner):
        assert time.monotonic() < deadline
        runner.step()
    check(machine, values)
    assert machine.deaths == 1


class Unsteady:
    """A broker whose log cannot be read every now and then."""

    def __init__(self, broker: MemoryBroker, seed: int) -> None:
        self.broker, self.chance = broker, random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)

    def reader(self) -> Any:
        reader, unsteady = self.broker.reader(), self

        class Reader:
            watermarks, close = staticmethod(reader.watermarks), staticmethod(reader.close)

            def read(self, place: TopicPartition, begin: int, end: int | None = None) -> Any:
                if place.topic == INPUT and unsteady.chance.random() < 0.4:
                    raise TransientError("the leader moves")
                return reader.read(place, begin, end)

        return Reader()


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_log_that_cannot_be_read_during_a_trial_blames_nobody(tmp_path: Path, seed: int) -> None:
    values = [column({19: b"go", 39: b"go", 7: BOOM})]
    machine = Machine(tmp_path, filled(values), max_batch=7, retries=1_000)
    machine.run(lambda partition: Holding(machine.end, partition), read_all(machine), unsteady=seed)
    check(machine, values)


def test_a_crash_without_input_stops_nothing_else(tmp_path: Path) -> None:
    values = [column({}), column({})]
    machine = Machine(tmp_path, filled(values), 2, max_batch=7)
    Ticking.bad = True

    def answered(runner: Runner) -> bool:
        return len(runner.tasks) == 2 and all(one.progress.input_offsets.get(TopicPartition(INPUT, p)) == 40 for p, one in runner.tasks.items())

    machine.run(lambda partition: Ticking(machine.end, partition), answered)
    check(machine, values)
    assert machine.deaths <= 1


def test_a_task_that_crashes_whatever_it_is_given_is_set_aside_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.runner.suspensions._FIRST_S", 0.01)
    values = [column({}), column({})]
    machine = Machine(tmp_path, filled(values), 2)
    Broken.bad = True
    there = TopicPartition(INPUT, 1)

    def other_done(runner: Runner) -> bool:
        one = runner.tasks.get(1)
        return one is not None and one.progress.input_offsets.get(there) == 40 and 0 not in runner.tasks

    runner = machine.run(lambda partition: Broken(machine.end, partition), other_done)
    assert output(machine.broker, OUTPUT, 1) == expected(["abc"[place % 3] for place in range(40)])
    assert output(machine.broker, REJECTED, 0) == [], "no record is blamed"
    Broken.bad = False
    for _ in range(3_000):
        runner.step()
        if read_all(machine)(runner):
            break
    check(machine, values)
    assert machine.deaths == 1


@pytest.mark.parametrize("poison", [BOOM, SEGFAULT], ids=["exception", "no exception"])
def test_a_search_ends_that_reads_everything_again_after_each_crash(tmp_path: Path, poison: bytes) -> None:
    """Steps that grow before they are where the last crash was would meet the culprit in company every time, for ever."""
    values = [column({120: poison, 121: poison}, 140)]
    machine = Machine(tmp_path, filled(values), max_batch=40)
    machine.run(lambda partition: Hoarding(machine.end, partition), read_all(machine))
    check(machine, values)
    assert machine.most_stuck < SUPERVISOR_LIMIT
