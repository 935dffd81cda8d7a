"""Explanations: reads vectors and predictions in journal order; writes what the largest features added to each score.

It stands behind scoring, with a transaction of its own: it may lag, and nobody waits for it.
"""

from tidemill.services.explanations.task import ExplanationsTask, task_inputs
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

STAGE = "explanations"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    return chain_runner([stage(settings, plan, registry)], plan, settings, broker, registry, metrics, health)


def stage(settings: ServiceSettings, plan: Plan, registry: SchemaRegistry) -> Stage:
    """Describe the stage."""
    artifacts = ArtifactStore(settings.artifacts.uri)
    return Stage(STAGE, task_inputs(plan), lambda partition: ExplanationsTask(plan, registry, artifacts, partition))
