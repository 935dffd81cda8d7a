"""Scoring: reads vectors, writes one prediction per request and model; follows the deployments log."""

import time
from typing import Literal

from tidemill.services.scoring.settings import ScoringSettings
from tidemill.services.scoring.task import ScoringTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "scoring"


def build(
    settings: ScoringSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    counted = metrics or Metrics(STAGE)
    return chain_runner([stage(settings, plan, registry, counted, settings.ingestion.clock)], plan, settings, broker, registry, counted, health)


def stage(settings: ServiceSettings, plan: Plan, registry: SchemaRegistry, metrics: Metrics, clock: Literal["live", "replay"]) -> Stage:
    """Describe the stage; in a replay nobody waits, so that no answer is late and no challenger too slow."""
    artifacts = ArtifactStore(settings.artifacts.uri)

    live = clock == "live"

    def task(partition: int) -> ScoringTask:
        return ScoringTask(plan, registry, artifacts, partition, metrics, live=live, clock_ns=time.perf_counter_ns if live else None)

    return Stage(STAGE, task_inputs(plan), task)
