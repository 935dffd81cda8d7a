"""Outcomes: reads the journal and the predictions, writes what became of every request."""

from services.outcomes.task import OutcomesTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import letter_limit, stage_runner

STAGE = "outcomes"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    limit = letter_limit(plan, broker)
    return stage_runner(STAGE, plan, settings, broker, registry, task_inputs(plan), lambda p: OutcomesTask(plan, registry, p, limit), metrics, health)
