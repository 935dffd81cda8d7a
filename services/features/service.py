"""Features: reads the journal, writes one vector per asking event, keeps what has been seen of every entity."""

from concurrent.futures import ThreadPoolExecutor

from services.features.online import OnlineWriter
from services.features.task import FeaturesTask, task_inputs
from shared.application.plan import Plan
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.online_store.redis_store import RedisOnlineStore
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import chain_runner
from shared.streaming.task import Stage

STAGE = "features"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    counted = metrics or Metrics(STAGE)
    return chain_runner([stage(settings, plan, registry, counted)], plan, settings, broker, registry, counted, health)


def stage(settings: ServiceSettings, plan: Plan, registry: SchemaRegistry, metrics: Metrics) -> Stage:
    """Describe the stage."""
    store = RedisOnlineStore(settings.redis.url, plan)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="online-store")

    def task(partition: int) -> FeaturesTask:
        online = OnlineWriter(store, partition, executor, metrics) if store.layouts else None
        return FeaturesTask(plan, registry, partition, online, settings.runner.state_folder / "spill")

    return Stage(STAGE, task_inputs(plan), task)
