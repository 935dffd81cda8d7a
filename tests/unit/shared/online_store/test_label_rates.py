"""Label rates by a column of the requests are in the online store like any other view: the column is the entity."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.kind_events import SPECIES, START, THREE_CLASSES, flowers
from tests.unit.services.features.test_online import AtOnce
from tidemill.services.features.online import OnlineWriter
from tidemill.services.features.task import FeaturesTask
from tidemill.services.gateway.entity_keys import EntityKeys
from tidemill.shared.application.planning import load_plan
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.online_store.layout import entity_layouts
from tidemill.shared.online_store.memory_store import MemoryOnlineStore
from tidemill.shared.runner.task import StepContext
from tidemill.testing import ApplicationRun

ENGINE = Path(__file__).parents[3] / "applications" / "engine"


def test_rates_of_each_class_by_garden_are_what_plain_python_computes() -> None:
    asked, named = flowers(60)
    garden = {one["flower_id"]: one["garden"] for one in asked}
    with ApplicationRun(THREE_CLASSES, START.isoformat()) as run:
        for at, stream, event in sorted(
            [(one["seen_at"], "flowers", one) for one in asked] + [(one["named_at"], "namings", one) for one in named], key=lambda one: one[0]
        ):
            run.clock.set(at.isoformat())
            run.publish(stream, event)
        run.clock.set((named[-1]["named_at"] + timedelta(hours=1)).isoformat())
        run.run()
        store = MemoryOnlineStore(run.plan, clock_ms=run.clock.now_ms)
        writer = OnlineWriter(store, 0, AtOnce())
        task = FeaturesTask(run.plan, run.registry, 0, writer)
        task.resume({}, {}, 0, -1)
        log = run.broker.log(TopicPartition(run.plan.topics.journal, 0))
        task.process([log.read(0, log.end, 10**9)[0]], StepContext(0))
        task.committed()
        while writer.waiting:
            task.process([], StepContext(0))
        rows = store.read_features("flowers.garden", sorted(set(garden.values())))
    assert set(rows.status) == {"found"}
    for name, values in zip(sorted(set(garden.values())), rows.values, strict=True):
        said = [one["species"] for one in named if garden[one["flower_id"]] == name]
        weights = [0.5 ** ((len(said) - 1 - i) / 50) for i in range(len(said))]
        for species in SPECIES:
            rate = sum(weight for weight, one in zip(weights, said, strict=True) if one == species) / sum(weights)
            assert values[rows.names.index(f"garden_species__garden_{species}_50events")] == pytest.approx(rate, rel=1e-9)


def test_rates_of_another_meaning_are_another_layout(tmp_path: Path) -> None:
    text = (THREE_CLASSES / "app.yaml").read_text()
    (tmp_path / "schemas").symlink_to(THREE_CLASSES / "schemas")
    digests = set()
    for old, new in (
        ("", ""),
        ("value: species,", "value: species, values: {setosa: virginica, virginica: setosa},"),
        ("[2d, 50 labels]", "[3d, 50 labels]"),
    ):
        (tmp_path / "app.yaml").write_text(text.replace(old, new))
        digests.add(entity_layouts(load_plan(tmp_path))["flowers.garden"].digest)
    assert len(digests) == 3


def test_keys_of_a_column_are_written_as_the_column_is() -> None:
    plan = load_plan(ENGINE)
    implied = [entity for entity in entity_layouts(plan) if entity not in plan.application.entities]
    assert implied and all(EntityKeys(plan).types[entity] is not None for entity in implied)
