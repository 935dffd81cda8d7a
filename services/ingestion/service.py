"""Ingestion: reads the raw topics; writes the journal, dead letters, duplicates and late copies.

It validates, cleans, deduplicates and sequences. Time enters the system here and nowhere else.
"""

from services.ingestion.settings import IngestionSettings
from services.ingestion.sizes import Quarantine, TopicSizes
from services.ingestion.task import IngestionTask, task_inputs
from shared.application.plan import Plan
from shared.application.planning import load_plan
from shared.avro.registry import SchemaRegistry
from shared.lake.tables import Lake
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.streaming.broker import Broker
from shared.streaming.runner import Runner
from shared.streaming.stage import StageSpec, chain_runner

STAGE = "ingestion"


def build(
    settings: IngestionSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None
) -> Runner:
    """Wire the stage; the raw topics must exist, those of events with as many partitions as the application."""
    plan = load_plan(settings.application)
    return chain_runner([stage(settings, plan, broker, registry)], plan, settings, broker, registry, metrics, health)


def stage(settings: IngestionSettings, plan: Plan, broker: Broker, registry: SchemaRegistry) -> StageSpec:
    """Describe the stage."""
    sizes, lake = TopicSizes(plan, broker), Lake(settings.lake.uri, plan.application.app)
    reference_partitions = {stream.topic: broker.partitions(stream.topic) for stream in plan.reference_streams}

    def task(partition: int) -> IngestionTask:
        own = settings.ingestion
        spill = settings.runner.state_folder / "spill"
        return IngestionTask(
            plan, registry, partition, own.clock, own.tick_ms, reference_partitions, own.step_ms, spill, sizes, Quarantine(lake.append, lake.root)
        )

    return StageSpec(STAGE, task_inputs(plan), task)
