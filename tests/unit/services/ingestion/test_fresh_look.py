"""A process that was stopped and goes on does not let time pass over what came meanwhile."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.flooded_shop import write_shop
from tidemill.services.ingestion.domain.fresh_look import PAUSE_MS, FreshLook
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW, STEADY = 1_760_000_000_000, 5_000_000
ORDERS, PARCELS = TopicPartition("shop-orders", 0), TopicPartition("shop-parcels", 0)


class Ingestion:
    """One task whose clock the test sets; says the journal times (milliseconds after the start) of what each step writes."""

    def __init__(self, folder: Path, steady: bool) -> None:
        self.plan, self.registry, self.steady = load_plan(write_shop(folder)), MemorySchemaRegistry(), steady
        self.task = IngestionTask(self.plan, self.registry, 0, "live", tick_ms=100)
        self.offsets = {ORDERS: 0, PARCELS: 0}

    def step(self, at_ms: int, *records: tuple[TopicPartition, int], ends: frozenset[TopicPartition] = frozenset({ORDERS, PARCELS})) -> list[int]:
        inputs = []
        for place, time_ms in records:
            offset = self.offsets[place]
            self.offsets[place] += 1
            value = json.dumps({"id": f"{place.topic}{offset}", "at": NOW + time_ms}).encode()
            key = f"{place.topic}{offset}".encode()
            inputs.append(Records(*place, np.array([offset]), np.array([NOW + time_ms]), [key], [value]))
        made = self.task.process(inputs, StepContext(NOW + at_ms, ends, STEADY + at_ms if self.steady else None))
        journal = [emission for emission in made.emissions if emission.topic == self.plan.topics.journal]
        times: list[int] = []
        for one in journal:
            records_of = Records(one.topic, 0, np.arange(len(one)), np.zeros(len(one), np.int64), one.keys, one.values)
            times += (JournalDecoder(self.plan, self.registry).decode(records_of).journal_time_ms - NOW).tolist()
        return times


@pytest.fixture(params=[True, False], ids=["steady clock", "processing time only"])
def ingestion(request: pytest.FixtureRequest, tmp_path: Path) -> Ingestion:
    made = Ingestion(tmp_path, request.param)
    assert [made.step(ms) for ms in (0, 50, 100, 150)] == [[0], [], [100], []]
    return made


def test_what_came_while_the_process_was_stopped_has_waited(ingestion: Ingestion) -> None:
    assert ingestion.step(10_000) == [], "no tick: the ends are as old as the pause"
    assert ingestion.step(10_050, (ORDERS, 1_200)) == [], "the other input may hold older ones"
    assert ingestion.step(10_060, (PARCELS, 700)) == [700], "what is certain goes on, as old as it is"
    assert ingestion.step(10_000 + PAUSE_MS) == [1_200, 10_000 + PAUSE_MS]


def test_an_input_without_anything_holds_the_others_back_for_a_moment_only(ingestion: Ingestion) -> None:
    assert ingestion.step(10_000) == []
    assert ingestion.step(10_050, (ORDERS, 1_200)) == []
    assert ingestion.step(10_000 + PAUSE_MS) == [1_200, 10_000 + PAUSE_MS]


def test_if_nothing_came_time_goes_on_a_moment_later(ingestion: Ingestion) -> None:
    assert ingestion.step(10_000) == []
    assert ingestion.step(10_050) == []
    assert ingestion.step(10_000 + PAUSE_MS) == [10_000 + PAUSE_MS]
    assert ingestion.step(10_000 + PAUSE_MS + 100) == [10_100 + PAUSE_MS]


def test_slow_steps_hold_nothing_back(ingestion: Ingestion) -> None:
    for second in range(1, 6):
        assert ingestion.step(second * 1_000, (ORDERS, second * 1_000)) == [second * 1_000]


def test_clocks_that_go_in_leaps_let_time_pass() -> None:
    look = FreshLook()
    assert [look.stale(hour * 3_600_000, reads=False) for hour in range(6)] == [False, True, False, True, False, True]
