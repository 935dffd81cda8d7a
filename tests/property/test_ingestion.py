"""The journal is a function of the raw topics: any batching and any restart give the same bytes, and every record is accounted for."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.flow import Flow
from tidemill.shared.log.heartbeat import END_OF_STREAM_KEY, HEARTBEAT_KEY
from tidemill.shared.log.records import Records, StateEntry, TopicPartition
from tidemill.shared.runner.task import StepContext

ROOT = Path(__file__).parents[2]
START, SLICE = 1_357_000_000_000, 3_600_000
FLIGHTS = load_plan(ROOT / "examples" / "flights")
# Copies of arrivals are recognised for less than the data spans, so that some come too late.
WITHIN = {"flights-departures": FLIGHTS.streams["departures"].deduplicate_within_ms, "flights-arrivals": 2 * SLICE // 3}
PLAN = replace(
    FLIGHTS, streams={**FLIGHTS.streams, "arrivals": replace(FLIGHTS.streams["arrivals"], deduplicate_within_ms=WITHIN["flights-arrivals"])}
)
JOURNAL = TopicPartition(PLAN.topics.journal, 0)
INPUTS = [TopicPartition("flights-departures", 0), TopicPartition("flights-arrivals", 0), *(TopicPartition("flights-weather", p) for p in (0, 1))]


@dataclass
class RawItem:
    time_ms: int
    value: bytes | None
    ends: bool = False

    @property
    def key(self) -> bytes:
        return b"k" if self.value is not None else END_OF_STREAM_KEY if self.ends else HEARTBEAT_KEY


def event(place: TopicPartition, number: int, time_ms: int) -> bytes:
    if place.topic == "flights-weather":
        return json.dumps({"origin": f"o{number % 3}", "observed": time_ms - 1, "temp": 1.0 * number}).encode()
    common = {"flight_id": f"f{number}", "carrier": "UA", "origin": "EWR", "dest": "IAH"}
    if place.topic == "flights-arrivals":
        return json.dumps({**common, "actual_arrival": time_ms, "arr_delay": 3.0}).encode()
    return json.dumps(
        {**common, "scheduled_departure": time_ms, "flight": 1, "distance": 100.0, "local_minute": 60, "weekday": number % 7},
    ).encode()


def broken(value: bytes) -> bytes:
    return value[: len(value) // 2]


@st.composite
def raw_topics(draw: st.DrawFn) -> dict[TopicPartition, list[RawItem]]:
    """Raw topics in slices; ties, records on the very instant, duplicates, late, broken, backwards.

    Each slice ends with a heartbeat of one common time, which may say that the partition has ended: but for the last, which need not be released.
    """
    topics: dict[TopicPartition, list[RawItem]] = {place: [] for place in INPUTS}
    slices = draw(st.integers(1, 3))
    for number in range(slices):
        begin = START + number * SLICE
        for place in INPUTS:
            steps = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 9)), max_size=6))
            times = [begin + step * SLICE // 3 for step, _, _ in steps]
            if draw(st.integers(0, 4)):
                times.sort()
            for time_ms, (_, identity, kind) in zip(times, steps, strict=True):
                value = event(place, identity, time_ms - (3 * SLICE if kind == 0 else 0))
                topics[place].append(RawItem(time_ms, broken(value) if kind == 1 else value))
            topics[place].append(RawItem(begin + SLICE, None, ends=number + 1 < slices and draw(st.booleans())))
    return topics


@dataclass
class Log:
    """Committed outputs: (value, timestamp) by topic."""

    topics: dict[str, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)

    def records(self, topic: str) -> Records:
        rows = self.topics.get(topic, [])
        n = np.arange(len(rows), dtype=np.int64)
        return Records(topic, 0, 3 * n, n, [key for key, _ in rows], [value for _, value in rows])


Portions = list[tuple[int, int, str]]


def run(topics: dict[TopicPartition, list[RawItem]], choices: Portions, registry: MemorySchemaRegistry) -> Log:
    """Feed the topics in the chosen portions, with a checkpoint or a kill after the commit; another task starts from what is committed."""
    log = Log()
    state: dict[bytes, bytes] = {}
    flows: Mapping[str, Flow] = {}
    marker = 0

    def start(positions: dict[TopicPartition, int], covered_ms: int) -> IngestionTask:
        task = IngestionTask(PLAN, registry, 0, "replay", reference_partitions={"flights-weather": 2})
        task.restore([StateEntry(key, value) for key, value in state.items()])
        task.resume(positions, {}, 0, covered_ms)
        task.take_flows({topic: Flow.of_record(flow.to_record()) for topic, flow in flows.items()})
        task.replay([log.records(PLAN.topics.journal)[marker // 3 :]])
        return task

    task, read, committed, covered = start({}, -1), dict.fromkeys(INPUTS, 0), {}, -1
    everything = [(i, 1000, "") for i in range(len(INPUTS))]
    for source, size, then in [*choices, *everything]:
        place = INPUTS[source]
        items = topics[place][read[place] : read[place] + size]
        offsets = np.arange(read[place], read[place] + len(items), dtype=np.int64)
        read[place] += len(items)
        times = np.array([item.time_ms for item in items], np.int64)
        records = Records(place.topic, place.partition, offsets, times, [item.key for item in items], [item.value for item in items])
        end = 3 * len(log.topics.get(PLAN.topics.journal, []))
        step = task.process([records], StepContext(now_ms=10**15, output_ends={JOURNAL: end}))
        if then == "checkpoint":
            share = task.checkpoint(1)
            marker = share.marker.get(JOURNAL, marker)
            for entry in share.entries:
                if entry.value is None:
                    del state[entry.key]
                else:
                    state[entry.key] = entry.value
        for emission in step.emissions:
            log.topics.setdefault(emission.topic, []).extend(zip(emission.keys, emission.values, strict=True))
        committed, covered, flows = dict(step.positions), max(covered, step.coverage.time_ms), step.flows or {}
        absorbed = sum(sum(item.value is not None for item in items[: committed.get(place, 0)]) for place, items in topics.items())
        assert accounted(log) == absorbed, "accepted + rejected + duplicates = raw, at every commit"
        if then == "kill":
            task, read = start(committed, covered), {place: committed.get(place, 0) for place in INPUTS}
    for place in INPUTS:
        assert committed[place] >= len(topics[place]) - 1, "only the last heartbeats may wait for what comes after them"
    assert covered == max(item.time_ms for items in topics.values() for item in items)
    return log


def accounted(log: Log) -> int:
    entries = sum(key != b"tick" for key, _ in log.topics.get(PLAN.topics.journal, []))
    return entries + len(log.topics.get(PLAN.topics.rejected, [])) + len(log.topics.get(PLAN.topics.duplicates, []))


PORTIONS = st.lists(st.tuples(st.integers(0, len(INPUTS) - 1), st.integers(1, 5), st.sampled_from(["", "checkpoint", "kill"])), max_size=40)


@settings(max_examples=examples(60), deadline=None)
@given(topics=raw_topics(), choices=PORTIONS)
def test_any_batching_and_any_restart_give_the_same_bytes(topics: dict[TopicPartition, list[RawItem]], choices: Portions) -> None:
    registry = MemorySchemaRegistry()
    at_once = run(topics, [], registry)
    in_portions = run(topics, choices, registry)
    for topic in (PLAN.topics.journal, PLAN.topics.stream_ends):
        assert in_portions.topics.get(topic) == at_once.topics.get(topic), topic
    for topic in (PLAN.topics.late, PLAN.topics.duplicates, PLAN.topics.rejected):
        assert Counter(in_portions.topics.get(topic, [])) == Counter(at_once.topics.get(topic, [])), topic
    check_against_oracle(topics, at_once, registry)


def check_against_oracle(topics: dict[TopicPartition, list[RawItem]], log: Log, registry: MemorySchemaRegistry) -> None:
    """Plain Python: sort everything, walk over it once."""
    items = []
    for rank, place in enumerate(INPUTS):
        newest = (-1, 0)
        for offset, item in enumerate(topics[place]):
            newest = max(newest, (item.time_ms, int(item.value is None)))
            items.append((*newest, rank, offset, item))
    accepted_at: dict[tuple[str, str], int] = {}
    newest_event: dict[str, int] = {}
    expected: list[tuple[str, int, bool]] = []
    ended: set[TopicPartition] = set()
    ends: list[tuple[str, int, bool]] = []

    def tell(place: TopicPartition, *, is_end: bool) -> None:
        whole = {one for one in INPUTS if one.topic == place.topic}
        before = whole <= ended
        (ended.add if is_end else ended.discard)(place)
        if (whole <= ended) != before:
            ends.append((place.topic.removeprefix("flights-"), clock, not before))

    clock = last_tick = -1
    fates: Counter[str] = Counter()
    for *_, rank, _, item in sorted(items, key=lambda entry: entry[:4]):
        topic = INPUTS[rank].topic
        if item.value is None:
            if item.time_ms > last_tick:
                clock = last_tick = max(clock, item.time_ms)
                expected.append(("tick", clock, False))
            if item.ends:
                tell(INPUTS[rank], is_end=True)
            continue
        try:
            parsed = json.loads(item.value)
        except ValueError:
            fates["rejected"] += 1
            continue
        identity = parsed.get("flight_id") or parsed["origin"]
        at = accepted_at.get((topic, identity))
        if at is not None and topic in WITHIN and max(clock, item.time_ms) - at <= WITHIN[topic]:
            fates["duplicates"] += 1
            continue
        accepted_at[topic, identity] = max(clock, item.time_ms)
        time_ms = parsed.get("scheduled_departure") or parsed.get("actual_arrival") or parsed["observed"]
        late = topic != "flights-weather" and newest_event.get(topic, 0) - time_ms > 2 * SLICE
        newest_event[topic] = max(newest_event.get(topic, 0), time_ms)
        clock = max(clock, item.time_ms)
        fates["late"] += late
        expected.append((identity, clock, late))
        tell(INPUTS[rank], is_end=False)
    codec = message_codec(registry, PLAN.topics.stream_ends, "stream-end")
    found = [codec.decode(value or b"") for _, value in log.topics.get(PLAN.topics.stream_ends, [])]
    assert [(one["stream"], one["journal_time"], one["ended"]) for one in found] == ends
    assert found_journal(log, registry) == expected
    assert {name: len(log.topics.get(f"flights-{name}", [])) for name in ("rejected", "duplicates", "late")} == {
        name: fates[name] for name in ("rejected", "duplicates", "late")
    }


def found_journal(log: Log, registry: MemorySchemaRegistry) -> list[tuple[str, int, bool]]:
    records: list[tuple[str, int, bool]] = []
    decoders = {name: ColumnDecoder(registry, stream.entry_schema) for name, stream in PLAN.streams.items()}
    names = {json.loads(stream.entry_schema)["name"]: name for name, stream in PLAN.streams.items()}
    tick = RecordCodec(registry, "t", (ROOT / "schemas" / "tick.avsc").read_text(encoding="utf-8"))
    for key, value in log.topics.get(PLAN.topics.journal, []):
        assert value is not None
        if key == b"tick":
            records.append(("tick", tick.decode(value)["_journal_time"], False))
        else:
            name = names[json.loads(registry.schema(int.from_bytes(value[1:5], "big")))["name"]]
            row = decoders[name].decode([value]).batch.to_pylist()[0]
            records.append((row["_event_id"], round(row["_journal_time"].replace(tzinfo=UTC).timestamp() * 1000), row["_late"]))
    return records
