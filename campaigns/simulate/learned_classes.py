"""Classes that are learned: versions know parts of one list, from its begin on, and every outcome keeps its label by name."""

from collections.abc import Sequence

import pyarrow.compute as pc

from campaigns.simulate.checks import ViolationError, schema
from campaigns.simulate.world import World
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import TopicPartition


def check_classes(world: World) -> int:
    """Return how many classes the versions know in all; 0 where they are declared.

    Raises
    ------
    ViolationError
    """
    if not world.settings.learned:
        return 0
    codec = RecordCodec(world.registry, "deployment", schema("deployment"))
    events = [codec.decode(value or b"") for value in world.read(TopicPartition(world.plan.topics.deployments, 0)).values]
    known = longest([tuple(event["classes"] or ()) for event in events if event["event"] == "registered"])
    outcomes = ColumnDecoder(world.registry, schema("outcome"))
    for partition in range(world.broker.partitions(world.plan.topics.outcomes)):
        records = world.read(TopicPartition(world.plan.topics.outcomes, partition))
        if not len(records):
            continue
        rows = outcomes.decode(records.values).batch
        nameless = pc.sum(pc.and_(rows.column("label").is_valid(), pc.invert(rows.column("label_class").is_valid()))).as_py()
        if nameless:
            raise ViolationError(f"outcomes of partition {partition}: {nameless} labels have no name")
    return len(known)


def longest(versions: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the longest list of classes, of which every other one is the begin.

    Raises
    ------
    ViolationError
    """
    known: tuple[str, ...] = ()
    for classes in versions:
        shorter, longer = sorted((known, classes), key=len)
        if longer[: len(shorter)] != shorter or len(classes) < len(known):
            raise ViolationError(f"a version with the classes {classes} came after {known}: classes are only ever added, at the end")
        known = longer
    return known
