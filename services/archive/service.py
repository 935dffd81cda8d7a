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
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "archive"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    lake = Lake(settings.lake.uri, plan.application.app)
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda p: ArchiveTask(plan, registry, lake, p))], plan, settings, broker, registry, metrics, health
    )
