"""Archive: appends journal, vectors, predictions, shadow scores, outcomes and models' history; its progress says what is durable."""

from tidemill.services.archive.task import ArchiveTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "archive"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    lake = Lake(settings.lake.uri, plan.application.app)
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda p: ArchiveTask(plan, registry, lake, p))], plan, settings, broker, registry, metrics, health
    )
