"""Ingestion: reads the raw topics; writes the journal, dead letters, duplicates, late copies, how the records come to be written otherwise, and ends.

It validates, cleans, deduplicates and sequences. Time enters the system here and nowhere else.
"""

from tidemill.services.ingestion.operator_commands import OperatorCommands
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.ingestion.sizes import Quarantine, TopicSizes
from tidemill.services.ingestion.task import IngestionTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner

STAGE = "ingestion"


def build(
    settings: IngestionSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
) -> Runner:
    """Wire the stage; the raw topics must exist, those of events with as many partitions as the application."""
    plan = load_plan(settings.application)
    return chain_runner([stage(settings, plan, broker, registry)], plan, settings, broker, registry, metrics, health)


def stage(settings: IngestionSettings, plan: Plan, broker: Broker, registry: SchemaRegistry) -> Stage:
    """Describe the stage."""
    sizes, lake = TopicSizes(plan, broker), Lake(settings.lake.uri, plan.application.app)
    reference_partitions = {stream.topic: broker.partitions(stream.topic) for stream in plan.reference_streams}

    pausing = any(stream.pauses_on_flood for stream in plan.streams.values())
    commands = OperatorCommands(plan, registry, settings.commands.secret()) if pausing else None
    limits = settings.runner
    floods = FloodLimits(limits.dead_letter_share, limits.dead_letter_window, limits.dead_letter_run)

    def task(partition: int) -> IngestionTask:
        own = settings.ingestion
        spill, quarantine = limits.state_folder / "spill", Quarantine(lake.append, lake.root)
        return IngestionTask(
            plan,
            registry,
            partition,
            own.clock,
            own.tick_ms,
            reference_partitions,
            own.step_ms,
            spill,
            sizes,
            quarantine,
            floods=floods,
            commands=commands,
        )

    return Stage(STAGE, task_inputs(plan), task)
