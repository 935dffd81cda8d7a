"""One record's event time or timestamp touches itself only: nothing else is late, nothing else is moved."""

import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW = 1_760_000_000_000
YEAR_9999 = 253_402_000_000_000
MINUTE = 60_000
SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [{"name": "order_id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
}
APPLICATION = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders: {{topic: orders, schema: order.avsc, event_id: order_id, event_time: at, allowed_lateness: 1m{more}}}
"""
REJECTED = (Path(__file__).parents[4] / "schemas" / "rejected.avsc").read_text("utf-8")


class Bench:
    """One ingestion task, fed step by step; remembers what it wrote."""

    def __init__(self, folder: Path, more: str = "", clock: str = "live") -> None:
        (folder / "order.avsc").write_text(json.dumps(SCHEMA))
        (folder / "app.yaml").write_text(APPLICATION.format(more=more))
        self.plan: Plan = load_plan(folder)
        self.registry = MemorySchemaRegistry()
        self.live = clock == "live"
        self.journal: list[Emission] = []
        self.rejected: list[dict[str, object]] = []
        self.offset = 0
        self.start()

    def start(self) -> None:
        self.task = IngestionTask(self.plan, self.registry, 0, "live" if self.live else "replay")
        self.task.replay([Records("shop-journal", 0, np.arange(len(e)), np.zeros(len(e), np.int64), e.keys, e.values) for e in self.journal])

    def step(self, events: list[tuple[str, int]], now: int, stamp: int | None = None, steady: int | None = None) -> None:
        n = len(events)
        values = [json.dumps({"order_id": name, "at": at}).encode() for name, at in events]
        stamps = np.full(n, now if stamp is None else stamp)
        records = Records("orders", 0, np.arange(self.offset, self.offset + n), stamps, [b"k"] * n, values)
        self.offset += n
        made = self.task.process([records] if n else [], StepContext(now, frozenset({TopicPartition("orders", 0)}), steady))
        letters = RecordCodec(self.registry, "r", REJECTED)
        self.journal += [e for e in made.emissions if e.topic == self.plan.topics.journal]
        self.rejected += [letters.decode(v) for e in made.emissions if e.topic == self.plan.topics.rejected for v in e.values if v is not None]

    def entries(self) -> list[tuple[str, int, bool]]:
        accepted = []
        for e in self.journal:
            batch = JournalDecoder(self.plan, self.registry).decode(
                Records("shop-journal", 0, np.arange(len(e)), np.zeros(len(e), np.int64), e.keys, e.values)
            )
            for group in batch.groups.values():
                rows = zip(batch.journal_time_ms[group.rows].tolist(), group.columns.to_pylist(), strict=True)
                accepted += [(row["order_id"], time, row["_late"]) for time, row in rows]
        return accepted


def test_a_record_from_the_far_future_is_a_dead_letter_and_makes_nothing_late(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step([("a", NOW), ("evil", YEAR_9999), ("b", NOW)], NOW)
    bench.step([("c", NOW + 1_000), ("evil", NOW + 1_000)], NOW + 2_000)
    assert [(name, late) for name, _, late in bench.entries()] == [("a", False), ("b", False), ("c", False), ("evil", False)]
    (letter,) = bench.rejected
    assert letter["reason"] == "future" and letter["source_offset"] == 1
    assert "allowed_skew" in str(letter["detail"])


@pytest.mark.parametrize(("ahead_ms", "refused"), [(5 * MINUTE, False), (5 * MINUTE + 1, True)])
def test_the_allowed_skew_is_the_border_and_what_is_within_it_makes_nothing_late_either(tmp_path: Path, ahead_ms: int, refused: bool) -> None:
    bench = Bench(tmp_path)
    bench.step([("ahead", NOW + ahead_ms)], NOW)
    bench.step([("a", NOW - MINUTE + 1)], NOW + 1)
    bench.step([("late", NOW - MINUTE - 1)], NOW + 2)
    assert len(bench.rejected) == refused
    assert [late for name, _, late in bench.entries() if name == "a"] == [False]
    # The first was accepted as of its journal time, or it was not; either way lateness is measured from what is known.
    assert [late for name, _, late in bench.entries() if name == "late"] == [not refused]


def test_flagged_by_declaration_it_is_accepted_and_moves_nothing_not_even_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, ", future: flag")
    bench.step([("a", NOW), ("evil", YEAR_9999)], NOW)
    bench.start()
    bench.step([("b", NOW + 1)], NOW + 1)
    assert [(name, late) for name, _, late in bench.entries()] == [("a", False), ("evil", False), ("b", False)]
    assert not bench.rejected and "'future'" in caplog.text


@pytest.mark.parametrize("stamp", [YEAR_9999, 2**62, 2**63 - 1, -1, -(2**63)])
@pytest.mark.parametrize("clock", ["live", "replay"])
def test_a_record_timestamp_out_of_this_world_moves_neither_the_merge_nor_journal_time(tmp_path: Path, clock: str, stamp: int) -> None:
    bench = Bench(tmp_path, clock=clock)
    bench.step([("a", NOW)], NOW, steady=1_000)
    bench.step([("odd", NOW)], NOW + 1, stamp, steady=1_001)
    bench.step([("b", NOW + 2)], NOW + 2, steady=1_002)
    assert [entry for entry in bench.entries() if entry[0] != "odd"] == [("a", NOW, False), ("b", NOW + 2, False)]
    assert all(time <= NOW + 2 for _, time, _ in bench.entries())
    assert len(bench.entries()) + len(bench.rejected) == 3


def test_a_step_of_the_hosts_clock_does_not_enter_the_journal_and_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    bench.step([("a", NOW)], NOW, steady=1_000)
    jumped = YEAR_9999
    for second in range(1, 5):
        bench.step([], jumped + 1_000 * second, steady=1_000 + 1_000 * second)
        bench.step([(f"b{second}", NOW)], jumped + 1_000 * second, stamp=NOW + 1_000 * second, steady=1_000 + 1_000 * second)
    bench.step([("c", NOW + 6_000)], NOW + 6_000, steady=7_000)
    assert bench.entries()[-1] == ("c", NOW + 6_000, False)
    assert max(int(e.timestamps_ms.max()) for e in bench.journal if e.timestamps_ms is not None) <= NOW + 6_000
    assert caplog.text.count("it is not followed") == 1


def test_without_traffic_a_forward_step_waits_for_records_that_confirm_it(tmp_path: Path) -> None:
    bench, hour = Bench(tmp_path), 3_600_000
    bench.step([("a", NOW)], NOW, steady=0)
    for steady in (1_000, 2_000):
        bench.step([], NOW + hour + steady, steady=steady)
    assert max(int(e.timestamps_ms.max()) for e in bench.journal if e.timestamps_ms is not None) == NOW + 2_000
    bench.step([("b", NOW + hour)], NOW + hour + 3_000, steady=5_000)
    assert bench.entries()[-1] == ("b", NOW + hour + 3_000, False)
