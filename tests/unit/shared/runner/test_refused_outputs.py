"""What the log does not take: an output that is at fault costs its record, an outage costs time, and positions move as soon as they can."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.property.runner_tasks import APP, STAGE, CountingTask, arguments, codec, expected, output, topics
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import BrokerUnreachableError, RecordRefusedError, TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.memory.clients import MemoryTransactionalSink
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner

INPUT, OUTPUT, REJECTED = f"{APP}-input", f"{APP}-output", f"{APP}-rejected"
BIG, LIMIT_BYTES = b"big", 20_000
# A supervisor gives up after so many ends in a row.
SUPERVISOR = 6


class Loud(CountingTask):
    """Says more than its topic takes of some records."""

    def _fold(self, records: Records) -> list[bytes]:
        said = super()._fold(records)
        return [what + (b"!" * LIMIT_BYTES if value == BIG else b"") for what, value in zip(said, records.values, strict=True)]


class Sink(MemoryTransactionalSink):
    """Answers as a cluster that does not take what is written to some topic; Kafka says so with the commit, mostly."""

    def __init__(self, broker: "Cluster", transactional_id: str) -> None:
        super().__init__(broker, transactional_id)
        self._cluster = broker
        self._wrong: Exception | None = None

    def begin(self) -> None:
        self._wrong = None
        super().begin()

    def produce(self, emission: Emission) -> None:
        trouble = self._cluster.trouble.get(emission.topic)
        try:
            super().produce(emission)
        except RecordRefusedError as problem:
            self._wrong = problem
        self._wrong = trouble or self._wrong
        if self._wrong is not None and not self._cluster.says_at_commit:
            raise self._wrong

    def commit(self) -> Mapping[TopicPartition, int]:
        if self._wrong is not None:
            raise self._wrong
        return super().commit()


class Cluster(MemoryBroker):
    def __init__(self, says_at_commit: bool, partitions: int = 1) -> None:
        super().__init__()
        self.says_at_commit = says_at_commit
        self.trouble: dict[str, Exception] = {}
        self.create_topics([TopicSpec(OUTPUT, partitions, {"max.message.bytes": str(LIMIT_BYTES)}), *topics(APP, partitions)[:1]])
        self.create_topics([spec for spec in topics(APP, partitions) if spec.name != OUTPUT])

    def transactional_sink(self, transactional_id: str) -> Sink:
        return Sink(self, transactional_id)

    def fill(self, keys: str, big: Sequence[int] = (), partition: int = 0) -> None:
        for place, key in enumerate(keys):
            self.sink().publish(INPUT, key.encode(), BIG if place in big else b"x", place, partition)


def start(cluster: Cluster, folder: Path, partitions: int = 1) -> Runner:
    settings = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, backoff_initial_ms=0, backoff_max_ms=0, retries=5, state_folder=folder)
    return Runner(**arguments(APP, cluster, partitions, settings=settings, task_factory=lambda partition: Loud(APP, partition)))


def work(cluster: Cluster, folder: Path, ends: list[str], partitions: int = 1, steps: int = 60) -> Runner:
    """Make steps, in a new process whenever one ends."""
    runner = start(cluster, folder, partitions)
    for _ in range(steps):
        try:
            runner.step()
        except Exception as problem:
            ends.append(f"{type(problem).__name__}: {problem}")
            runner.close()
            runner = start(cluster, folder, partitions)
    return runner


@pytest.mark.parametrize("says_at_commit", [False, True])
@pytest.mark.parametrize("big", [[0], [9], [3, 4], [0, 5, 9]])
def test_a_record_whose_output_is_too_large_is_set_aside_and_all_others_are_answered(tmp_path: Path, says_at_commit: bool, big: list[int]) -> None:
    cluster, keys, ends = Cluster(says_at_commit), "abcabcabca", list[str]()
    cluster.fill(keys, big)
    runner = work(cluster, tmp_path, ends)
    assert output(cluster, OUTPUT) == expected(keys, without=big)
    letters = [codec("rejected").decode(value or b"") for value in output(cluster, REJECTED)]
    assert [(letter["source_offset"], letter["reason"]) for letter in letters] == [(offset, "quarantined") for offset in big]
    assert all(
        "its outputs cannot be written: RecordRefusedError: shop-output: expected records of at most" in letter["detail"] for letter in letters
    )
    assert len(ends) == 1, ends
    assert runner.tasks[0].progress.input_offsets == {TopicPartition(INPUT, 0): 10}


def test_two_partitions_with_such_records_each_lose_them_alone(tmp_path: Path) -> None:
    cluster, ends = Cluster(True, 2), list[str]()
    for partition, big in enumerate(([2], [0, 7])):
        cluster.fill("abcabcab", big, partition)
    work(cluster, tmp_path, ends, partitions=2, steps=120)
    assert [output(cluster, OUTPUT, p) for p in (0, 1)] == [expected("abcabcab", without=[2]), expected("abcabcab", without=[0, 7])]
    assert [len(output(cluster, REJECTED, p)) for p in (0, 1)] == [1, 2]
    assert len(ends) < SUPERVISOR, ends


@pytest.mark.parametrize("says_at_commit", [False, True])
@pytest.mark.parametrize(
    ("trouble", "ends_process"),
    [
        (KafkaFailureError("produce to shop-output:0: Topic authorization failed"), 60),
        (BrokerUnreachableError("Kafka does not answer"), 60),
        (TransientError("commit: Unknown topic or partition"), 10),
    ],
    ids=["authorization", "no broker", "unknown topic"],
)
def test_an_output_that_nobody_may_or_can_write_costs_no_record(tmp_path: Path, says_at_commit: bool, trouble: Exception, ends_process: int) -> None:
    """It is not the record's fault: nothing is looked for, nothing set aside; once it is mended all goes on from where it stood."""
    cluster, ends = Cluster(says_at_commit), list[str]()
    cluster.fill("abcab")
    cluster.trouble = {OUTPUT: trouble}
    runner = work(cluster, tmp_path, ends)
    assert 0 < len(ends) <= ends_process and not [path for path in tmp_path.iterdir() if path.suffix == ".json"], "no crash is counted"
    assert not output(cluster, OUTPUT)
    assert not any(output(cluster, f"{APP}-{STAGE}-progress")), "claims only"
    cluster.trouble = {}
    for _ in range(10):
        runner.step()
    assert output(cluster, OUTPUT) == expected("abcab") and not output(cluster, REJECTED)


def test_an_output_topic_that_is_away_while_state_is_restored_ends_no_process(tmp_path: Path) -> None:
    """A restore looks at the last outputs, and waits for their topic as a write does."""
    cluster = Cluster(says_at_commit=False)
    cluster.fill("abc")
    runner = start(cluster, tmp_path)
    for keys in ("", "ca"):
        cluster.fill(keys)
        for _ in range(5):
            runner.step()
    assert output(cluster, OUTPUT) == expected("abcca")
    cluster.delete_topic(OUTPUT)
    cluster.fill("abcab")
    assert not any(runner.step() for _ in range(5))
    cluster.create_topics([TopicSpec(OUTPUT, 1)])
    for _ in range(5):
        runner.step()
    assert output(cluster, OUTPUT) == expected("abccaabcab")[5:] and not output(cluster, REJECTED)


def test_a_dead_letter_that_cannot_be_written_keeps_its_record_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cluster, ends = Cluster(True), list[str]()
    cluster.fill("abcab", big=[2])
    cluster.trouble = {REJECTED: KafkaFailureError("produce to shop-rejected:0: Topic authorization failed")}
    work(cluster, tmp_path, ends)
    assert ends[-1] == "KafkaFailureError: produce to shop-rejected:0: Topic authorization failed"
    before: list[Any] = output(cluster, OUTPUT)
    assert before == expected("ab"), "what comes before the culprit is answered"
    cluster.trouble = {}
    work(cluster, tmp_path, ends)
    assert output(cluster, OUTPUT) == expected("abcab", without=[2]) and len(output(cluster, REJECTED)) == 1
