"""Tells on `<app>-stream-ends` which streams have ended, and which go on."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tidemill.services.ingestion.domain.ingestion_step import IngestionStep
from tidemill.services.ingestion.domain.stream_ends import StreamEnds
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.records import Emission


class EndRecords:
    """The ends of the streams that a task tells of. What it knows is in the progress record, so that a restart is no restart.

    Parameters
    ----------
    partition
        Reference streams, which every task reads in full, are told by the task of partition 0.
    reference_partitions
        Partitions of reference topics; 1 where a topic is not named.
    """

    def __init__(self, plan: Plan, registry: SchemaRegistry, partition: int, reference_partitions: Mapping[str, int]) -> None:
        self._topic, self._partition = plan.topics.stream_ends, partition
        self._codec = message_codec(registry, self._topic, "stream-end")
        self._streams: dict[str, tuple[str, StreamEnds]] = {}
        for stream in plan.streams.values():
            if not stream.is_reference or partition == 0:
                own = range(reference_partitions.get(stream.topic, 1)) if stream.is_reference else (partition,)
                self._streams[stream.name] = stream.topic, StreamEnds(stream.name, frozenset(own))

    def load(self, flows: Mapping[str, Flow]) -> None:
        """Take up what the last progress record says, by topic."""
        for topic, ends in self._streams.values():
            if topic in flows:
                ends.ended, ends.is_told = set(flows[topic].ended), flows[topic].has_ended

    def absorb(self, step: IngestionStep) -> list[Emission]:
        """Take a step; returns what is told of it."""
        told = [(self._streams[part.stream.name][1], part, times) for part, times in step.events if part.stream.name in self._streams]
        said = sorted((one for ends, part, times in told for one in ends.absorb(part, times)), key=lambda one: one.place)
        if not said:
            return []
        where = {"journal_partition": self._partition, "journal_offset": 0}
        values = [self._codec.encode({"stream": one.stream, "journal_time": one.time_ms, "ended": one.ended, **where}) for one in said]
        times = np.array([one.time_ms for one in said], np.int64)
        return [Emission(self._topic, self._partition, [one.stream.encode() for one in said], values, times)]

    def into(self, flows: Mapping[str, Flow]) -> dict[str, Flow]:
        """Return what the progress record is to say of the inputs, with what is known of their ends."""
        merged = dict(flows)
        for topic, ends in self._streams.values():
            if topic in merged or ends.ended or ends.is_told:
                merged[topic] = replace(merged.get(topic, Flow()), ended=tuple(sorted(ends.ended)), has_ended=ends.is_told)
        return merged
