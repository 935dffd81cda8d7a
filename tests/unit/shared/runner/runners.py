"""Runners of the counting task, and steps of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.property.runner_tasks import APP, topics
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner

INPUT, OUTPUT, REJECTED = f"{APP}-input", f"{APP}-output", f"{APP}-rejected"


HERE = TopicPartition(INPUT, 0)


def quick(folder: Path, **changes: Any) -> RunnerSettings:
    defaults: dict[str, Any] = {"commit_interval_ms": 1, "idle_interval_ms": 1, "backoff_initial_ms": 0, "state_folder": folder}
    return RunnerSettings(**{**defaults, **changes})


def filled(keys: Sequence[str], poison: Sequence[int] = (), partitions: int = 1) -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topics(topics(APP, partitions))
    for place, key in enumerate(keys):
        broker.sink().publish(INPUT, key.encode(), b"poison" if place in poison else b"%d" % place, place, place % partitions)
    return broker


def steps(runner: Runner, count: int = 10) -> Runner:
    for _ in range(count):
        runner.step()
    return runner
