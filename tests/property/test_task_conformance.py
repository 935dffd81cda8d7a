"""What every task promises, tried with every service's real one: the same bytes in portions of any size, one by one and over restarts.

A season of a small shop runs through all stages once, each driven in large portions. What they write is the input of those behind them.

Single cores are tried harder elsewhere, with data made for them: `test_ingestion`, `test_feature_engine`, `test_features`, `test_extreme_values`,
`test_scoring`, `test_merge`, `test_trainings`, and the units of outcomes' join, drift and control.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campaigns.simulate.lake import MemoryLake
from campaigns.simulate.trainer import SeededTrainer, SilentRegistrar
from tests.property.task_driver import Driver
from tests.unit.services.drift.stream import APP, DAY, START, shop
from tidemill.services.archive.task import ArchiveTask
from tidemill.services.archive.task import task_inputs as archive_inputs
from tidemill.services.control.task import ControlTask
from tidemill.services.control.task import task_inputs as control_inputs
from tidemill.services.drift.task import DriftTask
from tidemill.services.drift.task import task_inputs as drift_inputs
from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.retraining.task import Places, RetrainingTask
from tidemill.services.retraining.task import task_inputs as retraining_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission, Records, StateEntry, Step
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.runner.task import StepContext, Task, TaskInputs

pytestmark = pytest.mark.lasts(20)

ROOT = Path(__file__).parents[2]
HOUR = 3_600_000
ORDERS, DAYS = 240, 12
VIEW = """
entities:
  country: {from: {orders: country}}
views:
  country_orders: {entity: country, source: orders, value: amount, aggregate: [count, mean], windows: [1d]}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A stage: what it reads, how its task is made (with a lake of its own), and what it reads before anything else."""

    inputs: Callable[[Plan], TaskInputs]
    make: Callable[["World", MemoryLake], Task]
    first: Callable[[Plan], Sequence[str]] = lambda plan: ()


class World:
    """A season of the shop as it lies in the topics, each stage's by that stage's real task."""

    def __init__(self, folder: Path) -> None:
        shop(folder)
        (folder / "app.yaml").write_text(APP.replace("bootstrap_labels: 500", "bootstrap_labels: 20").replace("models:", f"{VIEW}models:"))
        self.plan = load_plan(folder)
        self.registry = MemorySchemaRegistry()
        self.artifacts = ArtifactStore(str(folder / "artifacts"))
        self.spill = folder / "spill"
        self.logs = MemoryBroker()
        self.logs.create_topics([*catalogue_topics("shop", 1), *(TopicSpec(topic) for topic in self.plan.topics.raw)])
        self._publish_orders()
        self.whole = {}
        for stage in CASES:
            driver = self.driver(stage, seed=1, portion=40)
            driver.codec = message_codec(self.registry, self.plan.topics.progress(stage), "progress")
            driver.run()
            for topic, rows in {**driver.written, self.plan.topics.progress(stage): driver.said}.items():
                self._append(topic, rows)
            self.whole[stage] = outcome_of(driver)
        # Scoring was ahead of the first model.
        driver = self.driver("scoring", seed=1, portion=40)
        driver.run()
        self.whole["scoring"], self.predictions = outcome_of(driver), driver.written[self.plan.topics.predictions]

    def driver(
        self, stage: str, seed: int, portion: int, restart: float = 0.0, rebuild: float = 0.0, make: Callable[[], Task] | None = None
    ) -> Driver:
        """Make the driver of a stage's task."""
        case, lake = CASES[stage], MemoryLake()
        making = make or partial(case.make, self, lake)
        rng = np.random.default_rng(seed)
        return Driver(stage, case.inputs(self.plan), making, self.logs, rng, lake, portion, restart, rebuild, first=case.first(self.plan))

    def _append(self, topic: str, rows: Sequence[tuple[bytes | None, bytes | None, int]]) -> None:
        times = np.array([at for _, _, at in rows], np.int64)
        self.logs.append(Emission(topic, 0, [key for key, _, _ in rows], [value for _, value, _ in rows], times), None)

    def _publish_orders(self) -> None:
        rng = np.random.default_rng(7)
        times = np.sort(rng.integers(START, START + DAYS * DAY, ORDERS)).tolist()
        orders: list[tuple[int, bytes | None, bytes]] = []
        returns: list[tuple[int, bytes | None, bytes]] = []
        for i, time in enumerate(times):
            amount = float(rng.lognormal(1.0 if time > START + 7 * DAY else 0.0, 0.5))
            where, weight = str(rng.choice(["de", "fr", "it"])), float(rng.normal())
            order = {"order_id": f"o{i}", "placed": time, "amount": amount, "weight": weight, "country": where}
            orders.append((time, json.dumps(order).encode(), f"o{i}".encode()))
            if i % 9 == 0:
                orders.append((time + 1, b"garbage", f"o{i}".encode()))
            if i % 11 == 0:
                orders.append((time + 2, orders[-1][1], f"o{i}".encode()))
            if i % 10:
                back = time + int(rng.integers(HOUR, 30 * HOUR))
                label = {"order_id": f"o{i}", "returned": back, "bad": float(rng.random() < 0.4)}
                returns.append((back, json.dumps(label).encode(), f"o{i}".encode()))
        beats = [(at, None, HEARTBEAT_KEY) for at in range(START, START + (DAYS + 4) * DAY, 6 * HOUR)]
        for name, events in (("orders", orders), ("returns", returns)):
            rows = sorted([*events, *beats], key=lambda row: row[0])
            self._append(self.plan.streams[name].topic, [(key, value, at) for at, value, key in rows])


def retraining(world: World, _: MemoryLake) -> Task:
    return RetrainingTask(world.plan, world.registry, SeededTrainer(world.plan, world.artifacts), SilentRegistrar(), Places("shop", "lake", "models"))


def what_is_merged(plan: Plan) -> TaskInputs:
    """What became of decisions comes to control when it comes: its place among the findings is no journal's."""
    inputs = control_inputs(plan)
    when_it_comes = (plan.topics.retraining, plan.topics.deployments)
    return replace(inputs, partitioned=tuple(topic for topic in inputs.partitioned if topic not in when_it_comes))


CASES: Mapping[str, Case] = {
    "ingestion": Case(ingestion_inputs, lambda world, _: IngestionTask(world.plan, world.registry, 0, "replay", identity_key=bytes(16))),
    "features": Case(features_inputs, lambda world, _: FeaturesTask(world.plan, world.registry, 0, spill_folder=world.spill)),
    "scoring": Case(
        scoring_inputs,
        lambda world, _: ScoringTask(world.plan, world.registry, world.artifacts, 0, live=False),
        # Models switch between steps, wherever the vectors are: one that is there before the first of them has one place only.
        lambda plan: (plan.topics.deployments,),
    ),
    "outcomes": Case(outcomes_inputs, lambda world, _: OutcomesTask(world.plan, world.registry, 0)),
    "drift": Case(drift_inputs, lambda world, _: DriftTask(world.plan, world.registry)),
    "control": Case(what_is_merged, lambda world, _: ControlTask(world.plan, world.registry)),
    "archive": Case(archive_inputs, lambda world, lake: ArchiveTask(world.plan, world.registry, lake, 0, 40, 10**9)),  # type: ignore[arg-type]
    "retraining": Case(retraining_inputs, retraining),
}


def outcome_of(driver: Driver) -> dict[str, Any]:
    """What is to be the same: records by topic, what is covered, where the task stands, and rows in the lake."""
    digests = {topic: (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()) for topic, rows in driver.written.items() if rows}
    data = {place: offset for place, offset in driver.progress.input_offsets.items() if not place.topic.endswith("-progress")}
    return {"written": digests, "covered": driver.progress.coverage, "positions": data, "lake": driver.lake.rows}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidemill.services.drift.task._SNAPSHOT_ROWS", 60)
        yield World(tmp_path_factory.mktemp("conformance"))


def test_every_task_there_is_has_its_case_and_something_to_do(world: World) -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/task.py")}
    assert set(CASES) == services
    topics = world.plan.topics
    expected = {
        "ingestion": {topics.journal, topics.rejected, topics.duplicates}, "features": {topics.vectors, topics.view_switches},
        "scoring": {topics.predictions}, "outcomes": {topics.outcomes}, "drift": {topics.drift, topics.health},
        "control": {topics.decisions, topics.flush_marks}, "retraining": {topics.retraining, topics.deployments}, "archive": set(),
    }  # fmt: skip
    assert {stage: set(found["written"]) for stage, found in world.whole.items()} == expected
    assert len(world.whole["archive"]["lake"]) == 6
    codec = message_codec(world.registry, topics.predictions, "prediction")
    answers = [codec.decode(value or b"") for _, value, _ in world.predictions]
    assert len(answers) == ORDERS
    assert {answer["reason"] for answer in answers} == {None}, "a model answers"


@pytest.mark.parametrize("stage", CASES)
def test_one_by_one_is_any_batching(world: World, stage: str) -> None:
    driver = world.driver(stage, seed=2, portion=1)
    driver.run()
    assert outcome_of(driver) == world.whole[stage]


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("stage", CASES)
def test_a_restart_is_no_restart(world: World, stage: str, seed: int) -> None:
    driver = world.driver(stage, seed, portion=15, restart=0.5)
    driver.run()
    assert driver.restarts
    assert outcome_of(driver) == world.whole[stage]


@pytest.mark.parametrize("stage", CASES)
def test_state_that_is_lost_is_made_again_from_the_log(world: World, stage: str) -> None:
    driver = world.driver(stage, seed=5, portion=15, restart=0.3, rebuild=0.5)
    driver.run()
    assert driver.restarts
    assert outcome_of(driver) == world.whole[stage]


class Forgetful(OutcomesTask):
    """Loses what it has restored of one request."""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        super().restore(entries[1:])


class Hasty(FeaturesTask):
    """Publishes only the last output of each portion."""

    def process(self, inputs: Sequence[Records], context: StepContext) -> Step:
        step = super().process(inputs, context)
        return replace(step, emissions=[replace(one, keys=one.keys[-1:], values=one.values[-1:]) for one in step.emissions])


@pytest.mark.parametrize("stage, wrong", [("outcomes", Forgetful), ("features", Hasty)])
def test_a_task_that_breaks_a_promise_is_found(world: World, stage: str, wrong: Callable[[Plan, MemorySchemaRegistry, int], Task]) -> None:
    driver = world.driver(stage, seed=3, portion=15, restart=0.5, make=lambda: wrong(world.plan, world.registry, 0))
    driver.run()
    assert outcome_of(driver) != world.whole[stage]
