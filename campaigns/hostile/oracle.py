"""What must be so after an attack, found from the topics alone."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from campaigns.hostile.messages import GOOD_ACCOUNTS
from tidemill.audit.history import RunHistory, decoded
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import TICK, JournalBatch, JournalDecoder, JournalGroup
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.dead_letters.letters import Letter
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.heartbeat import is_heartbeat
from tidemill.shared.log.records import TopicPartition

_GOOD = frozenset(account.encode() for account in GOOD_ACCOUNTS)
_SHOWN = 5


@dataclass(slots=True)
class Verdict:
    """What was found.

    Attributes
    ----------
    problems
        What is not as it must be; empty when all is.
    """

    raw: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    good: int = 0
    vectors_compared: int = 0
    entities_compared: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def judge(
    plan: Plan,
    registry: SchemaRegistry,
    history: RunHistory,
    letters: list[Letter],
    good: Mapping[str, Mapping[str, Any]],
    answers: Counter[str],
    raw: int,
) -> Verdict:
    """Hold a run against what was sent.

    Every raw record is accounted for; every good one is accepted as it was sent, is not late, and has one answer; vectors and state of the good
    accounts have the bits that a fold over their own records alone gives.
    """
    own = [letter for letter in letters if letter.record["stage"] == "ingestion"]
    verdict = Verdict(raw, history.accepted, len(own), history.duplicates, len(good))
    verdict.reasons = dict(Counter(f"{letter.record['stage']}: {letter.record['reason']}" for letter in letters).most_common())
    if raw != history.accepted + len(own) + history.duplicates:
        verdict.problems.append(f"{raw} raw records, {history.accepted} accepted + {len(own)} rejected + {history.duplicates} duplicates")
    missing = [name for name in good if answers[name] == 0]
    doubled = [name for name in good if answers[name] > 1]
    if missing or doubled:
        verdict.problems.append(f"{len(missing)} good payments without answer ({missing[:_SHOWN]}), {len(doubled)} with several ({doubled[:_SHOWN]})")
    # A label out of its domain is refused where labels are joined; nothing else may be refused so late.
    others = [letter for letter in letters if letter.record["stage"] != "ingestion" and letter.record["reason"] != "invalid_label"]
    if others:
        verdict.problems.append(
            f"{len(others)} records set aside behind ingestion, first: {others[0].record['stage']} {others[0].record['detail'][:200]}"
        )
    _journal(plan, registry, history, good, verdict)
    _bits(plan, registry, history, verdict)
    return verdict


def raw_records(plan: Plan, broker: Broker) -> int:
    """Return how many raw records the tasks have to account for: every one of an event stream once, a reference row in every partition.

    Heartbeats do not count. Any other null value deletes a row of a reference stream, and is a dead letter of a stream of events.
    """
    reader, count = broker.reader(), 0
    try:
        for stream in plan.streams.values():
            times = plan.application.partitions if stream.is_reference else 1
            for partition in range(broker.partitions(stream.topic)):
                for records in reader.read(TopicPartition(stream.topic, partition), 0):
                    count += times * sum(not is_heartbeat(key, value) for key, value in zip(records.keys, records.values, strict=True))
    finally:
        reader.close()
    return count


def _journal(plan: Plan, registry: SchemaRegistry, history: RunHistory, good: Mapping[str, Mapping[str, Any]], verdict: Verdict) -> None:
    decoder, seen, wrong = JournalDecoder(plan, registry), Counter[str](), []
    names = ["_event_id", "_late", *sorted({name for sent in good.values() for name in sent} - {"paid_at"})]
    for runs in history.journal.values():
        for records in runs:
            group = decoder.decode(records).groups.get("payments")
            # Attackers' times may lie beyond any date, which no Python object holds: they are not compared.
            for row in group.columns.select(names).to_pylist() if group is not None else ():
                sent = good.get(row["_event_id"])
                if sent is None:
                    continue
                seen[row["_event_id"]] += 1
                kept = {name: row[name] for name in sent if name != "paid_at"}
                if kept != {name: value for name, value in sent.items() if name != "paid_at"} or row["_late"]:
                    wrong.append(f"{json.dumps(sent)} became {kept}, late {row['_late']}")
    if seen != Counter(dict.fromkeys(good, 1)):
        verdict.problems.append(f"{len(good)} good payments were sent, {len(seen)} are in the journal, {sum(seen.values())} times")
    if wrong:
        verdict.problems.append(f"{len(wrong)} good payments are not in the journal as they were sent, first: {wrong[0]}")


def _bits(plan: Plan, registry: SchemaRegistry, history: RunHistory, verdict: Verdict) -> None:
    """Fold the journal twice, whole and without the attackers, and compare with what the run wrote."""
    decoder = JournalDecoder(plan, registry)
    for partition, runs in history.journal.items():
        whole, alone = FeaturesCore(plan), FeaturesCore(plan)
        made = []
        for records in runs:
            batch = decoder.decode(records)
            whole.process(batch)
            made.append(alone.process(_without_attackers(batch)))
        # Keys of the vectors are the accounts.
        written = decoded(registry, plan.vector_schema, {partition: history.vectors[partition]})
        keys = [key for records in history.vectors[partition] for key in records.keys]
        live = written.filter(pa.array([key in _GOOD for key in keys], pa.bool_()))
        expected = pa.Table.from_batches(made)
        verdict.vectors_compared += live.num_rows
        _compare(partition, live, expected, verdict)
        accounts = sorted({key.decode() for key in keys if key in _GOOD})
        latest = int(max(records.timestamps_ms.max() for records in runs)) if runs else 0
        values = [core.read("account", accounts, latest).view(np.int64) for core in (whole, alone)]
        verdict.entities_compared += len(accounts)
        if different := np.flatnonzero((values[0] != values[1]).any(axis=1)).tolist():
            verdict.problems.append(f"partition {partition}: the state of {len(different)} accounts differs, first {accounts[different[0]]}")


def _compare(partition: int, live: pa.Table, expected: pa.Table, verdict: Verdict) -> None:
    if live.num_rows != expected.num_rows:
        verdict.problems.append(f"partition {partition}: {expected.num_rows} vectors of good accounts expected, {live.num_rows} written")
        return
    for name in expected.schema.names:
        first, second = _bits_of(live.column(name)), _bits_of(expected.column(name))
        different = [i for i, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
        if different:
            i = different[0]
            verdict.problems.append(f"partition {partition}: {name} differs in {len(different)} vectors, first {first[i]!r} for {second[i]!r}")


def _bits_of(column: pa.ChunkedArray) -> list[Any]:
    values = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    if pa.types.is_floating(column.type):
        return [None if value is None else np.float64(value).tobytes() for value in values]
    return list(values)


def _without_attackers(batch: JournalBatch) -> JournalBatch:
    keep = np.array([index == TICK or key in _GOOD for index, key in zip(batch.stream_index.tolist(), batch.keys, strict=True)], np.bool_)
    place = np.cumsum(keep) - 1
    groups = {}
    for name, group in batch.groups.items():
        chosen = keep[group.rows]
        if chosen.any():
            groups[name] = JournalGroup(place[group.rows[chosen]], group.columns.filter(pa.array(chosen)))
    keys = [key for key, kept in zip(batch.keys, keep.tolist(), strict=True) if kept]
    return JournalBatch(batch.partition, batch.offsets[keep], batch.journal_time_ms[keep], batch.stream_index[keep], keys, groups)
