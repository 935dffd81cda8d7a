"""Ingestion, features and scoring in one process and one transaction: one hop of latency instead of three, the same records on the same topics.

A second composition root beside the command line: it wires three services and holds no rule of its own.
"""

from tidemill.services.features.service import stage as features
from tidemill.services.ingestion.service import stage as ingestion
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.scoring.service import stage as scoring
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service.stage import FUSED as STAGE
from tidemill.shared.service.stage import chain_runner

__all__ = ["STAGE", "build"]


def build(
    settings: IngestionSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the three stages in the order of the data."""
    plan = load_plan(settings.application)
    counted = metrics or Metrics(STAGE)
    stages = [
        ingestion(settings, plan, broker, registry),
        features(settings, plan, registry, counted),
        scoring(settings, plan, registry, counted, settings.ingestion.clock),
    ]
    return chain_runner(stages, plan, settings, broker, registry, counted, health)
