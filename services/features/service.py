"""Features: reads the journal, writes one vector per asking event, keeps what has been seen of every entity."""

from concurrent.futures import ThreadPoolExecutor

from tidemill.services.features.online import OnlineWriter
from tidemill.services.features.task import FeaturesTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "features"


def build(
    settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
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
