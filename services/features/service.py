"""Features: reads the journal, writes one vector per asking event, keeps what has been seen of every entity."""

from services.features.online import OnlineWriter
from services.features.task import FeaturesTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.online_store.store import OnlineStore
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import stage_runner

STAGE = "features"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)

    store = OnlineStore(settings.redis.url, plan.application.app)

    def task(partition: int) -> FeaturesTask:
        return FeaturesTask(plan, registry, partition, OnlineWriter(plan, store) if plan.views else None)

    return stage_runner(STAGE, plan, settings, broker, registry, task_inputs(plan), task, metrics, health)
