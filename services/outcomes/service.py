"""Outcomes: reads the journal and the predictions, writes what became of every request."""

from services.outcomes.task import OutcomesTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner, letter_limit
from shared.streaming.task import Stage

STAGE = "outcomes"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    limit = letter_limit(plan, broker)
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda p: OutcomesTask(plan, registry, p, limit))], plan, settings, broker, registry, metrics, health
    )
