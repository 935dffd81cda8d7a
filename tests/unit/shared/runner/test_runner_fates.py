"""What errors lead to: retry, crash, search and quarantine, or a loud stop; nothing half done is ever visible."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from tests.property.runner_tasks import APP, STAGE, CountingTask, arguments, codec, expected, output
from tests.unit.shared.runner.runners import HERE, INPUT, OUTPUT, REJECTED, filled, quick, steps
from tidemill.shared.log.broker import OffsetLostError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, Records, StateEntry, Step
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.progress_check import PositionsDisagreeError
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.running_task import UndeclaredOutputError
from tidemill.shared.runner.task import StepContext, TaskInputs


class Troubled(CountingTask):
    """Fails in `process` or `committed` as often as it is told, all incarnations counted."""

    process_failures = 0
    commit_failures = 0

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        step = super().process(inputs, context)
        if inputs and type(self).process_failures:
            type(self).process_failures -= 1
            raise TransientError("registry away")
        return step

    def committed(self) -> None:
        if type(self).commit_failures:
            type(self).commit_failures -= 1
            raise TransientError("redis away")
        super().committed()


@pytest.fixture(autouse=True)
def calm() -> None:
    Troubled.process_failures = Troubled.commit_failures = 0


def test_a_transient_error_is_retried_from_the_log(tmp_path: Path) -> None:
    Troubled.process_failures = 3
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda partition: Troubled(APP, partition))))
    assert Troubled.process_failures == 0
    assert output(broker, OUTPUT) == expected("abcab")


class FailingClients:
    """A broker whose clients fail now and then, each call as often as it is told; what a call does is done afterwards or not at all."""

    def __init__(self, broker: MemoryBroker, **failures: int) -> None:
        self.broker, self.failures = broker, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.broker, name)

    def transactional_sink(self, transactional_id: str) -> Any:
        return FailingClient(self.broker.transactional_sink(transactional_id), self)

    def source(self, group: str, instance: str) -> Any:
        return FailingClient(self.broker.source(group, instance), self)

    def reader(self) -> Any:
        return FailingClient(self.broker.reader(), self)


class FailingClient:
    def __init__(self, client: Any, broker: FailingClients) -> None:
        self._client, self._broker = client, broker

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)

        def call(*given: Any) -> Any:
            if self._broker.failures.get(name, 0) > 0:
                self._broker.failures[name] -= 1
                raise TransientError(f"{name}: coordinator away")
            return attribute(*given)

        return call if callable(attribute) else attribute


@pytest.mark.parametrize("call", ["open", "subscribe", "begin", "produce", "send_offsets", "commit", "committed", "read", "consume", "assign"])
@pytest.mark.parametrize("aborts", [0, 1, 3])
def test_a_transient_error_of_any_client_call_is_retried_also_when_the_abort_after_it_fails_too(tmp_path: Path, call: str, aborts: int) -> None:
    broker = filled("abcab")
    failing: Any = FailingClients(broker, **{call: 2, "abort": aborts})
    runner = steps(Runner(**arguments(APP, failing, settings=quick(tmp_path))), 30)
    assert failing.failures == {call: 0, "abort": 0}
    assert output(broker, OUTPUT) == expected("abcab")
    runner.leave()


def test_an_abort_that_fails_while_a_culprit_is_looked_for_ends_no_process(tmp_path: Path) -> None:
    broker = filled("abcab", [2])
    failing: Any = FailingClients(broker)
    make = lambda partition: CountingTask(APP, partition, b"poison")  # noqa: E731
    with pytest.raises(ZeroDivisionError):
        steps(Runner(**arguments(APP, failing, settings=quick(tmp_path), task_factory=make)))
    failing.failures["abort"] = 4
    steps(Runner(**arguments(APP, failing, settings=quick(tmp_path), task_factory=make)), 60)
    assert failing.failures["abort"] == 0
    assert output(broker, OUTPUT) == expected("abcab", [2])


@pytest.mark.parametrize("end", ["leave", "close"])
def test_an_abort_that_fails_at_the_end_keeps_nobody_from_giving_the_partitions_back(tmp_path: Path, end: str) -> None:
    broker = filled("abcab")
    failing: Any = FailingClients(broker)
    runner = steps(Runner(**arguments(APP, failing, settings=quick(tmp_path))))
    failing.failures["close"] = 1
    getattr(runner, end)()
    assert bool(broker.group(f"{APP}-{STAGE}").members) == (end == "close")


class Flagging(Troubled):
    """Notices something of every record it is given; its first steps come to nothing."""

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        return replace(super().process(inputs, context), flagged={("orders", "non_finite"): sum(map(len, inputs))})


def test_what_was_noticed_is_counted_when_it_is_committed_and_not_when_a_step_is_tried_again(tmp_path: Path) -> None:
    Troubled.process_failures = 3
    registry = CollectorRegistry()
    broker, metrics = filled("abcab"), Metrics(STAGE, registry)
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda p: Flagging(APP, p)), metrics=metrics))
    assert registry.get_sample_value("tidemill_flagged_total", {"stage": STAGE, "stream": "orders", "what": "non_finite"}) == 5


def test_a_transient_error_that_stays_ends_the_process(tmp_path: Path) -> None:
    Troubled.process_failures = 1000
    runner = Runner(**arguments(APP, filled("abc"), settings=quick(tmp_path, retries=4), task_factory=lambda partition: Troubled(APP, partition)))
    with pytest.raises(RuntimeError, match="after 4 retries: registry away"):
        steps(runner, 50)


def test_external_writes_are_retried_before_the_next_step(tmp_path: Path) -> None:
    Troubled.commit_failures = 4
    broker = filled("abcab")
    runner = steps(Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda partition: Troubled(APP, partition))), 4)
    assert (Troubled.commit_failures, output(broker, OUTPUT)) == (2, expected("abcab"))
    broker.sink().publish(INPUT, b"z", b"", 1, 0)
    steps(runner, 2)
    assert len(output(broker, OUTPUT)) == 5
    steps(runner)
    assert output(broker, OUTPUT) == expected("abcabz")


def test_a_crash_undoes_what_the_step_had_written_of_other_partitions(tmp_path: Path) -> None:
    """The healthy partition is written before the sick one crashes, again and again, while the culprit is looked for in the same process."""
    broker, count = filled("ab" * 20, [21], partitions=2), 20

    def runner() -> Runner:
        chosen = quick(tmp_path, max_batch=16, retries=0)
        return Runner(**arguments(APP, broker, 2, settings=chosen, task_factory=lambda p: CountingTask(APP, p, b"poison")))

    with pytest.raises(ZeroDivisionError):
        steps(runner())
    looking = runner()
    for _ in range(40):
        broker.sink().publish(INPUT, b"a", b"", 0, 0)
        count += 1
        looking.step()
    assert output(broker, OUTPUT, 0) == expected("a" * count)
    assert output(broker, OUTPUT, 1) == expected("b" * 20, [10])


def test_a_client_that_does_not_close_keeps_nobody_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.shared.runner.stage_clients._CLOSING_S", 0.2)
    runner = Runner(**arguments(APP, filled("abc", [1]), settings=quick(tmp_path), task_factory=lambda p: CountingTask(APP, p, b"poison")))
    forever = threading.Event()
    monkeypatch.setattr(runner._source, "close", forever.wait)
    with pytest.raises(ZeroDivisionError) as caught:
        runner.run(threading.Event())
    assert "did not close" in caught.value.__notes__[-1]
    forever.set()


def test_a_request_to_stop_cuts_a_restore_short(tmp_path: Path) -> None:
    stop = threading.Event()
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path, checkpoint_interval_ms=10**9))))

    class Long(CountingTask):
        def restore(self, entries: Sequence[StateEntry]) -> None:
            super().restore(entries)
            stop.set()

        def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
            raise AssertionError("it was asked to stop before")

    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda partition: Long(APP, partition)))
    runner.run(stop)
    assert not runner.tasks and output(broker, OUTPUT) == expected("abcab")


def crash_until_it_runs(broker: MemoryBroker, folder: Path, **changes: Any) -> tuple[int, Runner]:
    crashes = 0
    while True:
        runner = Runner(
            **arguments(APP, broker, task_factory=lambda partition: CountingTask(APP, partition, b"poison"), settings=quick(folder, **changes))
        )
        try:
            return crashes, steps(runner, 80)
        except ZeroDivisionError:
            crashes += 1
            assert crashes < 20


@pytest.mark.parametrize("poison", [[0], [4], [9], [3, 4], [0, 9]])
def test_the_culprit_is_quarantined_after_three_crashes_of_which_one_ends_the_process(tmp_path: Path, poison: list[int]) -> None:
    keys = "abcabcabca"
    broker = filled(keys, poison)
    crashes, runner = crash_until_it_runs(broker, tmp_path)
    assert crashes == 1
    assert output(broker, OUTPUT) == expected(keys, without=poison)
    letters = [codec("rejected").decode(value or b"") for value in output(broker, REJECTED)]
    assert [(letter["source_topic"], letter["source_offset"], letter["reason"], letter["value"]) for letter in letters] == [
        (INPUT, offset, "quarantined", b"poison") for offset in poison
    ]
    assert "ZeroDivisionError: poison" in letters[0]["detail"]
    assert runner.tasks[0].progress.quarantined == {(INPUT, 0, offset) for offset in poison}
    assert runner.tasks[0].progress.outputs == {OUTPUT: 10 - len(poison), REJECTED: len(poison)}
    assert [path.suffix for path in tmp_path.iterdir()] == [".note"]


def test_a_quarantine_is_obeyed_by_replay(tmp_path: Path) -> None:
    broker = filled("abcabc", [2])
    crash_until_it_runs(broker, tmp_path, checkpoint_interval_ms=1 << 40)
    # Another version rebuilds from the very beginning, the culprit included.
    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda partition: CountingTask(APP, partition, b"poison", "2")))
    steps(runner)
    task: Any = runner.tasks[0].task
    assert task.counts == {"a": 2, "b": 2, "c": 1}
    assert task.skips == [2]


def test_other_versions_rebuild_from_the_input(tmp_path: Path) -> None:
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path, checkpoint_interval_ms=0))))
    runner = Runner(**arguments(APP, broker, settings=quick(tmp_path), task_factory=lambda partition: CountingTask(APP, partition, version="2")))
    steps(runner)
    task: Any = runner.tasks[0].task
    assert (task.replayed, task.counts) == (5, {"a": 2, "b": 2, "c": 1})
    assert output(broker, OUTPUT) == expected("abcab")
    assert runner.tasks[0].progress.versions == {"core": "2"}


def test_positions_that_disagree_stop_loudly(tmp_path: Path) -> None:
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    committed = broker.group(f"{APP}-{STAGE}").committed
    committed[HERE] = 6
    with pytest.raises(PositionsDisagreeError, match=f"'{INPUT}:0': 5"):
        steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))


@pytest.mark.parametrize("moved", [0, 3])
def test_older_offsets_of_the_group_are_those_of_the_progress_record_and_committed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, moved: int
) -> None:
    """A coordinator that had just loaded its log knew those of minutes before; who took the task over committed them again, and all of them ended."""
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    broker.group(f"{APP}-{STAGE}").committed[HERE] = moved
    health, numbers = ProcessHealth(), CollectorRegistry()
    again = steps(Runner(**arguments(APP, broker, settings=quick(tmp_path), health=health, metrics=Metrics(STAGE, numbers))))
    assert "older than the progress record's" in caplog.text
    assert numbers.get_sample_value("tidemill_offsets_recovered_total", {"stage": STAGE, "topic": INPUT}) == 1
    assert health.troubles
    broker.sink().publish(INPUT, b"z", b"", 1, 0)
    steps(again)
    assert output(broker, OUTPUT) == expected("abcabz"), "nothing is read again, and nothing left out"
    assert broker.group(f"{APP}-{STAGE}").committed == {HERE: 6}
    assert not health.troubles


@pytest.mark.parametrize("torn", ["the offsets alone", "the outputs and the offsets"])
def test_a_torn_transaction_is_found_at_the_next_start(tmp_path: Path, torn: str) -> None:
    """A stale request may end a transaction in the middle: without the progress record, nobody knows what the step has done."""
    broker = filled("abcab")
    runner = steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    for key in "cab":
        broker.sink().publish(INPUT, key.encode(), b"x", 9, 0)
    sink = broker.transactional_sink(f"{APP}-{STAGE}-0")
    sink.open()
    sink.begin()
    if "outputs" in torn:
        sink.produce(Emission(OUTPUT, 0, [None] * 3, [b"c=2@5", b"a=3@6", b"b=3@7"]))
    sink.send_offsets({HERE: 8}, runner._source.membership())
    sink.commit()
    message = rf"committed {{'{INPUT}:0': 8}}, but the progress record says {{'{INPUT}:0': 5}}.*Restore the group's offsets"
    before = output(broker, OUTPUT)
    with pytest.raises(PositionsDisagreeError, match=message):
        steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    assert output(broker, OUTPUT) == before, "nothing is written on top of it"


def test_offsets_of_the_group_that_are_gone_are_taken_from_the_progress_record_and_committed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = filled("abcab")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    broker.group(f"{APP}-{STAGE}").committed.clear()
    health, numbers = ProcessHealth(), CollectorRegistry()
    again = steps(Runner(**arguments(APP, broker, settings=quick(tmp_path), health=health, metrics=Metrics(STAGE, numbers))))
    assert "offsets are gone" in caplog.text
    assert numbers.get_sample_value("tidemill_offsets_recovered_total", {"stage": STAGE, "topic": INPUT}) == 1
    assert health.troubles == {f"offset of {INPUT}:0": f"the group {APP}-{STAGE} had lost it; 5 is taken from the progress record"}
    broker.sink().publish(INPUT, b"z", b"", 1, 0)
    steps(again)
    assert output(broker, OUTPUT) == expected("abcabz")
    assert broker.group(f"{APP}-{STAGE}").committed == {HERE: 6}
    assert not health.troubles


@pytest.mark.parametrize(("low", "end", "why"), [(4, 5, "deleted records"), (0, 2, "cut off or created anew")])
def test_a_log_that_does_not_hold_the_position_is_noticed_at_the_restore(tmp_path: Path, low: int, end: int, why: str) -> None:
    broker = filled("abc")
    steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))
    log = broker.log(HERE)
    if low:
        log.append(np.zeros(end - log.end, np.int64), [b"k"] * (end - log.end), [b""] * (end - log.end), None)
        log.delete_before(low)
    else:
        log.cut_off(end)
    with pytest.raises(OffsetLostError, match=rf"{INPUT}:0: .*wants offset 3, the log holds \[{low}, {end}\).*{why}.*bring the records back"):
        steps(Runner(**arguments(APP, broker, settings=quick(tmp_path))))


def test_a_step_that_writes_to_a_topic_its_stage_has_not_declared_ends_the_process(tmp_path: Path) -> None:
    broker = filled("ab")
    runner = Runner(**arguments(APP, broker, inputs=TaskInputs((INPUT,), sole_outputs=(f"{APP}-reference",)), settings=quick(tmp_path)))
    for _ in range(4):
        with pytest.raises(UndeclaredOutputError, match=rf"stage {STAGE}: expected records for {APP}-reference .* its step writes to {OUTPUT}"):
            steps(runner)
        runner.close()
        runner = Runner(**arguments(APP, broker, inputs=TaskInputs((INPUT,), sole_outputs=(f"{APP}-reference",)), settings=quick(tmp_path)))
    assert not output(broker, OUTPUT) and not output(broker, REJECTED), "no record is set aside for it"
