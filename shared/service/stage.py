"""A stage on the runner: what every service's wiring has in common."""

from collections.abc import Callable, Sequence

from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker, Reader
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.letter_size import DEFAULT_LIMIT_BYTES, LEAST_LIMIT_BYTES
from tidemill.shared.runner.ownership import Precedence
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.stage_topics import require_room
from tidemill.shared.runner.take_over import Rival
from tidemill.shared.runner.task import Stage

# Of one instance either the stages of this chain run, or the chain in one process.
FUSED, FUSIBLE = "fused", ("ingestion", "features", "scoring")


def chain_runner(
    stages: Sequence[Stage],
    plan: Plan,
    settings: ServiceSettings,
    broker: Broker,
    registry: SchemaRegistry,
    metrics: Metrics | None = None,
    health: ProcessHealth | None = None,
    clock_ms: Callable[[], int] | None = None,
    timer: Callable[[], float] | None = None,
) -> Runner:
    """Return the runner of a stage, or of several that share a process and a transaction, each reading what those before it write.

    A gathered stage has one task, others one per partition.
    """
    app = plan.application.app
    lead, fused = stages[0], len(stages) > 1
    instance = settings.instance
    rivals: list[Rival] = []
    if fused:
        rivals = [Rival(f"{app}-{stage}-{instance}", f"{app}-{stage}", instance) for stage in FUSIBLE]
    elif lead.name in FUSIBLE:
        rivals = [Rival(f"{app}-{FUSED}-{instance}", f"{app}-{FUSIBLE[0]}", f"{FUSED}-{instance}")]
    limit = letter_limit(plan, broker)
    rejected = message_codec(registry, plan.topics.rejected, "rejected")
    first = next(stream.topic for stream in plan.streams.values() if not stream.is_reference)

    def codec(stage: str) -> RecordCodec:
        return message_codec(registry, plan.topics.progress(stage), "progress")

    def dead_letters(stage: str) -> DeadLetters:
        return DeadLetters(plan.topics.rejected, stage, rejected.encode, limit)

    def precedence(reader: Reader) -> Precedence:
        return Precedence(broker, reader, codec(lead.name), app, FUSIBLE[0], lead.name, first, FUSED)

    return Runner(
        app=app,
        stages=stages,
        instance=instance,
        broker=broker,
        partitions=1 if lead.inputs.gathered else plan.application.partitions,
        codec=codec,
        dead_letters=dead_letters,
        name=FUSED if fused else None,
        rivals=rivals,
        precedence=precedence if lead.name in FUSIBLE[1:] and not fused else None,
        settings=settings.runner,
        metrics=metrics,
        health=health,
        clock_ms=clock_ms,
        timer=timer,
    )


def letter_limit(plan: Plan, broker: Broker) -> int:
    """Return what the topic of dead letters takes; raises TopicMismatchError where that is less than a letter without its original."""
    topic = plan.topics.rejected
    # A topic that is missing is `StageTopics`' to report, with every other one that is.
    limit = broker.max_message_bytes(topic) if broker.partitions(topic) else DEFAULT_LIMIT_BYTES
    require_room(topic, limit, LEAST_LIMIT_BYTES, "a dead letter with the beginning of its original")
    return limit
