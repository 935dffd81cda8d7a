"""Retraining: trains when asked, judges, and writes the lifecycle of models."""

from tidemill.services.retraining.processes.family_check import try_own_families_once
from tidemill.services.retraining.processes.registrar import ProcessRegistrar
from tidemill.services.retraining.processes.slots import Slots
from tidemill.services.retraining.processes.trainer import ProcessTrainer
from tidemill.services.retraining.task import Places, RetrainingTask, task_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "retraining"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    places = Places(str(settings.application.absolute()), settings.lake.uri, settings.artifacts.uri)
    folder = settings.runner.state_folder / "trainings"
    try_own_families_once(plan, settings.application, folder / "own-families")
    # The same for all incarnations of the task: a child outlives a rebalance or a retry, and must not get a twin.
    slots = Slots([ProcessTrainer(folder) for _ in range(settings.trainings.at_once)], tells_places=True)
    registrar = ProcessRegistrar(folder, plan.application.app, settings.tracking.uri)

    def task(_partition: int) -> RetrainingTask:
        return RetrainingTask(plan, registry, slots, registrar, places)

    return chain_runner([Stage(STAGE, task_inputs(plan), task)], plan, settings, broker, registry, metrics, health)
