"""Archive: appends journal, vectors, predictions and outcomes to the lake; its progress says what is durable there."""

from services.archive.task import ArchiveTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.lake.tables import Lake
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import stage_runner

STAGE = "archive"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    lake = Lake(settings.lake.uri, plan.application.app)
    return stage_runner(STAGE, plan, settings, broker, registry, task_inputs(plan), lambda p: ArchiveTask(plan, registry, lake, p), metrics, health)
