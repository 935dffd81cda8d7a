"""A run that has been: its journal, and where its models switched, given to the stages again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tidemill.audit.history import prediction_schema, shadow_score_schema
from tidemill.audit.run_log import RunLog
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.models.deployments import ends_a_trial

END = int(np.iinfo(np.int64).max)
_BEGINS, _ENDS = ("shadow", "canary", "ab"), ("stepped_back", "pinned")
_SWITCHES = ("promoted", "rolled_back", *_BEGINS, *_ENDS)
_PORTION = 20_000


@dataclass(frozen=True, slots=True)
class Switch:
    """A lifecycle event or a revision, and the journal offset by partition of the first request that may follow it."""

    event: Mapping[str, Any]
    offsets: Mapping[int, int]
    is_revision: bool = False


def recorded_switches(plan: Plan, log: RunLog, registry: SchemaRegistry) -> list[Switch]:
    """Return every lifecycle event and revision with the place where the run followed it: every prediction says which ones it follows.

    Events that change neither champion nor challenger, and switches of which no prediction or shadow score tells, stand as late as the ones behind
    them allow. Where partitions followed a deployment of one model and a revision of another in different orders, some intervals are not the run's.
    """
    events, partitions = log.deployments(), range(plan.application.partitions)
    followed = {partition: _first_offsets(log, registry, partition, events) for partition in partitions}
    deployments = _placed(
        events,
        {partition: firsts.deployments for partition, firsts in followed.items()},
        lambda event: event["event"] in _SWITCHES,
        is_revision=False,
    )
    revisions: list[Switch] = []
    for model in plan.models:
        own = [record for record in log.revisions() if record["model"] == model]
        revisions += _placed(own, {partition: firsts.revisions for partition, firsts in followed.items()}, lambda _: True, is_revision=True)
    switches = sorted([*deployments, *revisions], key=lambda switch: switch.offsets[0])
    latest = dict.fromkeys(partitions, END)
    for place in reversed(range(len(switches))):
        latest = {partition: min(latest[partition], switches[place].offsets[partition]) for partition in partitions}
        switches[place] = replace(switches[place], offsets=latest)
    return switches


@dataclass(frozen=True, slots=True)
class _Firsts:
    """Journal offsets of the first prediction of each model that follows each deployment and each revision."""

    deployments: dict[tuple[str, int], int]
    revisions: dict[tuple[str, int], int]


def _placed(
    events: Sequence[Mapping[str, Any]],
    firsts: Mapping[int, Mapping[tuple[str, int], int]],
    switches: Callable[[Mapping[str, Any]], bool],
    *,
    is_revision: bool,
) -> list[Switch]:
    placed: list[Switch] = []
    latest = dict.fromkeys(firsts, END)
    for event in reversed(events):
        if switches(event):
            for partition, own in firsts.items():
                latest[partition] = min(latest[partition], own.get((event["model"], event["sequence"]), END))
        placed.append(Switch(event, dict(latest), is_revision))
    return placed[::-1]


def _first_offsets(log: RunLog, registry: SchemaRegistry, partition: int, events: Sequence[Mapping[str, Any]]) -> _Firsts:
    decoder = ColumnDecoder(registry, prediction_schema())
    first_offsets = _Firsts(_stages(log, registry, partition, events), {})
    for records in log.predictions(partition):
        batch = decoder.decode(records.values).batch
        models, offsets = batch.column("model").to_pylist(), int64_ms(batch.column("journal_offset")).tolist()
        for firsts, column in ((first_offsets.deployments, "deployment_sequence"), (first_offsets.revisions, "revision")):
            for model, sequence, offset in zip(models, batch.column(column).to_pylist(), offsets, strict=True):
                if sequence is not None:
                    firsts.setdefault((model, sequence), offset)
    return first_offsets


def _stages(log: RunLog, registry: SchemaRegistry, partition: int, events: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], int]:
    """Return where the stages of challengers began, by their first shadow score, and where they ended: behind the last one."""
    decoder = ColumnDecoder(registry, shadow_score_schema())
    first, last = dict[tuple[str, int], int](), dict[tuple[str, int], int]()
    for records in log.shadow_scores(partition):
        batch = decoder.decode(records.values).batch
        rows = zip(batch.column("model").to_pylist(), batch.column("challenger_sequence").to_pylist(), strict=True)
        for key, offset in zip(rows, int64_ms(batch.column("journal_offset")).tolist(), strict=True):
            first.setdefault(key, offset)
            last[key] = offset
    tried: dict[str, int] = {}
    for event in events:
        model, sequence = str(event["model"]), int(event["sequence"])
        if event["event"] in _BEGINS:
            tried[model] = sequence
        elif ends_a_trial(event):
            began = tried.pop(model, None)
            if event["event"] in _ENDS and began is not None and (model, began) in last:
                first[model, sequence] = last[model, began] + 1
    return first


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
