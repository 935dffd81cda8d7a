"""A stage on the runner: what every service's wiring has in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.application.plan import Plan
from shared.avro.messages import message_codec
from shared.avro.registry import SchemaRegistry
from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import ServiceSettings
from shared.streaming.broker import Broker, Reader
from shared.streaming.chain import StageParts
from shared.streaming.dead_letters import DeadLetters
from shared.streaming.layout import require_room
from shared.streaming.letter_size import DEFAULT_LIMIT_BYTES, LEAST_LIMIT_BYTES
from shared.streaming.ownership import Precedence
from shared.streaming.runner import Runner
from shared.streaming.take_over import Rival
from shared.streaming.task import Task, TaskInputs

# Of one instance either the stages of this chain run, or the chain in one process.
FUSED, FUSIBLE = "fused", ("ingestion", "features", "scoring")


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as its service describes it."""

    stage: str
    inputs: TaskInputs
    task: Callable[[int], Task]


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
    return chain_runner([StageSpec(stage, inputs, task_factory)], plan, settings, broker, registry, metrics, health)


def chain_runner(
    stages: Sequence[StageSpec],
    plan: Plan,
    settings: ServiceSettings,
    broker: Broker,
    registry: SchemaRegistry,
    metrics: Metrics | None = None,
    health: Health | None = None,
    clock_ms: Callable[[], int] | None = None,
    timer: Callable[[], float] | None = None,
) -> Runner:
    """Return the runner of stages that share a process and a transaction, each reading what those before it write."""
    app = plan.application.app
    parts = [_parts(spec, plan, broker, registry) for spec in stages]
    lead, fused = parts[0], len(parts) > 1
    instance = settings.instance
    rivals: list[Rival] = []
    if fused:
        rivals = [Rival(f"{app}-{stage}-{instance}", f"{app}-{stage}", instance) for stage in FUSIBLE]
    elif lead.stage in FUSIBLE:
        rivals = [Rival(f"{app}-{FUSED}-{instance}", f"{app}-{FUSIBLE[0]}", f"{FUSED}-{instance}")]
    first = next(stream.topic for stream in plan.streams.values() if not stream.is_reference)

    def precedence(reader: Reader) -> Precedence:
        return Precedence(broker, reader, lead.codec, app, FUSIBLE[0], lead.stage, first, FUSED)

    return Runner(
        app=app,
        stage=lead.stage,
        instance=instance,
        broker=broker,
        inputs=lead.inputs,
        partitions=1 if lead.inputs.gathered else plan.application.partitions,
        task_factory=lead.task_factory,
        codec=lead.codec,
        dead_letters=lead.dead_letters,
        followers=parts[1:],
        name=FUSED if fused else None,
        rivals=rivals,
        precedence=precedence if lead.stage in FUSIBLE[1:] and not fused else None,
        settings=settings.runner,
        metrics=metrics,
        health=health,
        clock_ms=clock_ms,
        timer=timer,
    )


def _parts(spec: StageSpec, plan: Plan, broker: Broker, registry: SchemaRegistry) -> StageParts:
    topics, stage = plan.topics, spec.stage
    progress = message_codec(registry, topics.progress(stage), "progress")
    rejected = message_codec(registry, topics.rejected, "rejected")
    limit = letter_limit(plan, broker)
    letters = DeadLetters(topics.rejected, stage, rejected.encode, limit)
    return StageParts(stage, spec.inputs, spec.task, progress, letters)


def letter_limit(plan: Plan, broker: Broker) -> int:
    """Return what the topic of dead letters takes; raises LayoutError where that is less than a letter without its original."""
    topic = plan.topics.rejected
    # A topic that is missing is the layout's to report, with every other one that is.
    limit = broker.max_message_bytes(topic) if broker.partitions(topic) else DEFAULT_LIMIT_BYTES
    require_room(topic, limit, LEAST_LIMIT_BYTES, "a dead letter with the beginning of its original")
    return limit
