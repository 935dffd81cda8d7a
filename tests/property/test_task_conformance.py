"""What every task promises, tried with every service's real one: the same bytes in portions of any size, one by one and over restarts.

A season of a small shop runs through all stages once, each driven in large portions. What they write is the input of those behind them.

Single cores are tried harder elsewhere, with data made for them: `test_ingestion`, `test_feature_engine`, `test_features`, `test_extreme_values`,
`test_scoring`, `test_merge`, `test_trainings`, and the units of outcomes' join, drift and control.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.long_forms import shortened
from tests.property.season import APPLICATION, CASES, ORDERS, Season, outcome_of
from tidemill.services.features.task import FeaturesTask
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, StateEntry, Step
from tidemill.shared.runner.task import StepContext, Task

pytestmark = pytest.mark.lasts(20)

ROOT = Path(__file__).parents[2]


class World(Season):
    """A season in which the first models are trained on the way."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, APPLICATION, CASES)
        # Scoring was ahead of the first model, archive of what the worker of the lifecycle wrote.
        for stage in ("scoring", "archive"):
            driver = self.driver(stage, seed=1, portion=40)
            driver.run()
            self.whole[stage] = outcome_of(driver)
            if stage == "scoring":
                self.predictions = driver.written[self.plan.topics.predictions]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidemill.services.drift.task._SNAPSHOT_ROWS", 60)
        # What comes in portions is joined as columns, what comes one by one row by row.
        patch.setattr("tidemill.services.outcomes.domain.bulk_join.LEAST_ROWS", 4)
        yield World(tmp_path_factory.mktemp("conformance"))


def test_every_task_there_is_has_its_case_and_something_to_do(world: World) -> None:
    services = {path.parent.name for path in (ROOT / "services").glob("*/task.py")}
    assert set(CASES) == services
    topics = world.plan.topics
    expected = {
        "ingestion": {topics.journal, topics.rejected, topics.duplicates, topics.schema_changes}, "features": {topics.vectors, topics.view_switches},
        "scoring": {topics.predictions}, "outcomes": {topics.outcomes}, "explanations": {topics.explanations},
        "drift": {topics.drift, topics.health, topics.found_incidents}, "control": {topics.decisions, topics.flush_marks, topics.incidents},
        "retraining": {topics.retraining, topics.deployments}, "archive": set(),
    }  # fmt: skip
    assert {stage: set(outputs["written"]) for stage, outputs in world.whole.items()} == expected
    assert {"deployments", "decisions"} <= {table for table, _ in world.whole["archive"]["lake"]} and len(world.whole["archive"]["lake"]) == 10
    codec = message_codec(world.registry, topics.predictions, "prediction")
    answers = [codec.decode(value or b"") for _, value, _ in world.predictions]
    assert len(answers) == ORDERS
    assert {answer["reason"] for answer in answers} == {None}, "a model answers"


@pytest.mark.parametrize("stage", CASES)
def test_one_by_one_is_any_batching(world: World, stage: str) -> None:
    driver = world.driver(stage, seed=2, portion=1)
    driver.run()
    assert outcome_of(driver) == world.whole[stage]
    assert bool(driver.handed) == (stage in ("features", "scoring", "outcomes")), "their columns are those that the records decode to"


@pytest.mark.parametrize("seed", shortened([3, 4], 1))
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
        columns = [one.columns if one.columns is None else one.columns[slice(-1, None)] for one in step.emissions]
        last = [replace(one, keys=one.keys[-1:], values=one.values[-1:], columns=own) for one, own in zip(step.emissions, columns, strict=True)]
        return replace(step, emissions=last)


@pytest.mark.parametrize("stage, wrong", [("outcomes", Forgetful), ("features", Hasty)])
def test_a_task_that_breaks_a_promise_is_found(world: World, stage: str, wrong: Callable[[Plan, MemorySchemaRegistry, int], Task]) -> None:
    driver = world.driver(stage, seed=3, portion=15, restart=0.5, make=lambda: wrong(world.plan, world.registry, 0))
    driver.run()
    assert outcome_of(driver) != world.whole[stage]
