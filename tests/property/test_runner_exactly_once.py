"""Kill the runner at every transactional call and start it again: the outputs are those of a run without a kill."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.property.runner_tasks import APP, STAGE, DyingBroker, Killed, arguments, expected, output, topics
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner

INPUT, OUTPUT = f"{APP}-input", f"{APP}-output"


def quick(folder: Path, **changes: Any) -> RunnerSettings:
    defaults: dict[str, Any] = {"commit_interval_ms": 1, "idle_interval_ms": 1, "checkpoint_interval_ms": 0, "checkpoint_bytes": 10}
    return RunnerSettings(**{**defaults, "max_batch": 3, "backoff_initial_ms": 0, "state_folder": folder, **changes})


def filled(keys: list[str], partitions: int = 1) -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topics(topics(APP, partitions))
    for place, key in enumerate(keys):
        broker.sink().publish(INPUT, key.encode(), b"%d" % place, place, place % partitions)
    return broker


def finish(runner: Runner, broker: MemoryBroker, partitions: int = 1) -> None:
    for _ in range(500):
        runner.step()
        done = {number: running.progress.input_offsets.get(TopicPartition(INPUT, number), 0) for number, running in runner.tasks.items()}
        if done and all(done[number] >= broker.log(TopicPartition(INPUT, number)).end for number in done):
            return
    raise AssertionError("not finished after 500 steps")


KEYS = ["a", "b", "a", "c", "a", "b", "d", "a", "c", "e", "a"]


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_at_every_call_once(tmp_path: Path, after: bool) -> None:
    survived = 0
    for lives in range(1, 200):
        broker = filled(KEYS)
        runner = Runner(**arguments(APP, DyingBroker(broker, lives, after), settings=quick(tmp_path)))
        try:
            finish(runner, broker)
            survived = lives
            break
        except Killed:
            finish(Runner(**arguments(APP, broker, settings=quick(tmp_path))), broker)
        assert output(broker, OUTPUT) == expected(KEYS), f"killed at call {lives}"
    assert survived > 20


@pytest.mark.lasts(5)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30),
    kills=st.lists(st.tuples(st.integers(1, 25), st.booleans()), max_size=6),
    batch=st.integers(1, 8),
    interval_ms=st.sampled_from([0, 10_000]),
)
def test_killed_again_and_again(tmp_path: Path, keys: list[str], kills: list[tuple[int, bool]], batch: int, interval_ms: int) -> None:
    broker = filled(keys)
    chosen = quick(tmp_path, max_batch=batch, checkpoint_interval_ms=interval_ms)
    for lives, after in kills:
        try:
            finish(Runner(**arguments(APP, DyingBroker(broker, lives, after), settings=chosen)), broker)
        except Killed:
            continue
    finish(runner := Runner(**arguments(APP, broker, settings=chosen)), broker)
    assert output(broker, OUTPUT) == expected(keys)
    progress = runner.tasks[0].progress
    assert progress.outputs == {OUTPUT: len(keys)}
    assert runner.tasks[0].task.counts == {key: keys.count(key) for key in keys}  # type: ignore[attr-defined]  # a CountingTask
    # The group's offsets and the progress record tell the same story.
    group = broker.group(f"{APP}-{STAGE}").committed
    assert group == {TopicPartition(INPUT, 0): progress.input_offsets[TopicPartition(INPUT, 0)]}


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(st.sampled_from("abcdef"), min_size=8, max_size=40),
    moves=st.lists(st.tuples(st.sampled_from(["join", "kill", "step", "stall"]), st.integers(0, 2)), max_size=25),
)
def test_instances_come_and_go(tmp_path: Path, keys: list[str], moves: list[tuple[str, int]]) -> None:
    partitions = 4
    broker = filled(keys, partitions)
    members: dict[int, Runner] = {}
    at_work: set[int] = set()
    zombies: list[Runner] = []

    def start(name: int) -> None:
        members[name] = Runner(**arguments(APP, broker, partitions, instance=str(name), settings=quick(tmp_path)))

    start(0)
    for move, name in moves:
        if move == "join" and name not in members:
            start(name)
        elif move == "kill" and len(members) > 1 and name in members:
            killed = members.pop(name)
            if name in at_work:  # one that never stepped has not joined yet: later it would be an honest new member
                zombies.append(killed)
            at_work.discard(name)
            broker.expire_member(f"{APP}-{STAGE}", str(name))
            broker.expire_transactions()
        elif move == "step" and name in members:
            members[name].step()
            at_work.add(name)
        elif move == "stall" and zombies:
            with pytest.raises(Exception, match=r"."):
                for _ in range(3):
                    zombies[-1].step()
            zombies.pop()
    shares = [keys[number::partitions] for number in range(partitions)]
    for _ in range(300):
        for member in members.values():
            member.step()
        if all(len(output(broker, OUTPUT, number)) >= len(share) for number, share in enumerate(shares)):
            break
    for member in members.values():
        member.step()  # and nothing more comes
    for number, share in enumerate(shares):
        assert output(broker, OUTPUT, number) == expected(share)


def test_without_change_there_is_no_transaction(tmp_path: Path) -> None:
    broker = filled(KEYS)
    finish(runner := Runner(**arguments(APP, broker, settings=quick(tmp_path))), broker)
    for _ in range(10):
        runner.step()
    end = broker.log(TopicPartition(f"{APP}-{STAGE}-progress", 0)).end
    assert not any(runner.step() for _ in range(20))
    assert broker.log(TopicPartition(f"{APP}-{STAGE}-progress", 0)).end == end


def test_restore_reads_the_checkpoint_and_little_else(tmp_path: Path) -> None:
    keys = ["a", "b", "c"] * 100
    broker = filled(keys)
    finish(runner := Runner(**arguments(APP, broker, settings=quick(tmp_path, max_batch=50, checkpoint_bytes=1000))), broker)
    for _ in range(3):
        runner.step()
    broker.sink().publish(INPUT, b"a", b"", 1, 0)
    finish(again := Runner(**arguments(APP, broker, settings=quick(tmp_path))), broker)
    assert again.tasks[0].task.replayed == 0  # type: ignore[attr-defined]  # a CountingTask
    assert output(broker, OUTPUT) == expected([*keys, "a"])
