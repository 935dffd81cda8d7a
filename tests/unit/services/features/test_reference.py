"""The row of a reference stream that counts: newest event time, deleted by a record without a value; from raw records to answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Records, StateEntry, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW, MINUTE = 1_760_000_000_000, 60_000
APPLICATION = """
app: shop
owner: shop@example.org
partition_by: id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: id, event_time: at}
  customers: {topic: customers, schema: customer.avsc, kind: reference, key: customer, event_time: at, max_age: 365d, future: flag}
  returns: {topic: returns, schema: return.avsc, event_id: id, event_time: at}
models:
  back: {ask: orders, features: [customers.*], label: {stream: returns, join: id, value: "TRUE", max_delay: 1h}, fallback: {default: 0.5}}
"""
UUIDS, UPPER = {"type": "string", "logicalType": "uuid"}, "123E4567-E89B-12D3-A456-426614174000"
REJECTED = (Path(__file__).parents[4] / "schemas" / "rejected.avsc").read_text("utf-8")


class Bench:
    """Ingestion and features of one partition, step by step."""

    def __init__(self, folder: Path, key: str | dict[str, str] = "string", fused: bool = False) -> None:
        self.fused = fused
        time = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
        own: dict[str, list[dict[str, object]]] = {
            "order": [{"name": "id", "type": "string"}, {"name": "customer", "type": ["null", key], "default": None}],
            "customer": [{"name": "customer", "type": key}, {"name": "segment", "type": "string"}, {"name": "risk", "type": "double"}],
            "return": [{"name": "id", "type": "string"}],
        }
        for name, fields in own.items():
            (folder / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name.title(), "fields": [*fields, time]}))
        (folder / "app.yaml").write_text(APPLICATION)
        self.plan: Plan = load_plan(folder)
        self.registry = MemorySchemaRegistry()
        self.ingestion = IngestionTask(self.plan, self.registry, 0, "live")
        self.features = FeaturesCore(self.plan)
        self.idle = frozenset(TopicPartition(stream.topic, 0) for stream in self.plan.streams.values())
        self.offsets = {"orders": 0, "customers": 0}
        self.written = 0
        self.now = NOW
        self.rejected: list[str] = []
        self.state: dict[bytes, bytes] = {}

    def send(self, stream: str, *records: tuple[bytes | None, dict[str, object] | None]) -> list[dict[str, object]]:
        """Put records through both stages; returns the vectors."""
        self.now += 1_000
        first, n = self.offsets[stream], len(records)
        self.offsets[stream] += n
        values = [None if value is None else json.dumps(value).encode() for _, value in records]
        raw = Records(stream, 0, np.arange(first, first + n), np.full(n, self.now), [key for key, _ in records], values)
        step = self.ingestion.process([raw], StepContext(self.now, self.idle))
        vectors: list[dict[str, object]] = []
        for e in step.emissions:
            if e.topic == self.plan.topics.journal:
                times = np.zeros(len(e), np.int64) if e.timestamps_ms is None else e.timestamps_ms
                journal = Records(
                    e.topic, 0, np.arange(self.written, self.written + len(e)), times, e.keys, e.values, e.columns if self.fused else None
                )
                self.written += len(e)
                vectors += self.features.process(JournalDecoder(self.plan, self.registry).decode(journal)).to_pylist()
            elif e.topic == self.plan.topics.rejected:
                codec = RecordCodec(self.registry, "r", REJECTED)
                self.rejected += [codec.decode(value)["reason"] for value in e.values if value is not None]
        return vectors

    def row(self, customer: object, segment: str, at: int) -> None:
        self.send("customers", (b"any", {"customer": customer, "segment": segment, "risk": 1.0, "at": at}))

    def ask(self, customer: object) -> object:
        (vector,) = self.send("orders", (b"k", {"id": f"o{self.offsets['orders']}", "customer": customer, "at": self.now}))
        assert (vector["customers__segment"] is None) == (vector["customers__risk"] is None)
        return vector["customers__segment"]

    def restart(self) -> None:
        """Features from its checkpoint alone."""
        for entry in self.features.take_dirty(10**9):
            if entry.value is None:
                self.state.pop(entry.key, None)
            else:
                self.state[entry.key] = entry.value
        self.features = FeaturesCore(self.plan)
        self.features.restore([StateEntry(key, value) for key, value in self.state.items()])


@pytest.mark.parametrize("restarts", [False, True])
def test_an_older_row_does_not_replace_a_newer_one_and_of_equal_times_the_later_counts(tmp_path: Path, restarts: bool) -> None:
    bench = Bench(tmp_path)
    bench.row("c8", "new", NOW)
    if restarts:
        bench.restart()
    bench.row("c8", "OLD", NOW - 3 * 86_400_000)
    assert bench.ask("c8") == "new"
    bench.row("c8", "same instant", NOW)
    assert bench.ask("c8") == "same instant"
    bench.row("c8", "newer", NOW + 1)
    assert bench.ask("c8") == "newer"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_record_without_a_value_deletes_the_row_and_the_next_row_counts_whatever_its_time(tmp_path: Path, restarts: bool) -> None:
    bench = Bench(tmp_path)
    bench.row("c9", "gold", NOW)
    bench.row("c1", "other", NOW)
    assert bench.ask("c9") == "gold"
    if restarts:
        bench.restart()
    bench.send("customers", (b"c9", None))
    if restarts:
        bench.restart()
        assert set(bench.state) == {b"reference|customers|c1"}
    assert bench.ask("c9") is None
    assert bench.ask("c1") == "other"
    bench.row("c9", "again", NOW - MINUTE)
    assert bench.ask("c9") == "again"
    assert not bench.rejected


def test_within_one_batch_each_request_sees_what_was_there_before_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    row = {"customer": "c", "risk": 1.0}
    rows: list[tuple[bytes | None, dict[str, object] | None]] = [
        (None, {**row, "segment": "first", "at": NOW}), (None, {**row, "segment": "older", "at": NOW - 5}), (b"c", None),
        (None, {**row, "segment": "after", "at": NOW - 9}), (None, {**row, "segment": "before that", "at": NOW - 10}),
    ]  # fmt: skip
    bench.send("customers", *rows)
    assert bench.ask("c") == "after"


def test_a_row_of_the_far_future_is_replaced_once_time_has_come_as_far_as_the_skew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.row("c", "year 9999", 253_402_000_000_000)
    bench.row("d", "ordinary", bench.now)
    assert (bench.ask("c"), bench.ask("d")) == ("year 9999", "ordinary")
    bench.now += 6 * MINUTE
    bench.row("c", "now", bench.now)
    assert bench.ask("c") == "now"


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [("long", 5, b"5"), ("double", 5.0, b"5"), ("string", "é", "é".encode()), (UUIDS, UPPER, UPPER.encode()), (UUIDS, UPPER.lower(), UPPER.encode())],
)
def test_a_deletion_names_its_row_as_the_rows_do(tmp_path: Path, kind: str | dict[str, str], name: object, key: bytes, fused: bool) -> None:
    bench = Bench(tmp_path, kind, fused)
    bench.row(name, "there", NOW)
    assert bench.ask(name) == "there"
    bench.send("customers", (key, None))
    assert bench.ask(name) is None


def test_what_deletes_nothing_is_a_dead_letter_and_a_heartbeat_is_neither(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "long")
    bench.row(5, "there", NOW)
    bench.send("customers", (None, None), (b"", None), (b"five", None), (b"\xff", None), (b"\x00\x00\x00\x00\x01\x0a", None), (HEARTBEAT_KEY, None))
    assert bench.rejected == ["unreadable_key"] * 5
    bench.send("orders", (b"k", None), (HEARTBEAT_KEY, None))
    assert bench.rejected[5:] == ["null_value"]
    assert bench.ask(5) == "there"


def test_any_batching_gives_the_same_answers(tmp_path: Path) -> None:
    """Against the newest row by plain Python, rows and deletions of a few keys in random order."""
    bench, rng = Bench(tmp_path), np.random.default_rng(3)
    known: dict[str, tuple[int, str]] = {}
    for i in range(60):
        rows: list[tuple[bytes | None, dict[str, object] | None]] = []
        for _ in range(int(rng.integers(0, 4))):
            name, at = f"c{int(rng.integers(0, 3))}", NOW - int(rng.integers(0, 50))
            if rng.random() < 0.25:
                rows.append((name.encode(), None))
                known.pop(name, None)
                continue
            rows.append((None, {"customer": name, "segment": f"{i}-{len(rows)}", "risk": 1.0, "at": at}))
            if name not in known or at >= known[name][0]:
                known[name] = (at, f"{i}-{len(rows) - 1}")
        bench.send("customers", *rows)
        if rng.random() < 0.2:
            bench.restart()
        for name in ("c0", "c1", "c2"):
            assert bench.ask(name) == known.get(name, (0, None))[1]
