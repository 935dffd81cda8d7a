"""Drift: reads vectors, predictions, outcomes, changes of schemas and ends of streams in journal order; writes drift events and health records.

One task for all partitions. It waits for ingestion, features, scoring and outcomes through their progress records, and its own progress
moves on with theirs also when there is nothing to say: the control plane waits for it.
"""

from tidemill.services.drift.task import DriftTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.detectors.river_check import check_river
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "drift"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
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
