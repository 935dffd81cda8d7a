"""Stages that answer and judge classes, declared or learned, and numbers write the same bytes in any portions, one by one and over restarts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campaigns.simulate.lake import MemoryLake
from tests.kind_events import AMOUNTS, LEARNED_CLASSES, SPECIES, START, THREE_CLASSES, Event, flowers, parcels, species_model, weight_model
from tests.lifecycle_events import publish_event
from tests.long_forms import shortened
from tests.property.season import handed_on, outcome_of
from tests.property.task_driver import Driver
from tidemill.services.drift.task import DriftTask
from tidemill.services.drift.task import task_inputs as drift_inputs
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.models.artifacts import Artifact
from tidemill.shared.runner.task import Task
from tidemill.testing import ApplicationRun

pytestmark = pytest.mark.lasts(15)
STAGES: dict[str, tuple[Callable[..., Any], Callable[[ApplicationRun], Task]]] = {
    "scoring": (scoring_inputs, lambda run: ScoringTask(run.plan, run.registry, run._artifacts, 0, live=False)),
    "outcomes": (outcomes_inputs, lambda run: OutcomesTask(run.plan, run.registry, 0)),
    "drift": (drift_inputs, lambda run: DriftTask(run.plan, run.registry)),
}


@dataclass
class World:
    """A run whose topics are the inputs of the stages."""

    run: ApplicationRun

    def written(self, stage: str, seed: int, portion: int, restart: float = 0.0, rebuild: float = 0.0) -> tuple[dict[str, Any], int]:
        inputs, make = STAGES[stage]
        first = (self.run.plan.topics.deployments,) if stage == "scoring" else ()
        driver = Driver(
            stage, inputs(self.run.plan), lambda: make(self.run), self.run.broker, np.random.default_rng(seed), MemoryLake(), portion, restart,
            rebuild, first=first, decoders=handed_on(self.run.plan, self.run.registry),
        )  # fmt: skip
        driver.run()
        return outcome_of(driver), driver.restarts


def season(application: Path, streams: dict[str, list[Event]], times: dict[str, str], model: str, made: Artifact) -> ApplicationRun:
    run = ApplicationRun(application, START.isoformat())
    run.deploy(model, made)
    events = sorted(((event[times[name]], name, event) for name, rows in streams.items() for event in rows), key=lambda one: one[0])
    for at, name, event in events:
        run.clock.set(at.isoformat())
        run.publish(name, event)
    run.clock.set((events[-1][0] + timedelta(days=9)).isoformat())
    run.run()
    return run


def learned_season() -> ApplicationRun:
    """Go through the life of classes that are learned: none, three, a challenger that knows four, which then serves, and a roll-back to three."""
    asked, said = flowers(120, per_day=12)
    for i, one in enumerate(said):
        one["species"] = "orchid" if i % 6 == 2 else "lily" if i % 23 == 5 else one["species"]
    three, four = species_model(), species_model("v2", classes=(*SPECIES, "orchid"))
    moves = {20: (three, "promoted"), 45: (four, "canary"), 70: (four, "promoted"), 95: (three, "rolled_back")}
    run, requests = ApplicationRun(LEARNED_CLASSES, START.isoformat()), 0
    rows = [(one["seen_at"], "flowers", one) for one in asked] + [(one["named_at"], "namings", one) for one in said]
    for at, name, event in sorted(rows, key=lambda one: one[0]):
        if name == "flowers" and requests in moves:
            run.run()
            made, move = moves[requests]
            publish_event(run, "species", made, move, 0.3 if move == "canary" else 1.0)
        requests += name == "flowers"
        run.clock.set(at.isoformat())
        run.publish(name, event)
    run.clock.set((START + timedelta(days=20)).isoformat())
    run.run()
    return run


@pytest.fixture(scope="module", params=shortened(["learned classes", "numbers", "classes"], 2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "classes":
        asked, said = flowers(100, per_day=14)
        said[3]["species"], said[9]["species"] = "orchid", None
        run = season(THREE_CLASSES, {"flowers": asked, "namings": said}, {"flowers": "seen_at", "namings": "named_at"}, "species", species_model())
    elif request.param == "learned classes":
        run = learned_season()
    else:
        asked, said = parcels(100, per_day=14)
        run = season(AMOUNTS, {"parcels": asked, "weighings": said}, {"parcels": "shipped_at", "weighings": "weighed_at"}, "weight", weight_model())
    with run:
        yield World(run)


@pytest.mark.parametrize("seed, rebuild", shortened([(4, 0.5), (3, 0.0)], 1))
@pytest.mark.parametrize("stage", STAGES)
def test_any_batching_and_any_restart_writes_the_same_bytes(world: World, stage: str, seed: int, rebuild: float) -> None:
    whole, _ = world.written(stage, 1, 60)
    assert sum(count for count, _ in whole["written"].values()) > (99 if stage != "drift" else 5)
    assert world.written(stage, 2, 1)[0] == whole
    again, restarts = world.written(stage, seed, 15, restart=0.5, rebuild=rebuild)
    assert restarts and again == whole
