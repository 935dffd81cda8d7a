"""What a task writes when nothing fails: the whole of its input in one step, held against what a run wrote."""

from collections.abc import Mapping

import numpy as np

from campaigns.simulate.checks import SafetyChecks, ViolationError
from tidemill.shared.log.records import Emission, Records
from tidemill.shared.runner.task import StepContext, Task

NOW = StepContext(0)


def replayed(
    task: Task, inputs: list[Records], gone: Mapping[tuple[str, int], set[int]] | None = None
) -> dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]]:
    """Keys and values that a task writes for all of its input at once, by topic and partition; what is `gone` was quarantined."""
    task.restore([])
    task.resume({}, {}, 0, -1)
    for (topic, partition), offsets in (gone or {}).items():
        task.skipped(topic, partition, np.array(sorted(offsets), np.int64))
    replayed: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]] = {}
    steps = [task.process([records for records in inputs if len(records)], NOW), task.process([], NOW)]
    for emission in (emission for step in steps for emission in step.emissions):
        _collect(replayed, emission)
    return replayed


def _collect(replayed: dict[tuple[str, int], tuple[list[bytes | None], list[bytes | None]]], emission: Emission) -> None:
    keys, values = replayed.setdefault((emission.topic, emission.partition), ([], []))
    keys.extend(emission.keys)
    values.extend(emission.values)


def chosen(records: Records, keep: np.ndarray) -> Records:
    """Return some of the records."""
    rows = np.flatnonzero(keep).tolist()
    return Records(
        records.topic, records.partition, records.offsets[rows], records.timestamps_ms[rows],
        [records.keys[row] for row in rows], [records.values[row] for row in rows],
    )  # fmt: skip


def without_quarantined(checks: SafetyChecks, stage: str, task: int, records: Records) -> Records:
    """Return what a stage did not set aside."""
    gone = checks.quarantined[stage, task].get((records.topic, records.partition), set())
    return chosen(records, np.array([offset not in gone for offset in records.offsets.tolist()], bool)) if gone else records


def differs(what: str, records: Records, expected: tuple[list[bytes | None], list[bytes | None]]) -> None:
    """Raise ViolationError where records are not what is expected."""
    if (list(records.keys), list(records.values)) != expected:
        n = min(len(records), len(expected[1]))
        first = next((row for row in range(n) if records.values[row] != expected[1][row] or records.keys[row] != expected[0][row]), n)
        raise ViolationError(f"{what}: {len(records)} records, a replay gives {len(expected[1])}; the first difference is at record {first}")


def is_prefix(what: str, records: Records, expected: tuple[list[bytes | None], list[bytes | None]]) -> None:
    """Compare with a replay of all the input there is now: it may have come a little further."""
    n = len(records)
    if len(expected[1]) < n:
        raise ViolationError(f"{what}: {n} records, a replay gives {len(expected[1])}")
    differs(what, records, (expected[0][:n], expected[1][:n]))
