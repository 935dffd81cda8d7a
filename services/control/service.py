"""Control: follows drift events, schedules and commands; asks for retraining or says why not."""

from services.control.task import ControlTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "control"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage; every commit holds the whole state (see `ControlTask`)."""
    plan = load_plan(settings.application)
    settings = settings.model_copy(update={"runner": settings.runner.model_copy(update={"checkpoint_interval_ms": 0})})
    key = settings.commands.secret()
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda _: ControlTask(plan, registry, key))], plan, settings, broker, registry, metrics, health
    )
