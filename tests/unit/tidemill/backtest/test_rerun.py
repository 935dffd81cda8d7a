"""A run's journal, given again with the models where it had them, makes the run's own records: every byte."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from campaigns.simulate.system import System
from campaigns.simulate.world import FOLDER, RunSettings, World
from tidemill.audit.run_log import TopicLog
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import Switch, recorded_switches
from tidemill.backtest.rerun import rerun
from tidemill.backtest.stages import StageWorld
from tidemill.backtest.virtual_time import VirtualClock
from tidemill.runs.topics import create_topics
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker

# Turns that publish, for each step: a step costs much more than the records in it.
_TURNS_A_STEP = 3


class RememberingBroker(MemoryBroker):
    """Forgets nothing, so that what was written can be compared."""

    def forget(self) -> None:
        """Keep everything."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two instances of the simulated shop, one fused, one not, in steps of a dozen records, commands among them, until all is dealt with."""
    world = World(tmp_path_factory.mktemp("live"), RunSettings(instances=2, topology="mixed"))
    system = System(world, lambda: None)
    for name in system.actors():
        system.start(name)
    number = 0
    for turn in range(270):
        if turn < 160:
            for kind in ("order", "verdict", "order", "customer"):
                world.publish(kind, number)
                number += 1
        # Trainings often enough that some pass, whatever is drawn for them.
        if turn % 60 in (20, 50):
            world.command("retrain" if turn % 60 == 20 else "promote")
        world.clock.advance(280 if turn < 160 else 2_200)
        if turn % _TURNS_A_STEP == 0 or turn >= 160:
            for name in system.actors():
                system.step(name)
    return world


def written(broker: MemoryBroker, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    runs = (run for partition in range(2) for run in broker.reader().read(TopicPartition(topic, partition), 0))
    return [(run.partition, key, value) for run in runs for key, value in zip(run.keys, run.values, strict=True)]


def given_again(live: World, switches: Sequence[Switch], folder: Path) -> tuple[MemoryBroker, PublicLog, list[tuple[int, int]]]:
    clock = VirtualClock()
    again = RememberingBroker(clock.now_ms, 0.0)
    create_topics(live.plan, again)
    stages = StageWorld(live.plan, FOLDER, folder, again, live.registry, clock, "memory://simulate")
    public, progress = PublicLog(live.plan, again, live.registry, lambda _: None), list[tuple[int, int]]()
    run = TopicLog(live.plan, live.broker, live.registry)
    rerun(stages, again, run, switches, public, lambda at, count, seen: progress.append((at, count)))
    return again, public, progress


def test_every_byte_is_the_runs_own(live: World, tmp_path: Path) -> None:
    topics, run = live.plan.topics, TopicLog(live.plan, live.broker, live.registry)
    switches = recorded_switches(live.plan, run, live.registry)
    assert [switch.event["event"] for switch in switches].count("promoted") >= 2
    again, public, progress = given_again(live, switches, tmp_path)
    for topic in (topics.vectors, topics.predictions, topics.outcomes):
        theirs = written(live.broker, topic)
        assert len(theirs) > 250
        assert written(again, topic) == theirs
    assert progress[-1][1] == len(written(live.broker, topics.journal))
    assert public.seen.deployments == run.deployments()


def test_a_switch_at_another_request_makes_other_predictions(live: World, tmp_path: Path) -> None:
    run = TopicLog(live.plan, live.broker, live.registry)
    switches = recorded_switches(live.plan, run, live.registry)
    first = next(i for i, switch in enumerate(switches) if switch.event["event"] == "promoted")
    later = {partition: offset + 12 for partition, offset in switches[first].offsets.items()}
    moved = [Switch(switch.event, later) if i <= first else switch for i, switch in enumerate(switches)]
    again, _, _ = given_again(live, moved, tmp_path)
    assert written(again, live.plan.topics.vectors) == written(live.broker, live.plan.topics.vectors)
    assert written(again, live.plan.topics.predictions) != written(live.broker, live.plan.topics.predictions)
