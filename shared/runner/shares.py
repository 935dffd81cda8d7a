"""What the tasks of one partition are given in a step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidemill.shared.log.records import Records, TopicPartition


@dataclass(frozen=True, slots=True)
class Share:
    """Records for the tasks of a partition.

    Attributes
    ----------
    first
        Stage that begins the step: those before it have no part in it.
    records
        By stage, what comes from Kafka (or, of a stage that catches up, from the log).
    """

    partition: int
    first: int
    records: Mapping[int, Sequence[Records]]


def first_records(share: Mapping[int, Sequence[Records]], limit: int) -> tuple[dict[int, list[Records]], dict[int, list[Records]]]:
    """Split what a step is given, by stage, after so many records."""
    taken: dict[int, list[Records]] = {}
    rest: dict[int, list[Records]] = {}
    for stage, runs in share.items():
        for records in runs:
            piece = records[:limit]
            limit -= len(piece)
            for part, runs_by_stage in ((piece, taken), (records[len(piece) :], rest)):
                if len(part):
                    runs_by_stage.setdefault(stage, []).append(part)
    return taken, rest


def until(
    share: Mapping[int, Sequence[Records]], stage: int, ends: Mapping[TopicPartition, int]
) -> tuple[dict[int, list[Records]], dict[int, list[Records]]]:
    """Split what a step is given, by stage, behind the last offsets `ends` of one stage's inputs; the others' records are in the second part."""
    taken: dict[int, list[Records]] = {}
    rest: dict[int, list[Records]] = {}
    for number, runs in share.items():
        for records in runs:
            end = ends.get(TopicPartition(records.topic, records.partition), -1) if number == stage else -1
            behind = int(np.searchsorted(records.offsets, end, side="right"))
            for part, runs_by_stage in ((records[:behind], taken), (records[behind:], rest)):
                if len(part):
                    runs_by_stage.setdefault(number, []).append(part)
    return taken, rest
