"""Explanations after everything has drained: of each answer one, to the bits of a stage that nothing ever happened to."""

from campaigns.simulate.checks import SafetyChecks, ViolationError, schema
from campaigns.simulate.process import EXPLANATIONS
from campaigns.simulate.replays import differs, replayed, without_quarantined
from campaigns.simulate.world import World
from tidemill.services.explanations.task import ExplanationsTask
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import TopicPartition

_FALLBACK, _NO_VECTOR = "fallback", "vector"


def check_explanations(world: World, checks: SafetyChecks, partition: int) -> int:
    """Hold a partition's explanations against its predictions and against a replay; returns how many have contributions.

    Each prediction that the stage has not set aside has one, in the predictions' order. Those of the fallback have no contributions and say so, and
    so do those whose vector the stage has set aside.

    Raises
    ------
    ViolationError
    """
    topics = world.plan.topics
    names = (topics.vectors, topics.predictions, topics.progress("features"), topics.progress("scoring"))
    inputs = [without_quarantined(checks, EXPLANATIONS, partition, world.read(TopicPartition(topic, partition))) for topic in names]
    explanations = world.read(TopicPartition(topics.explanations, partition))
    task = ExplanationsTask(world.plan, world.registry, world.artifacts, partition)
    expected = replayed(task, inputs, checks.quarantined[EXPLANATIONS, partition]).get((topics.explanations, partition), ([], []))
    differs(f"explanations of partition {partition}", explanations, expected)
    predictions = inputs[1]
    if len(explanations) != len(predictions):
        raise ViolationError(f"partition {partition}: {len(explanations)} explanations of {len(predictions)} predictions")
    if not len(explanations):
        return 0
    own = ColumnDecoder(world.registry, schema("explanation")).decode(explanations.values).batch
    answers = ColumnDecoder(world.registry, schema("prediction")).decode(predictions.values).batch
    vectors = ColumnDecoder(world.registry, world.plan.vector_schema).decode(inputs[0].values).batch
    there = set(int64_ms(vectors.column("_journal_offset")).tolist())
    requests, variants = (answers.column(name).to_pylist() for name in ("request_id", "variant"))
    explained, reasons = (own.column(name).to_pylist() for name in ("request_id", "not_explained"))
    offsets = int64_ms(answers.column("journal_offset")).tolist()
    for request, variant, offset, told, reason in zip(requests, variants, offsets, explained, reasons, strict=True):
        why = _FALLBACK if variant == "default" else None if offset in there else _NO_VECTOR
        if (request, why) != (told, reason):
            raise ViolationError(f"partition {partition}: expected {request} to be explained, or not for {why}; found {told}, {reason}")
    return sum(reason is None for reason in reasons)
