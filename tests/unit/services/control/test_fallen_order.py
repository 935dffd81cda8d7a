"""Findings whose journal time falls, of a stranger or a broken writer: one of the two that contradict each other is set aside, and control goes on.

Nothing is passed over in silence: what a stage writes is in order, so a fall is a fault of somebody.
"""

from pathlib import Path

import pytest

from tests.patience import until
from tests.unit.services.control.control_world import DAY, KEY, ControlWorld
from tidemill.services.control.task import ControlTask, task_inputs
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage


class Stream:
    """Control on its runner, started again whenever it ends."""

    def __init__(self, folder: Path) -> None:
        self.world = ControlWorld(folder)
        plan = self.world.plan
        self.topics, self.app, self.deaths = plan.topics, plan.application.app, 0
        self.broker = MemoryBroker()
        self.broker.create_topics(catalogue_topics(self.app, plan.application.partitions))
        self.rejected = message_codec(self.world.registry, self.topics.rejected, "rejected")
        self.settings = RunnerSettings(
            commit_interval_ms=1, idle_interval_ms=1, backoff_initial_ms=0, checkpoint_interval_ms=0, state_folder=folder / "state"
        )
        self.settings.state_folder.mkdir()
        self.written = 0
        self.runner = self.start()

    def start(self) -> Runner:
        world = self.world
        return Runner(
            app=self.app,
            stages=[Stage("control", task_inputs(world.plan), lambda _: ControlTask(world.plan, world.registry, KEY))],
            instance="0",
            broker=self.broker,
            partitions=1,
            codec=lambda stage: message_codec(world.registry, world.plan.topics.progress(stage), "progress"),
            dead_letters=lambda stage: DeadLetters(self.topics.rejected, stage, self.rejected.encode, 900_000),
            settings=self.settings,
        )

    def find(self, number: int, day: int, *, by_drift: bool = True) -> None:
        """Write a finding; what drift itself writes it counts in its progress."""
        self.world.find(number, day * DAY)
        self.broker.sink().publish(self.topics.drift, None, self.world.topics[self.topics.drift][-1], 0, 0)
        if by_drift:
            self.written += 1
            told = Progress("drift", 0, covered_time=day * DAY + 1, outputs={self.topics.drift: self.written, self.topics.found_incidents: 0})
            progress = self.topics.progress("drift")
            self.broker.sink().publish(progress, None, told.encode(self.world.codecs[progress]), 0, 0)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            try:
                self.runner.step()
            except ValueError as problem:
                assert "journal coordinates that never fall" in str(problem)
                self.deaths += 1
                self.runner = self.start()

    def values(self, topic: str) -> list[bytes]:
        return [value or b"" for records in self.broker.reader().read(TopicPartition(topic, 0), 0) for value in records.values]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("stranger", [5, 10_000_000])
def test_a_finding_out_of_order_costs_one_process_and_one_record(tmp_path: Path, stranger: int, live: bool) -> None:
    stream = Stream(tmp_path)
    days = [10, 31, 38, 45, 52]
    stream.find(1, days[0])
    stream.run(5 if live else 0)
    stream.find(2, stranger, by_drift=False)
    for number, day in enumerate(days[1:], 3):
        stream.run(5 if live else 0)
        stream.find(number, day)
    until(lambda: len(stream.values(stream.topics.decisions)) == len(days), "decisions on all but one", within_s=20, check=lambda: stream.run(1))
    letters = [stream.rejected.decode(value) for value in stream.values(stream.topics.rejected)]
    assert [(letter["source_topic"], letter["reason"]) for letter in letters] == [(stream.topics.drift, "quarantined")]
    assert stream.deaths == 1
    decided = [stream.world.codecs[stream.topics.decisions].decode(value)["journal_time"] // DAY for value in stream.values(stream.topics.decisions)]
    # Of two that contradict each other either one may be set aside.
    assert decided[-4:] == days[1:] and decided[0] in (days[0], stranger) and len(decided) == 5
