"""Ingestion, features and scoring in one process and one transaction: one hop of latency instead of three, the same records on the same topics.

A second composition root beside the command line: it wires three services and holds no rule of its own.
"""

from services.features.service import stage as features
from services.ingestion.service import stage as ingestion
from services.ingestion.settings import IngestionSettings
from services.scoring.service import stage as scoring
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import FUSED as STAGE
from shared.streaming.stage import chain_runner

__all__ = ["STAGE", "build"]


def build(
    settings: IngestionSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
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
