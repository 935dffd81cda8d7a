"""Scoring: reads vectors, writes one prediction per request and model; follows the deployments log."""

from typing import Literal

from services.scoring.settings import ScoringSettings
from services.scoring.task import ScoringTask, task_inputs
from shared.application.plan import Plan
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.models.artifacts import ArtifactStore
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "scoring"


def build(
    settings: ScoringSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    counted = metrics or Metrics(STAGE)
    return chain_runner([stage(settings, plan, registry, counted, settings.ingestion.clock)], plan, settings, broker, registry, counted, health)


def stage(settings: ServiceSettings, plan: Plan, registry: SchemaRegistry, metrics: Metrics, clock: Literal["live", "replay"]) -> Stage:
    """Describe the stage; in a replay nobody waits, so that no answer is late."""
    artifacts = ArtifactStore(settings.artifacts.uri)

    def task(partition: int) -> ScoringTask:
        return ScoringTask(plan, registry, artifacts, partition, metrics, live=clock == "live")

    return Stage(STAGE, task_inputs(plan), task)
