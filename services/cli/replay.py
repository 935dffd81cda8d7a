"""Publishes a data set into the raw topics by availability, slice by slice, and waits until every stage has dealt with each."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from services.cli.watch import Seen, Watch
from shared.application.plan import Plan

_WAITED_FOR = ("ingestion", "features", "scoring", "outcomes", "drift", "control", "retraining")
_SLICE_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Encoded records of one raw topic in order of availability."""

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    available_ms: NDArray[np.int64]


class SliceTimeout(TimeoutError):
    """A stage did not get through a slice in time: says which, and how far it is."""


def replay(
    plan: Plan,
    bootstrap_servers: str,
    streams: Sequence[Prepared],
    watch: Watch,
    slice_ms: int,
    on_progress: Callable[[int, int, Seen], None],
) -> int:
    """Publish everything; returns the instant up to which the pipeline is complete.

    After each slice a heartbeat goes to every raw partition: nothing older will follow. The next slice begins when every stage has covered that
    instant and scoring has switched to the last deployment, so the result does not depend on the machine's speed.

    Parameters
    ----------
    on_progress
        Called while waiting with the slice's end, the records published so far, and what was seen.

    Raises
    ------
    SliceTimeout
    """
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000}
    )
    first = min(int(stream.available_ms[0]) for stream in streams)
    last = max(int(stream.available_ms[-1]) for stream in streams)
    begin = first - first % slice_ms
    at = {stream.topic: 0 for stream in streams}
    published = 0
    flush_until = max((model.label.max_delay_ms for model in plan.models.values()), default=0) + slice_ms
    while begin <= last + flush_until:
        end = begin + slice_ms
        for stream in streams:
            stop = int(np.searchsorted(stream.available_ms, end))
            for i in range(at[stream.topic], stop):
                producer.produce(stream.topic, stream.values[i], stream.keys[i], timestamp=int(stream.available_ms[i]))
                if i % 10_000 == 0:
                    producer.poll(0)
            published += stop - at[stream.topic]
            at[stream.topic] = stop
            for partition in range(plan.application.partitions):
                producer.produce(stream.topic, None, b"heartbeat", partition=partition, timestamp=end)
        if producer.flush(60):
            raise TimeoutError("the broker did not take every record within 60 s")
        _wait(plan, watch, end, partial(on_progress, end, published))
        begin = end
    return begin


def _wait(plan: Plan, watch: Watch, instant: int, on_progress: Callable[[Seen], None]) -> None:
    deadline = time.monotonic() + _SLICE_LIMIT_S
    while True:
        seen = watch.poll()
        on_progress(seen)
        missing = _behind(plan, seen, instant)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise SliceTimeout(f"not within {_SLICE_LIMIT_S:.0f} s: {missing}")


def _behind(plan: Plan, seen: Seen, instant: int) -> Mapping[str, int]:
    """Return the stages that have not covered an instant, with what they have."""
    partitions = plan.application.partitions
    # An instant itself is complete only for what lies before it.
    covered = {stage: seen.covered_ms(stage, partitions) for stage in _WAITED_FOR}
    behind = {stage: time for stage, time in covered.items() if time < instant - 1}
    head = max((int(event["sequence"]) for event in seen.deployments), default=-1)
    applied = min((progress.deployment_sequence for (stage, _), progress in seen.progress.items() if stage == "scoring"), default=-1)
    return behind if applied >= head else {**behind, "scoring (deployment)": applied}
