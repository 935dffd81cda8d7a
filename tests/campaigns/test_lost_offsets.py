"""Every stage, in both topologies: offsets of its group that are gone, and logs that no longer hold its position."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from campaigns.simulate.actions import Action
from campaigns.simulate.checks import SafetyChecks
from campaigns.simulate.oracle import check_end
from campaigns.simulate.process import STAGES, stage_inputs
from campaigns.simulate.run import settle
from campaigns.simulate.system import System, UnexpectedEndError
from campaigns.simulate.world import RunSettings, World
from tests.long_forms import shortened
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.service.stage import FUSED, FUSIBLE

# One of each kind in the short form: a stage alone, stages together, one that writes beside Kafka, one that waits for processes.
FIRST = [("ingestion", "separate"), ("ingestion", FUSED), ("archive", "separate"), ("retraining", "separate")]
CASES = shortened(FIRST + [(stage, "separate") for stage in STAGES if (stage, "separate") not in FIRST], len(FIRST))


class Shop:
    """The simulated application with one instance and no faults but those that a test makes."""

    def __init__(self, folder: Path, topology: str) -> None:
        self.world = World(folder, RunSettings(instances=1, topology=topology))
        self.checks = SafetyChecks(self.world)
        self.system = System(self.world, self.checks.check)
        self._published = 0
        for name in self.system.actors():
            self.system.start(name)

    def actor(self, stage: str) -> str:
        """Return the process that runs a stage."""
        return next(name for name in self.system.actors() if name.split("/")[0] in (stage, FUSED if stage in FUSIBLE else stage))

    def work(self, count: int, *, without: str = "") -> None:
        """Publish records and let everybody but one work on them."""
        for _ in range(count):
            for kind in ("order", "verdict"):
                self.system.do(Action("publish", number=self._published, text=kind))
            self._published += 1
        for turn in range(60):
            if turn % 5 == 0:
                self.world.clock.advance(1_100)
            for name in self.system.actors():
                if name != without:
                    self.system.step(name)

    def finish(self) -> None:
        """Drain, and check everything against the oracle."""
        settle(self.system, self.checks)
        self.checks.check()
        check_end(self.world, self.checks, False)


@contextmanager
def stopped(shop: Shop, stage: str) -> Iterator[str]:
    """Stop the process of a stage, and start it again."""
    name = shop.actor(stage)
    shop.system.do(Action("kill", name))
    yield name
    shop.system.do(Action("start", name))


@pytest.mark.parametrize(("stage", "topology"), CASES)
def test_offsets_that_are_gone_are_taken_from_the_progress_record(tmp_path: Path, stage: str, topology: str) -> None:
    shop = Shop(tmp_path, topology)
    shop.work(12)
    before = dict(shop.world.broker.group(f"shop-{stage}").committed)
    assert before
    with stopped(shop, stage) as name:
        shop.system.do(Action("forget", stage))
        shop.work(5, without=name)
    shop.work(5)
    after = shop.world.broker.group(f"shop-{stage}").committed
    assert set(after) >= set(before)
    assert all(after[place] >= offset for place, offset in before.items())
    shop.finish()


@pytest.mark.parametrize(("stage", "topology"), CASES)
def test_an_input_that_was_deleted_below_the_position_is_noticed(tmp_path: Path, stage: str, topology: str) -> None:
    shop = Shop(tmp_path, topology)
    shop.work(12)
    with stopped(shop, stage) as name:
        broker, positions = shop.world.broker, shop.checks.progress[stage, 0].input_offsets
        place = next(TopicPartition(topic, 0) for topic in stage_inputs(shop.world)[stage].partitioned if (topic, 0) in positions)
        position = positions[place]
        while broker.log(place).end <= position + 1:
            broker.sink().publish(place.topic, b"k", b"never to be read", shop.world.clock.wall_ms(), 0)
        broker.delete_records(place, position + 1)
    with pytest.raises(
        UnexpectedEndError,
        match=rf"{place.topic}:0: (the restore of )?{stage} wants offset \d+, the log holds \[{position + 1}, \d+\).*deleted",
    ):
        for _ in range(5):
            shop.system.step(name)


@pytest.mark.parametrize("topology", ["separate", FUSED])
@pytest.mark.parametrize("how", ["deleted", "cut off"])
def test_ingestion_notices_that_the_journal_it_remembers_by_is_not_whole(tmp_path: Path, topology: str, how: str) -> None:
    shop = Shop(tmp_path, topology)
    shop.work(12)
    place = TopicPartition(shop.world.plan.topics.journal, 0)
    log = shop.world.broker.log(place)
    with stopped(shop, "ingestion") as name:
        marker = shop.checks.progress["ingestion", 0].checkpoint_marker.get(place, 0)
        if how == "deleted":
            log.delete_before(log.end)
            assert log.low > marker
        else:
            log.cut_off(2)
    said = {
        "deleted": rf"{place.topic}:0: the restore of ingestion.* wants offset .* the log holds .*taken for new",
        # The end that is gone is also what the last transaction wrote.
        "cut off": rf"TornTransactionError.*{place.topic}:0: of the \d+ from offset .* are not there \(the log ends at 2\).*cut off or created anew",
    }
    with pytest.raises(UnexpectedEndError, match=said[how]):
        for _ in range(5):
            shop.system.step(name)
