"""Scoring times after everything has drained: each window told once, and each challenger that took too long answered for."""

from collections.abc import Iterator
from typing import Any

from campaigns.simulate.checks import ViolationError, schema
from campaigns.simulate.world import World
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.records import TopicPartition

_EVIDENCE, _BOUND = "scoring_time_evidence", "scoring_time_bound"


def check_scoring_times(world: World) -> tuple[int, int]:
    """Return how many windows were told, and how many challengers were asked to go back for their times.

    A stage of a challenger is asked to go back once, on evidence that reaches its bound, from windows that name it; the lifecycle log answers, and
    whoever has gone back on that answer is tried no more.

    Raises
    ------
    ViolationError
    """
    topics, told = world.plan.topics, set[str]()
    windows = 0
    for partition in range(world.broker.partitions(topics.scoring_times)):
        last: dict[int, int] = {}
        for window in _rows(world, topics.scoring_times, partition, "scoring-time"):
            sequence, begin = window["challenger_sequence"], window["window_start"]
            if begin <= last.get(sequence, -1) or not 0 < window["calls"] <= window["requests"]:
                raise ViolationError(f"scoring times of partition {partition}: {window} after {last}")
            last[sequence] = begin
            told.add(window["challenger_version"])
            windows += 1
    answers = {event["decision_id"]: event for event in _rows(world, topics.deployments, 0, "deployment")}
    asked = set[str]()
    for decision in _rows(world, topics.decisions, 0, "decision"):
        figures = decision["figures"]
        if _EVIDENCE not in figures:
            continue
        if decision["action"] != "step_back" or decision["version"] not in told or figures[_EVIDENCE] < figures[_BOUND]:
            raise ViolationError(f"decision {decision['sequence']}: {decision['reason']}, of windows that name {sorted(told)}, with {figures}")
        if decision["decision_id"] in asked or decision["decision_id"] not in answers:
            raise ViolationError(f"decision {decision['sequence']}: expected one answer in the lifecycle log, found {sorted(answers)}")
        asked.add(decision["decision_id"])
    if asked and not (world.scoring_clock is not None and world.scoring_clock.was_slow):
        raise ViolationError(f"decisions {sorted(asked)} on scoring times of challengers that were as fast as their champions")
    return windows, len(asked)


def _rows(world: World, topic: str, partition: int, name: str) -> Iterator[dict[str, Any]]:
    codec = RecordCodec(world.registry, name, schema(name))
    for value in world.read(TopicPartition(topic, partition)).values:
        yield codec.decode(value or b"")
