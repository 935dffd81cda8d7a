"""Control: follows drift events, schedules and commands; asks for retraining or says why not."""

from tidemill.services.control.task import ControlTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "control"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage; every commit holds the whole state (see `ControlTask`)."""
    plan = load_plan(settings.application)
    settings = settings.model_copy(update={"runner": settings.runner.model_copy(update={"checkpoint_interval_ms": 0})})
    key = settings.commands.secret()
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda _: ControlTask(plan, registry, key))], plan, settings, broker, registry, metrics, health
    )
