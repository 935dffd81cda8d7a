"""Retraining: trains when asked, judges, and writes the lifecycle of models."""

from services.retraining.registrar import ProcessRegistrar
from services.retraining.task import Places, RetrainingTask, task_inputs
from services.retraining.trainer import ProcessTrainer
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "retraining"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    places = Places(str(settings.application.absolute()), settings.lake.uri, settings.artifacts.uri)
    folder = settings.runner.state_folder / "trainings"
    # One of each for all incarnations of the task: a child outlives a rebalance or a retry, and must not get a twin.
    trainer, registrar = ProcessTrainer(folder), ProcessRegistrar(folder, plan.application.app, settings.tracking.uri)

    def task(_partition: int) -> RetrainingTask:
        return RetrainingTask(plan, registry, trainer, registrar, places)

    return chain_runner([Stage(STAGE, task_inputs(plan), task)], plan, settings, broker, registry, metrics, health)
