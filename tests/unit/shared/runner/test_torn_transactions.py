"""A transaction of which Kafka has committed a part only is found at the next start, whichever part is gone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.property.runner_tasks import APP, SCHEMAS, STAGE, CountingTask, arguments, expected, output, topics
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.records import Checkpoint, Emission, StateEntry, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.log import COMMITTED, Transaction
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.progress_check import PositionsDisagreeError
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import TaskInputs
from tidemill.shared.runner.written import TornTransactionError

INPUT, OUTPUT, REJECTED = f"{APP}-input", f"{APP}-output", f"{APP}-rejected"
PROGRESS, CHECKPOINT = f"{APP}-{STAGE}-progress", f"{APP}-{STAGE}-checkpoint"


class TearingBroker(MemoryBroker):
    """Commits the next transactions without what they have written to some topics (or, by name, ``offsets``), while `lost` holds any."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()
        self.keeps = 0
        self.create_topics([*topics(APP, 1), TopicSpec("shop-other")])

    def finish(self, transaction: Transaction, state: str) -> None:
        if state == COMMITTED and "offsets" in self.lost:
            transaction.offsets.clear()
        if state == COMMITTED:
            for place in transaction.partitions:
                if place.topic in self.lost:
                    log = self.log(place)
                    torn = [replace(run, records=run.records[: self.keeps]) if run.transaction is transaction else run for run in log._runs]
                    log._keep([run for run in torn if len(run.records)])
        super().finish(transaction, state)

    def publish(self, keys: str, poison: str = "") -> None:
        for key in keys:
            self.sink().publish(INPUT, key.encode(), b"poison" if key in poison else b"x", 9, 0)


def start(
    broker: MemoryBroker, folder: Path, make: Callable[[], CountingTask] = lambda: CountingTask(APP, 0), sole: bool = True, **changes: Any
) -> Runner:
    settings = {"commit_interval_ms": 1, "idle_interval_ms": 1, "checkpoint_interval_ms": 0, "state_folder": folder, **changes}
    inputs = TaskInputs((INPUT,), sole_outputs=(OUTPUT,) if sole else (), other_outputs=() if sole else (OUTPUT,))
    runner = Runner(**arguments(APP, broker, settings=RunnerSettings(**settings), inputs=inputs, task_factory=lambda _: make()))
    for _ in range(6):
        runner.step()
    return runner


@pytest.fixture
def torn(tmp_path: Path) -> Callable[..., TearingBroker]:
    """Two transactions, and a third that loses a part."""

    def tear(*lost: str, keeps: int = 0) -> TearingBroker:
        broker = TearingBroker()
        broker.publish("ab")
        runner = start(broker, tmp_path)
        broker.publish("cab")
        runner.step()
        broker.publish("aac")
        broker.lost, broker.keeps = set(lost), keeps
        runner.step()
        broker.lost = set()
        return broker

    return tear


@pytest.mark.parametrize(
    ("lost", "keeps", "says"),
    [
        ([OUTPUT], 0, rf"progress record 3 tells of, found {OUTPUT}:0: of the 3 from offset \d+ on 3 are not there"),
        ([OUTPUT], 1, rf"found {OUTPUT}:0: of the 3 from offset \d+ on 2 are not there"),
        ([CHECKPOINT], 0, rf"found {CHECKPOINT}:0: of the 2 from offset \d+ on 2 are not there"),
        ([OUTPUT, CHECKPOINT], 0, rf"found {CHECKPOINT}:0: of the 2 .*; {OUTPUT}:0: of the 3 "),
        ([OUTPUT, "offsets"], 0, rf"progress record 3 tells of, found {OUTPUT}:0: of the 3 from offset \d+ on 3 are not there"),
        ([CHECKPOINT, "offsets"], 0, rf"found {CHECKPOINT}:0: of the 2 from offset \d+ on 2 are not there"),
        ([PROGRESS, "offsets"], 0, rf"progress record 2 tells of, found {OUTPUT}:0: 3 more than the 3 from offset \d+ on"),
        ([PROGRESS, "offsets", CHECKPOINT], 0, rf"{OUTPUT}:0: 3 more than the 3"),
    ],
)
def test_outputs_and_state_that_are_not_what_the_record_says_stop_the_next_start(
    torn: Callable[..., TearingBroker], tmp_path: Path, lost: list[str], keeps: int, says: str
) -> None:
    broker = torn(*lost, keeps=keeps)
    before = output(broker, OUTPUT)
    with pytest.raises(TornTransactionError, match=f"{says}.*find out why, then start with TIDEMILL_RUNNER__ACCEPT_TORN="):
        start(broker, tmp_path)
    assert output(broker, OUTPUT) == before, "nothing is written on top of it"


@pytest.mark.parametrize("lost", [[PROGRESS], [OUTPUT, PROGRESS]])
def test_a_record_and_offsets_of_two_transactions_stop_the_next_start(torn: Callable[..., TearingBroker], tmp_path: Path, lost: list[str]) -> None:
    broker = torn(*lost)
    with pytest.raises(PositionsDisagreeError, match="the group has committed"):
        start(broker, tmp_path)


def test_a_transaction_that_lost_its_offsets_alone_lost_nothing(torn: Callable[..., TearingBroker], tmp_path: Path) -> None:
    broker = torn("offsets")
    start(broker, tmp_path)
    assert output(broker, OUTPUT) == expected("abcabaac")


def test_a_transaction_that_was_lost_as_a_whole_is_none(torn: Callable[..., TearingBroker], tmp_path: Path) -> None:
    broker = torn(OUTPUT, CHECKPOINT, PROGRESS, "offsets")
    start(broker, tmp_path)
    assert output(broker, OUTPUT) == expected("abcabaac")


def test_who_accepts_the_loss_goes_on_from_it_and_is_asked_again_for_the_next_one(torn: Callable[..., TearingBroker], tmp_path: Path) -> None:
    broker = torn(OUTPUT)
    with pytest.raises(TornTransactionError):
        start(broker, tmp_path, accept_torn=(f"{STAGE}:0:2",))
    runner = start(broker, tmp_path, accept_torn=(f"{STAGE}:0:3",))
    broker.publish("b")
    runner.step()
    start(broker, tmp_path)
    assert output(broker, OUTPUT) == [said for said in expected("abcabaacb") if said[-1:] not in b"567"]


def test_others_may_write_between_and_behind_where_the_place_is_shared(tmp_path: Path) -> None:
    broker = TearingBroker()
    broker.publish("ap", poison="p")
    for _ in range(4):
        try:
            runner = start(broker, tmp_path, lambda: CountingTask(APP, 0, poison=b"poison"))
        except ZeroDivisionError:
            continue
    broker.sink().publish(REJECTED, b"k", b"of another stage")
    start(broker, tmp_path, lambda: CountingTask(APP, 0, poison=b"poison"))
    assert len(output(broker, REJECTED)) == 2
    assert TopicPartition(REJECTED, 0) in runner.tasks[0].progress.written


@pytest.mark.parametrize("change", ["retention", "compaction"])
def test_what_retention_and_compaction_take_away_is_not_missed(tmp_path: Path, change: str) -> None:
    broker = TearingBroker()
    broker.publish("abaab")
    start(broker, tmp_path)
    if change == "retention":
        for topic in (OUTPUT, CHECKPOINT):
            broker.delete_records(TopicPartition(topic, 0), 1 << 40)
    else:
        broker.compact(CHECKPOINT)
    start(broker, tmp_path)
    assert len(output(broker, OUTPUT)) == (0 if change == "retention" else 5)


class DeletingTask(CountingTask):
    """Deletes state: the checkpoint of a step with key d holds that of key a as a deletion, and nothing else."""

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        deletes = "d" in self.dirty
        checkpoint = super().checkpoint(budget_bytes)
        return Checkpoint([StateEntry(b"a", None)], checkpoint.marker) if deletes else checkpoint


def test_state_that_a_later_transaction_deleted_is_not_missed(tmp_path: Path) -> None:
    broker = TearingBroker()
    broker.publish("ab")
    runner = start(broker, tmp_path, lambda: DeletingTask(APP, 0))
    assert TopicPartition(CHECKPOINT, 0) in runner.tasks[0].progress.written
    broker.publish("d")
    runner.step()
    broker.compact(CHECKPOINT)
    start(broker, tmp_path, lambda: DeletingTask(APP, 0))
    assert len(output(broker, OUTPUT)) == 3


@pytest.mark.parametrize("sole", [True, False])
def test_an_output_that_was_cut_off_is_missed_unless_others_write_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture, sole: bool) -> None:
    broker = TearingBroker()
    broker.publish("ab")
    runner = start(broker, tmp_path, sole=sole)
    broker.publish("c")
    runner.step()
    broker.log(TopicPartition(OUTPUT, 0)).cut_off(0)
    if sole:
        with pytest.raises(TornTransactionError, match=r"of the 1 from offset 3 on 1 are not there \(the log ends at 0\)"):
            start(broker, tmp_path)
    else:
        start(broker, tmp_path, sole=False)
        assert "cut off or created anew" in caplog.text


def test_who_finds_a_tear_while_a_rival_writes_looks_again(
    torn: Callable[..., TearingBroker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = torn(PROGRESS, "offsets")
    real = broker.log

    def log(place: TopicPartition) -> Any:
        if place.topic == OUTPUT:
            monkeypatch.setattr(broker, "log", real)
            broker.append(Emission(PROGRESS, 0, [b"claim:rival"], [None]), None)
        return real(place)

    monkeypatch.setattr(broker, "log", log)
    with pytest.raises(TornTransactionError):
        start(broker, tmp_path)
    (again,) = [record for record in caplog.records if record.message == "transient error, trying again"]
    assert "somebody has written for the task" in again.__dict__["error"]


def test_records_of_versions_that_did_not_tell_are_read() -> None:
    codec = RecordCodec(MemorySchemaRegistry(), "progress-value", (SCHEMAS / "progress.avsc").read_text())
    progress = Progress(STAGE, 0, outputs={OUTPUT: 3})
    assert Progress.decode(progress.encode(codec), codec).written == {}
