"""What an A/B test promises, from the topics alone: both versions stay what they are, each entity has one arm, each label counts once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from campaigns.simulate.checks import ViolationError, schema
from campaigns.simulate.world import World
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import TopicPartition

_PARTITIONS = (0, 1)
_ENDS = ("promoted", "stepped_back", "rolled_back", "pinned", "retired")
# What is pinned serves already, and goes on under the deployment that made it the champion.
_SERVES = ("promoted", "rolled_back")
_OTHER_STAGES = ("shadow", "canary", "ab")


@dataclass(frozen=True, slots=True)
class ABTest:
    """One test, by the event that began it."""

    champion: int
    share: float


def check_ab_tests(world: World) -> int:
    """Hold every request within a test to the test; returns how many there were.

    Raises
    ------
    ViolationError
    """
    tests = ab_tests_of(_rows(world, world.plan.topics.deployments, 0, "deployment"))
    count = 0
    arms: dict[int, dict[str, set[bool]]] = defaultdict(lambda: defaultdict(set))
    for partition in _PARTITIONS:
        customers = dict(_customers(world, partition))
        variants = {row["journal_offset"]: row["variant"] for row in _rows(world, world.plan.topics.predictions, partition, "prediction")}
        for row in _rows(world, world.plan.topics.shadow_scores, partition, "shadow-score"):
            if row["stage"] != "ab":
                continue
            count += 1
            test = tests.get(row["challenger_sequence"])
            where = f"request {row['request_id']} in the A/B test of {row['challenger_version']}"
            if test is None or (row["champion_sequence"], row["share"]) != (test.champion, test.share):
                raise ViolationError(f"{where}: champion {row['champion_sequence']}, share {row['share']}; the lifecycle log says {test}")
            of_challenger = row["draw"] < row["share"]
            arms[row["challenger_sequence"]][customers[row["journal_offset"]]].add(of_challenger)
            answers = of_challenger and row["challenger_reason"] is None
            if (variants[row["journal_offset"]] == "canary") != answers:
                raise ViolationError(f"{where}: it drew {row['draw']} of {row['share']}, {variants[row['journal_offset']]} answered")
    torn = [(sequence, customer) for sequence, customers in arms.items() for customer, own in customers.items() if len(own) > 1]
    if torn:
        raise ViolationError(f"{len(torn)} customers were in both arms of a test, first {torn[0]}")
    _check_labels(world)
    return count


def ab_tests_of(events: Iterable[Mapping[str, Any]]) -> dict[int, ABTest]:
    """Return the tests of the lifecycle log by the events that began them.

    Raises
    ------
    ViolationError
        Something else was tried, or promoted beside it, before a test had ended.
    """
    tests: dict[int, ABTest] = {}
    champion, running = -1, -1
    for event in events:
        name = event["event"]
        if running >= 0 and (name in _OTHER_STAGES or (event.get("details") or {}).get("trial") == "goes on"):
            raise ViolationError(f"deployment {event['sequence']}: {name} of {event['version']} while the A/B test of event {running} runs")
        if name == "ab":
            running = event["sequence"]
            tests[running] = ABTest(champion, event["share"])
        elif name in _ENDS:
            running = -1
        if name in _SERVES:
            champion = event["sequence"]
        elif name == "retired":
            champion = -1
    return tests


def _check_labels(world: World) -> None:
    """Count the labels of both arms again, outcome by outcome."""
    outcomes = [row for partition in _PARTITIONS for row in _rows(world, world.plan.topics.outcomes, partition, "outcome") if row["stage"] == "ab"]
    for trial in _rows(world, world.plan.topics.trials, 0, "trial"):
        if trial["stage"] != "ab" or trial["slice"]:
            continue
        own = [row for row in outcomes if trial["challenger_sequence"] in (row["deployment_sequence"], row["other_sequence"]) and _within(row, trial)]
        for arm in ("challenger", "champion"):
            rows = [row for row in own if (row["draw"] < row["share"]) == (arm == "challenger") and _score(row, trial) is not None]
            # Of several classes, the arms compare how many labels are others than the first class.
            labels = [float(row["label"] != 0) if world.settings.learned else row["label"] for row in rows]
            said, mean = trial[f"{arm}_arm_labels"], trial[f"{arm}_arm_label"]
            if said > len(labels) or (said == len(labels) > 0 and abs(mean - sum(labels) / said) > 1e-9):
                raise ViolationError(
                    f"trial of block {trial['block_start']}: {said} labels of the {arm}'s arm, mean {mean}; its outcomes have {labels}"
                )


def _within(row: Mapping[str, Any], trial: Mapping[str, Any]) -> bool:
    return row["label"] is not None and trial["block_start"] <= row["request_journal_time"] < trial["block_end"]


def _score(row: Mapping[str, Any], trial: Mapping[str, Any]) -> float | None:
    """Return what the champion said, which may have answered or not."""
    champion_answered = row["model_version"] == trial["champion_version"]
    score: float | None = row["score"] if champion_answered else row["other_score"]
    return score


def _customers(world: World, partition: int) -> Iterator[tuple[int, str]]:
    vectors = world.read(TopicPartition(world.plan.topics.vectors, partition))
    codec = RecordCodec(world.registry, "vector", world.plan.vector_schema)
    for key, value in zip(vectors.keys, vectors.values, strict=True):
        yield codec.decode(value or b"")["_journal_offset"], (key or b"").decode(errors="replace")


def _rows(world: World, topic: str, partition: int, name: str) -> Iterator[dict[str, Any]]:
    codec = RecordCodec(world.registry, name, schema(name))
    for value in world.read(TopicPartition(topic, partition)).values:
        yield codec.decode(value or b"")
