"""A declared latency limit switches to the fallback, with its reason, and back."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models import artifact
from tests.unit.services.scoring.test_task import COLUMNS, Stage
from tidemill.services.scoring.domain.latency import LatencySwitch
from tidemill.services.scoring.task import ScoringTask
from tidemill.shared.application.plan import ModelPlan, Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Step
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.task import StepContext

ROOT = Path(__file__).parents[4]
LIMIT_MS = 2_000


def limited(plan: Plan, limits_ms: Mapping[str, int | None]) -> Plan:
    def model(one: ModelPlan) -> ModelPlan:
        fallback = one.settings.fallback.model_copy(update={"latency_limit": limits_ms.get(one.name)})
        return replace(one, settings=one.settings.model_copy(update={"fallback": fallback}))

    return replace(plan, models={name: model(one) for name, one in plan.models.items()})


class Served:
    """Scoring with a model in service, that takes ten vectors at a time."""

    def __init__(self, folder: Path, *, live: bool = True) -> None:
        self.stage = Stage(limited(load_plan(ROOT / "examples" / "flights"), {"late_arrival": LIMIT_MS}), folder)
        self.metrics = Metrics("scoring")
        self.task = ScoringTask(self.stage.plan, self.stage.registry, self.stage.store, 0, self.metrics, live=live)
        address = self.stage.store.put(artifact("lightgbm", COLUMNS)[0].to_bytes())
        self.task.process([self.stage.deployment(0, "promoted", "v1", address)], StepContext(0))
        self.asked = 0

    def step(self, waited_ms: int, steady_ms: int | None = None) -> list[dict[str, Any]]:
        """Answer the next ten requests; the first of them became available so long ago by the host's clock."""
        begin, self.asked = self.asked, self.asked + 10
        asked = self.stage.records("flights-vectors", self.stage.vectors[begin : self.asked], begin)
        now_ms = self.available_ms(begin) + waited_ms
        step: Step = self.task.process([asked], StepContext(now_ms, steady_ms=steady_ms))
        self.task.committed()
        return self.stage.answers(step)

    def available_ms(self, row: int) -> int:
        batch = ColumnDecoder(self.stage.registry, self.stage.plan.vector_schema).decode(self.stage.vectors[row : row + 1]).batch
        return int(int64_ms(batch.column("_journal_time"))[0])

    def counted(self, reason: str) -> float:
        labels = {"stage": "scoring", "model": "late_arrival", "reason": reason}
        return self.metrics.registry.get_sample_value("tidemill_degraded_total", labels) or 0.0


def reasons(rows: list[dict[str, Any]]) -> set[tuple[str | None, str, str]]:
    return {(row["reason"], row["variant"], row["model_version"]) for row in rows}


MODEL, FALLBACK = {(None, "champion", "v1")}, {("latency", "default", "default")}


def test_requests_that_have_waited_too_long_get_the_fallback_and_then_the_model_again(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert reasons(served.step(LIMIT_MS)) == MODEL
    late = served.step(LIMIT_MS + 1)
    assert reasons(late) == FALLBACK and {row["score"] for row in late} == {0.24} and {row["deployment_sequence"] for row in late} == {0}
    assert reasons(served.step(LIMIT_MS // 2 + 1)) == FALLBACK, "not before the wait is half of the limit: it would flicker"
    assert reasons(served.step(LIMIT_MS // 2)) == MODEL
    assert served.counted("latency") == 20


@pytest.mark.parametrize("hours", [2, 30, -2])
def test_a_step_of_the_host_s_clock_is_no_wait(tmp_path: Path, hours: int) -> None:
    """Two hours forward answered every request with the fallback until the clock was right; back, none however long it waited."""
    served = Served(tmp_path)
    began_ms = served.available_ms(0)
    assert reasons(served.step(0, steady_ms=0)) == MODEL

    def later(waited_ms: int) -> list[dict[str, Any]]:
        steady_ms = served.available_ms(served.asked) + waited_ms - began_ms
        return served.step(waited_ms + hours * 3_600_000, steady_ms)

    assert reasons(later(LIMIT_MS)) == MODEL
    assert reasons(later(LIMIT_MS + 1)) == FALLBACK


def test_in_a_replay_nobody_waits(tmp_path: Path) -> None:
    assert reasons(Served(tmp_path, live=False).step(10**12)) == MODEL


def test_counts_are_of_what_was_committed(tmp_path: Path) -> None:
    served = Served(tmp_path)
    asked = served.stage.records("flights-vectors", served.stage.vectors[:10])
    served.task.process([asked], StepContext(10**15))
    assert served.counted("latency") == 0, "nothing is committed yet"
    served.task.committed()
    served.task.committed()
    assert served.counted("latency") == 10


@pytest.mark.parametrize("limits", [{}, {"a": None}])
def test_models_without_a_limit_answer_however_late_it_is(limits: dict[str, int | None]) -> None:
    plan = limited(load_plan(ROOT / "examples" / "payments"), limits)
    switch = LatencySwitch(plan.models.values())
    assert switch.observe(10**12) == {} and not any(switch.answers_with_fallback(name) for name in plan.models)


def test_each_model_has_its_own_limit() -> None:
    one = next(iter(load_plan(ROOT / "examples" / "payments").models.values()))
    switch = LatencySwitch(limited(replace(load_plan(ROOT / "examples" / "payments"), models={
        name: replace(one, name=name) for name in ("fast", "slow")
    }), {"fast": 100, "slow": 1_000}).models.values())  # fmt: skip
    assert switch.observe(500) == {"fast": True}
    assert switch.observe(1_001) == {"slow": True}
    assert switch.observe(51) == {"slow": False}
    assert switch.observe(50) == {"fast": False}
    assert switch.observe(-5_000) == {}, "a publisher's clock that is ahead is no wait"
