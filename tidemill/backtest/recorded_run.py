"""A run that has been: its journal, and where its models switched, given to the stages again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidemill.audit.history import prediction_schema
from tidemill.audit.run_log import RunLog
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Records

END = int(np.iinfo(np.int64).max)
_SWITCHES = ("promoted", "rolled_back")
_PORTION = 20_000


@dataclass(frozen=True, slots=True)
class Switch:
    """A lifecycle event, and the journal offset by partition of the first request that may follow it."""

    event: Mapping[str, Any]
    offsets: Mapping[int, int]


def recorded_switches(plan: Plan, log: RunLog, registry: SchemaRegistry) -> list[Switch]:
    """Return every lifecycle event with the place where the run followed it: every prediction says which deployment it follows.

    Events that change no champion, and switches of which no prediction tells, stand as late as the ones behind them allow.
    """
    events, partitions = log.deployments(), range(plan.application.partitions)
    firsts = {partition: _first_offsets(log, registry, partition) for partition in partitions}
    found: list[Switch] = []
    latest = dict.fromkeys(partitions, END)
    for event in reversed(events):
        if event["event"] in _SWITCHES:
            for partition in partitions:
                followed = [
                    offset for (model, sequence), offset in firsts[partition].items() if model == event["model"] and sequence >= event["sequence"]
                ]
                latest[partition] = min(latest[partition], *followed) if followed else latest[partition]
        found.append(Switch(event, dict(latest)))
    return found[::-1]


def _first_offsets(log: RunLog, registry: SchemaRegistry, partition: int) -> dict[tuple[str, int], int]:
    """Return the journal offset of the first prediction of each model that follows each deployment."""
    decoder = ColumnDecoder(registry, prediction_schema())
    found: dict[tuple[str, int], int] = {}
    for records in log.predictions(partition):
        batch = decoder.decode(records.values).batch
        models, sequences = batch.column("model").to_pylist(), batch.column("deployment_sequence").to_pylist()
        for model, sequence, offset in zip(models, sequences, int64_ms(batch.column("journal_offset")).tolist(), strict=True):
            found.setdefault((model, sequence), offset)
    return found


class JournalPieces:
    """The journals of all partitions, given up to one offset after the other.

    Parameters
    ----------
    give
        Takes a portion of one partition.
    """

    def __init__(self, log: RunLog, partitions: Sequence[int], give: Callable[[Records], None]) -> None:
        self._give = give
        self._portions: dict[int, Iterator[Records]] = {partition: _portions(log.journal(partition)) for partition in partitions}
        self._rest: dict[int, Records] = {}

    def give_until(self, offsets: Mapping[int, int], each: Callable[[Records], None]) -> None:
        """Give every record below an offset of its partition; `each` is called after each portion."""
        for partition, end in offsets.items():
            while (records := self._next(partition)) is not None:
                count = int(np.searchsorted(records.offsets, end))
                if count:
                    self._give(records[:count])
                    each(records[:count])
                if count < len(records):
                    self._rest[partition] = records[count:]
                    break

    def _next(self, partition: int) -> Records | None:
        return self._rest.pop(partition, None) or next(self._portions[partition], None)


def _portions(runs: Iterator[Records]) -> Iterator[Records]:
    for records in runs:
        for begin in range(0, len(records), _PORTION):
            yield records[begin : begin + _PORTION]
