"""A stage on the runner: what every service's wiring has in common."""

from collections.abc import Callable
from pathlib import Path

from shared.application.plan import Plan
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.dead_letters import DeadLetters
from shared.streaming.runner import Runner
from shared.streaming.task import Task, TaskInputs

_SCHEMAS = Path(__file__).parents[2] / "schemas"


def stage_runner(
    stage: str,
    plan: Plan,
    settings: ServiceSettings,
    broker: Broker,
    registry: SchemaRegistry,
    inputs: TaskInputs,
    task_factory: Callable[[int], Task],
    metrics: Metrics | None = None,
    health: Health | None = None,
) -> Runner:
    """Return the runner of one stage of an application; a gathered stage has one task, others one per partition."""
    topics = plan.topics
    progress = RecordCodec(registry, f"{topics.progress(stage)}-tidemill.Progress", (_SCHEMAS / "progress.avsc").read_text(encoding="utf-8"))
    rejected = RecordCodec(registry, f"{topics.rejected}-tidemill.Rejected", (_SCHEMAS / "rejected.avsc").read_text(encoding="utf-8"))
    return Runner(
        app=plan.application.app,
        stage=stage,
        instance=settings.instance,
        broker=broker,
        inputs=inputs,
        partitions=1 if inputs.gathered else plan.application.partitions,
        task_factory=task_factory,
        codec=progress,
        dead_letters=DeadLetters(topics.rejected, stage, rejected.encode),
        settings=settings.runner,
        metrics=metrics,
        health=health,
    )
