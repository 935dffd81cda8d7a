"""What must hold once the faults have stopped and everything has drained: the answers are those of a run in which nothing ever failed."""

from dataclasses import dataclass

import numpy as np

from campaigns.simulate.ab_tests import check_ab_tests
from campaigns.simulate.answers import check_answers
from campaigns.simulate.checks import SafetyChecks, ViolationError
from campaigns.simulate.explanations import check_explanations
from campaigns.simulate.replays import NOW, chosen, differs, is_prefix, replayed, without_quarantined
from campaigns.simulate.scoring_times import check_scoring_times
from campaigns.simulate.traffic import GOOD
from campaigns.simulate.world import World
from tidemill.services.drift.task import DriftTask
from tidemill.services.features.task import FeaturesTask
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.online_store.packing import HEAD

_PARTITIONS = (0, 1)


@dataclass(frozen=True, slots=True)
class EndCounts:
    """What was held against an oracle at the end of a run.

    Attributes
    ----------
    tried, answered, compared
        How many requests a challenger scored too, how many of them it answered, and how many were within an A/B test.
    explained
        How many predictions have contributions.
    timed, slow
        How many windows of scoring times were told, and how many challengers were asked to go back for theirs.
    """

    tried: int = 0
    answered: int = 0
    compared: int = 0
    explained: int = 0
    timed: int = 0
    slow: int = 0


def check_end(world: World, checks: SafetyChecks, clock_jumped: bool) -> EndCounts:
    """Hold a drained system against fault-free replays of its journal.

    Raises
    ------
    ViolationError
    """
    tried = answered = explained = 0
    _check_requests(world, checks)
    for partition in _PARTITIONS:
        _check_vectors(world, checks, partition)
        _check_others_untouched(world, checks, partition, clock_jumped)
        scored, by_canary = check_answers(world, partition)
        tried, answered = tried + scored, answered + by_canary
        _check_outcomes(world, checks, partition)
        if world.settings.explains:
            explained += check_explanations(world, checks, partition)
        _check_online_store(world, checks, partition)
        _check_lake(world, checks, partition)
    _check_drift(world, checks)
    timed, slow = check_scoring_times(world)
    return EndCounts(tried, answered, check_ab_tests(world), explained, timed, slow)


def _check_requests(world: World, checks: SafetyChecks) -> None:
    wanted = {made.request for records in world.published.values() for _, made in records if made.request}
    missing = sorted(request for request in wanted if not all((request, model) in checks.answered for model in world.plan.models))
    if missing:
        raise ViolationError(f"{len(missing)} of {len(wanted)} good requests have no prediction: {missing[:5]}")


def _check_vectors(world: World, checks: SafetyChecks, partition: int) -> None:
    topics = world.plan.topics
    journal = without_quarantined(checks, "features", partition, world.read(TopicPartition(topics.journal, partition)))
    expected = replayed(FeaturesTask(world.plan, world.registry, partition), [journal])
    vectors = world.read(TopicPartition(topics.vectors, partition))
    differs(f"vectors of partition {partition}", vectors, expected.get((topics.vectors, partition), ([], [])))


def _check_others_untouched(world: World, checks: SafetyChecks, partition: int, clock_jumped: bool) -> None:
    """Vectors of entities that no hostile record names are those of a journal without the hostile records."""
    topics = world.plan.topics
    journal = world.read(TopicPartition(topics.journal, partition))
    batch = JournalDecoder(world.plan, world.registry).decode(journal)
    gone = checks.quarantined["features", partition].get((journal.topic, partition), set())
    keep = np.array([offset not in gone for offset in journal.offsets.tolist()], bool)
    for name, group in batch.groups.items():
        topic = world.plan.streams[name].topic
        sources = zip(group.columns.column("_source_partition").to_pylist(), group.columns.column("_source_offset").to_pylist(), strict=True)
        late = group.columns.column("_late").to_pylist()
        for row, (source, offset), is_late in zip(group.rows.tolist(), sources, late, strict=True):
            kind, made = world.published[TopicPartition(topic, source)][offset]
            keep[row] &= kind in GOOD or made.request is not None
            if is_late and kind in GOOD and not clock_jumped:
                raise ViolationError(f"{topic}:{source}@{offset}: a record in time was taken for a late one")
    expected = replayed(FeaturesTask(world.plan, world.registry, partition), [chosen(journal, keep)]).get((topics.vectors, partition), ([], []))
    decoder = ColumnDecoder(world.registry, world.plan.vector_schema)
    good = set(expected[1])
    asked = {value for value, row in _by_request(decoder, expected[1]).items() if row in good}
    vectors = _by_request(decoder, list(world.read(TopicPartition(topics.vectors, partition)).values))
    without = _by_request(decoder, expected[1])
    for request in sorted(asked):
        if vectors.get(request) != without[request]:
            raise ViolationError(f"the vector of {request} (partition {partition}) is not what it is without the hostile records")


def _by_request(decoder: ColumnDecoder, values: list[bytes | None]) -> dict[str, bytes | None]:
    if not values:
        return {}
    return dict(zip(decoder.decode(values).batch.column("_request_id").to_pylist(), values, strict=True))


def _inputs(world: World, topics: list[str]) -> list[Records]:
    places = [TopicPartition(topic, number) for topic in topics for number in range(world.broker.partitions(topic))]
    return [world.read(place) for place in places]


def _check_outcomes(world: World, checks: SafetyChecks, partition: int) -> None:
    topics = world.plan.topics
    names = (topics.journal, topics.predictions, topics.shadow_scores, topics.progress("scoring"))
    inputs = [without_quarantined(checks, "outcomes", partition, world.read(TopicPartition(topic, partition))) for topic in names]
    task = OutcomesTask(world.plan, world.registry, partition)
    expected = replayed(task, inputs, checks.quarantined["outcomes", partition]).get((topics.outcomes, partition), ([], []))
    is_prefix(f"outcomes of partition {partition}", world.read(TopicPartition(topics.outcomes, partition)), expected)


def _check_drift(world: World, checks: SafetyChecks) -> None:
    topics = world.plan.topics
    read = (topics.vectors, topics.predictions, topics.outcomes, topics.schema_changes, topics.stream_ends)
    names = [*read, *(topics.progress(stage) for stage in ("features", "scoring", "outcomes", "ingestion"))]
    inputs = [without_quarantined(checks, "drift", 0, records) for records in _inputs(world, names)]
    expected = replayed(DriftTask(world.plan, world.registry), inputs, checks.quarantined["drift", 0])
    for topic in (topics.drift, topics.health, topics.trials):
        is_prefix(topic, world.read(TopicPartition(topic, 0)), expected.get((topic, 0), ([], [])))


def _check_lake(world: World, checks: SafetyChecks, partition: int) -> None:
    """Every row is there once, and all of them but the last few."""
    for (table, writer), offsets in world.lake.rows.items():
        if len(set(offsets)) != len(offsets):
            raise ViolationError(f"{table} of {writer}: offsets twice among {offsets}")
        topic, _, number = writer.rpartition(":")
        if int(number) == partition and not table.startswith("journal"):
            there = without_quarantined(checks, "archive", partition, world.read(TopicPartition(topic, partition))).offsets.tolist()
            if offsets != there[: len(offsets)]:
                raise ViolationError(f"{table} of {writer}: rows {offsets} are not the topic's first {len(offsets)}")


def _check_online_store(world: World, checks: SafetyChecks, partition: int) -> None:
    """The store holds, for every entity, what a fresh fold of the journal up to the offset beside the value gives."""
    topics = world.plan.topics
    journal = without_quarantined(checks, "features", partition, world.read(TopicPartition(topics.journal, partition)))
    task = FeaturesTask(world.plan, world.registry, partition)
    core = task._core  # noqa: SLF001 - the state itself is what is compared
    written: dict[int, list[tuple[str, str, int, bytes]]] = {}
    homes = {entity: layout for entity, layout in world.store().layouts.items()}
    for (_, entity, digest, key), blob in world.memory.values.items():
        if digest == homes[entity].digest:
            offset, time_ms, _ = HEAD.unpack_from(blob)
            written.setdefault(offset, []).append((entity, key, time_ms, blob[HEAD.size :]))
    begin = 0
    for offset in sorted({*written, int(journal.offsets[-1]) + 1 if len(journal) else 0}):
        end = int(np.searchsorted(journal.offsets, offset))
        if end > begin:
            task.process([journal[begin:end]], NOW)
            begin = end
        for entity, key, time_ms, blob in written.get(offset, ()):
            if key in set(core.known(entity)):
                values = np.frombuffer(blob, "<f8")
                expected = core.read(entity, [key], time_ms)[0]
                if not np.array_equal(values, expected, equal_nan=True):
                    raise ViolationError(f"online store, {entity} {key} as of {offset}: {values.tolist()}, a rebuild gives {expected.tolist()}")
    for entity in homes:
        there = {key for (_, name, digest, key) in world.memory.values if name == entity and digest == homes[entity].digest}
        if missing := sorted(set(core.known(entity)) - there):
            raise ViolationError(f"online store: {len(missing)} of {len(core.known(entity))} {entity}s are missing: {missing[:5]}")
