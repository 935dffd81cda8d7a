"""What must hold once the faults have stopped and everything has drained: the answers are those of a run in which nothing ever failed."""

from collections.abc import Mapping

import numpy as np

from campaigns.simulate.ab_tests import check_ab_tests
from campaigns.simulate.answers import check_answers
from campaigns.simulate.checks import SafetyChecks, ViolationError
from campaigns.simulate.traffic import GOOD
from campaigns.simulate.world import World
from tidemill.services.drift.task import DriftTask
from tidemill.services.features.task import FeaturesTask
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.online_store.packing import HEAD
from tidemill.shared.runner.task import StepContext, Task

_NOW = StepContext(0)
_PARTITIONS = (0, 1)


def check_end(world: World, checks: SafetyChecks, clock_jumped: bool) -> tuple[int, int, int]:
    """Hold a drained system against fault-free replays of its journal.

    Returns how many requests had a challenger, how many of them it answered, and how many were within an A/B test.

    Raises
    ------
    ViolationError
    """
    tried = answered = 0
    _check_requests(world, checks)
    for partition in _PARTITIONS:
        _check_vectors(world, checks, partition)
        _check_others_untouched(world, checks, partition, clock_jumped)
        scored, by_canary = check_answers(world, partition)
        tried, answered = tried + scored, answered + by_canary
        _check_outcomes(world, checks, partition)
        _check_online_store(world, checks, partition)
        _check_lake(world, checks, partition)
    _check_drift(world, checks)
    return tried, answered, check_ab_tests(world)


def _check_requests(world: World, checks: SafetyChecks) -> None:
    wanted = {made.request for records in world.published.values() for _, made in records if made.request}
    missing = sorted(request for request in wanted if not all((request, model) in checks.answered for model in world.plan.models))
    if missing:
        raise ViolationError(f"{len(missing)} of {len(wanted)} good requests have no prediction: {missing[:5]}")


def _replayed(
    task: Task, inputs: list[Records], gone: Mapping[tuple[str, int], set[int]] | None = None
) -> dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]]:
    """Keys and values that a task writes for all of its input at once, by topic and partition; what is `gone` was quarantined."""
    task.restore([])
    task.resume({}, {}, 0, -1)
    for (topic, partition), offsets in (gone or {}).items():
        task.skipped(topic, partition, np.array(sorted(offsets), np.int64))
    replayed: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]] = {}
    steps = [task.process([records for records in inputs if len(records)], _NOW), task.process([], _NOW)]
    for emission in (emission for step in steps for emission in step.emissions):
        _collect(replayed, emission)
    return replayed


def _collect(replayed: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]], emission: Emission) -> None:
    keys, values = replayed.setdefault((emission.topic, emission.partition), ([], []))
    keys.extend(emission.keys)
    values.extend(emission.values)


def _chosen(records: Records, keep: np.ndarray) -> Records:
    rows = np.flatnonzero(keep).tolist()
    return Records(
        records.topic, records.partition, records.offsets[rows], records.timestamps_ms[rows],
        [records.keys[row] for row in rows], [records.values[row] for row in rows],
    )  # fmt: skip


def _without_quarantined(checks: SafetyChecks, stage: str, task: int, records: Records) -> Records:
    gone = checks.quarantined[stage, task].get((records.topic, records.partition), set())
    return _chosen(records, np.array([offset not in gone for offset in records.offsets.tolist()], bool)) if gone else records


def _differs(what: str, records: Records, expected: tuple[list[bytes | None], list[bytes | None]]) -> None:
    if (list(records.keys), list(records.values)) != expected:
        n = min(len(records), len(expected[1]))
        first = next((row for row in range(n) if records.values[row] != expected[1][row] or records.keys[row] != expected[0][row]), n)
        raise ViolationError(f"{what}: {len(records)} records, a replay gives {len(expected[1])}; the first difference is at record {first}")


def _check_vectors(world: World, checks: SafetyChecks, partition: int) -> None:
    topics = world.plan.topics
    journal = _without_quarantined(checks, "features", partition, world.read(TopicPartition(topics.journal, partition)))
    expected = _replayed(FeaturesTask(world.plan, world.registry, partition), [journal])
    vectors = world.read(TopicPartition(topics.vectors, partition))
    _differs(f"vectors of partition {partition}", vectors, expected.get((topics.vectors, partition), ([], [])))


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
    expected = _replayed(FeaturesTask(world.plan, world.registry, partition), [_chosen(journal, keep)]).get((topics.vectors, partition), ([], []))
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
    inputs = [_without_quarantined(checks, "outcomes", partition, world.read(TopicPartition(topic, partition))) for topic in names]
    task = OutcomesTask(world.plan, world.registry, partition)
    expected = _replayed(task, inputs, checks.quarantined["outcomes", partition]).get((topics.outcomes, partition), ([], []))
    _prefix(f"outcomes of partition {partition}", world.read(TopicPartition(topics.outcomes, partition)), expected)


def _check_drift(world: World, checks: SafetyChecks) -> None:
    topics = world.plan.topics
    read = (topics.vectors, topics.predictions, topics.outcomes, topics.schema_changes)
    names = [*read, *(topics.progress(stage) for stage in ("features", "scoring", "outcomes", "ingestion"))]
    inputs = [_without_quarantined(checks, "drift", 0, records) for records in _inputs(world, names)]
    expected = _replayed(DriftTask(world.plan, world.registry), inputs, checks.quarantined["drift", 0])
    for topic in (topics.drift, topics.health, topics.trials):
        _prefix(topic, world.read(TopicPartition(topic, 0)), expected.get((topic, 0), ([], [])))


def _prefix(what: str, records: Records, expected: tuple[list[bytes | None], list[bytes | None]]) -> None:
    """Compare with a replay of all the input there is now: it may have come a little further."""
    n = len(records)
    if len(expected[1]) < n:
        raise ViolationError(f"{what}: {n} records, a replay gives {len(expected[1])}")
    _differs(what, records, (expected[0][:n], expected[1][:n]))


def _check_lake(world: World, checks: SafetyChecks, partition: int) -> None:
    """Every row is there once, and all of them but the last few."""
    for (table, writer), offsets in world.lake.rows.items():
        if len(set(offsets)) != len(offsets):
            raise ViolationError(f"{table} of {writer}: offsets twice among {offsets}")
        topic, _, number = writer.rpartition(":")
        if int(number) == partition and not table.startswith("journal"):
            there = _without_quarantined(checks, "archive", partition, world.read(TopicPartition(topic, partition))).offsets.tolist()
            if offsets != there[: len(offsets)]:
                raise ViolationError(f"{table} of {writer}: rows {offsets} are not the topic's first {len(offsets)}")


def _check_online_store(world: World, checks: SafetyChecks, partition: int) -> None:
    """The store holds, for every entity, what a fresh fold of the journal up to the offset beside the value gives."""
    topics = world.plan.topics
    journal = _without_quarantined(checks, "features", partition, world.read(TopicPartition(topics.journal, partition)))
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
            task.process([journal[begin:end]], _NOW)
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
