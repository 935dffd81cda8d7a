"""Drift: reads vectors, predictions and outcomes in journal order; writes drift events and health records.

One task for all partitions. It waits for features, scoring and outcomes through their progress records, and its own progress
moves on with theirs also when there is nothing to say: the control plane waits for it.
"""

from pathlib import Path

from services.drift.task import DriftTask, task_inputs
from shared.application.planning import load_plan
from shared.avro.records import RecordCodec
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker
from shared.streaming.dead_letters import DeadLetters
from shared.streaming.runner import Runner

STAGE = "drift"
_SCHEMAS = Path(__file__).parents[2] / "schemas"


def build(settings: ServiceSettings, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: Health | None = None) -> Runner:
    """Wire the stage."""
    plan = load_plan(settings.application)
    topics = plan.topics
    progress = RecordCodec(registry, f"{topics.progress(STAGE)}-tidemill.Progress", (_SCHEMAS / "progress.avsc").read_text(encoding="utf-8"))
    rejected = RecordCodec(registry, f"{topics.rejected}-tidemill.Rejected", (_SCHEMAS / "rejected.avsc").read_text(encoding="utf-8"))
    return Runner(
        app=plan.application.app,
        stage=STAGE,
        instance=settings.instance,
        broker=broker,
        inputs=task_inputs(plan),
        partitions=1,
        task_factory=lambda _: DriftTask(plan, registry),
        codec=progress,
        dead_letters=DeadLetters(topics.rejected, STAGE, rejected.encode),
        settings=settings.runner,
        metrics=metrics,
        health=health,
    )
