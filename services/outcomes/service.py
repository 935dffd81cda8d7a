"""Outcomes: reads the journal and the predictions, writes what became of every request."""

from tidemill.services.outcomes.task import OutcomesTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner, letter_limit

STAGE = "outcomes"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    limit = letter_limit(plan, broker)
    return chain_runner(
        [Stage(STAGE, task_inputs(plan), lambda p: OutcomesTask(plan, registry, p, limit))], plan, settings, broker, registry, metrics, health
    )
