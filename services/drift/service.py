"""Drift: reads vectors, predictions and outcomes in journal order; writes drift events and health records.

One task for all partitions. It waits for features, scoring and outcomes through their progress records, and its own progress
moves on with theirs also when there is nothing to say: the control plane waits for it.
"""

from services.drift.task import DriftTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.detectors.river_adwin import check_river
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "drift"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage.

    Raises
    ------
    RuntimeError
        The installed river keeps the state of its detectors otherwise than the checkpoint expects.
    """
    check_river()
    plan = load_plan(settings.application)
    return chain_runner([Stage(STAGE, task_inputs(plan), lambda _: DriftTask(plan, registry))], plan, settings, broker, registry, metrics, health)
