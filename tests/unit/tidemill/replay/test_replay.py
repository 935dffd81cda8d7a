"""A replay publishes in order of availability with heartbeats between; an open loop keeps its pace, whatever the order of the feeds."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from tidemill.replay.data_set_spans import refuse_before_1970, remarks
from tidemill.replay.feed import EncodedRecords, StreamTable
from tidemill.replay.file_rows import DataSetError
from tidemill.replay.open_loop import Pace, publish_live
from tidemill.replay.replay import ReplayRefused, refuse_a_journal_that_is_past, replay
from tidemill.runs.watch import RunState, Watch
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.topics import STAGES
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import END_OF_STREAM_KEY, HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner.progress import Progress

DAY = 86_400_000
START = 20_000 * DAY
PLAN = load_plan(Path(__file__).parents[4] / "examples" / "payments")
PAYMENTS, CHARGEBACKS = PLAN.topics.raw


def broker() -> MemoryBroker:
    made = MemoryBroker()
    made.create_topics([TopicSpec(topic) for topic in PLAN.topics.raw])
    return made


def feed(topic: str, *hours: float) -> EncodedRecords:
    names = [f"{topic}@{hour}".encode() for hour in hours]
    return EncodedRecords(topic, names, names, np.array([START + int(hour * 3_600_000) for hour in hours], np.int64))


def read(made: MemoryBroker, topic: str) -> list[tuple[int, bytes | None]]:
    runs = made.reader().read(TopicPartition(topic, 0), 0)
    return [(int(time), value) for run in runs for time, value in zip(run.timestamps_ms, run.values, strict=True)]


def read_keys(made: MemoryBroker, topic: str) -> list[tuple[int, bytes | None]]:
    runs = made.reader().read(TopicPartition(topic, 0), 0)
    return [(int(time), key) for run in runs for time, key in zip(run.timestamps_ms, run.keys, strict=True)]


class ObedientPipeline:
    """Covers whatever is published, one stage a look."""

    def __init__(self, made: MemoryBroker) -> None:
        self._broker = made
        self.seen = RunState()

    def poll(self, timeout_s: float = 0.0) -> RunState:
        time = read(self._broker, CHARGEBACKS)[-1][0]
        for stage in STAGES:
            known = self.seen.progress.get((stage, 0))
            if known is None or known.covered_time < time:
                self.seen.progress[stage, 0] = Progress(stage, 0, covered_time=time)
                break
        return self.seen


def test_slices_end_with_a_heartbeat_everywhere_and_go_on_until_the_last_label_could_come() -> None:
    made = broker()
    looks: list[tuple[int, int]] = []
    feeds = [feed(PAYMENTS, 1, 5, 30), feed(CHARGEBACKS, 23)]
    pipeline = ObedientPipeline(made)
    end = replay(PLAN, made.sink(), feeds, cast(Watch, pipeline), DAY, lambda at, count, seen: looks.append((at, count)))
    hour = 3_600_000
    days = [START + i * DAY for i in range(1, 6)]
    first = [(START + hour, b"@1"), (START + 5 * hour, b"@5")]
    last = START + 30 * hour
    expected = [(at, PAYMENTS.encode() + value) for at, value in first] + [(days[0], None), (last, PAYMENTS.encode() + b"@30"), (last, None)]
    assert read(made, PAYMENTS) == [*expected, *((at, None) for at in days[1:])]
    assert read(made, CHARGEBACKS) == [(START + 23 * hour, CHARGEBACKS.encode() + b"@23"), *((at, None) for at in [START + 23 * hour, *days])]
    ends = {topic: [at for at, key in read_keys(made, topic) if key == END_OF_STREAM_KEY] for topic in (PAYMENTS, CHARGEBACKS)}
    assert ends == {PAYMENTS: [last], CHARGEBACKS: [START + 23 * hour]}, "a stream ends with its last record, and no other does"
    assert end == days[-1] >= START + 30 * hour + PLAN.models["fraud"].label.max_delay_ms
    assert looks[0] == (days[0], 3) and looks[-1] == (days[-1], 4)


def test_heartbeats_behind_the_last_record_stop_at_the_instant_that_is_named() -> None:
    """A replay of yesterday's data ended in a traceback: its last heartbeats lay days ahead, and Kafka refuses timestamps of the future."""
    made = broker()
    feeds = [feed(PAYMENTS, 1, 5, 30), feed(CHARGEBACKS, 23)]
    until = START + 31 * 3_600_000
    end = replay(PLAN, made.sink(), feeds, cast(Watch, ObedientPipeline(made)), DAY, lambda at, count, seen: None, until_ms=until)
    published = read(made, PAYMENTS)
    assert [value for _, value in published if value is not None] == [f"{PAYMENTS}@{hour}".encode() for hour in (1, 5, 30)]
    assert end == until + 1 == max(at for at, _ in published + read(made, CHARGEBACKS))


def test_the_work_follows_the_data_not_the_years_it_spans() -> None:
    made = broker()
    slices: list[int] = []
    far = 252_000_000_000_000
    times = np.array([0, START, START + 40 * DAY, far], np.int64)
    feeds = [EncodedRecords(PAYMENTS, [b"k"] * 4, [b"a", b"b", b"c", b"far"], times), feed(CHARGEBACKS)]
    pipeline = cast(Watch, ObedientPipeline(made))
    end = replay(PLAN, made.sink(), feeds, pipeline, DAY, lambda at, count, seen: slices.append(at), START + 100 * DAY)
    flush_days = PLAN.models["fraud"].label.max_delay_ms // DAY + 1
    # Around each record its label's horizon is walked day by day; the years between are not.
    assert len(set(slices)) <= 3 * (flush_days + 2)
    published = read(made, PAYMENTS)
    # Zero would be replaced with the current time; what ingestion refuses comes with the last record that it takes.
    assert [(at, value) for at, value in published if value is not None] == [(1, b"a"), (START, b"b"), (START + 40 * DAY, b"c"), (far, b"far")]
    beats = [at for at, key in read_keys(made, PAYMENTS) if key == HEARTBEAT_KEY]
    assert beats == sorted(set(slices)) and len(beats) == sum(value is None for _, value in published) - 1
    assert end == START + (41 + flush_days) * DAY


def test_a_label_of_years_later_is_waited_for_in_a_hundred_slices() -> None:
    """A horizon of 4,000 days was walked day by day, whether a label came or not."""
    made = broker()
    slices: list[int] = []
    labels = {"fraud": replace(PLAN.models["fraud"], label=replace(PLAN.models["fraud"].label, max_delay_ms=5_000 * DAY))}
    late = [4_000 * 24 + 5.0, 4_000 * 24 + 30.0]
    feeds = [feed(PAYMENTS, 1, 30), feed(CHARGEBACKS, *late)]
    plan, pipeline = replace(PLAN, models=labels), cast(Watch, ObedientPipeline(made))
    replay(plan, made.sink(), feeds, pipeline, DAY, lambda at, count, seen: slices.append(at) if count < 4 else None)
    assert 100 <= len(set(slices)) <= 108
    # A slice begins and ends where it does when every day is walked: what comes in it is known with nothing that came later.
    assert {START + DAY, START + 2 * DAY, START + 4_000 * DAY} < set(slices) and not any(at % DAY for at in slices)
    assert [at for at, value in read(made, CHARGEBACKS) if value is not None] == [START + int(hour * 3_600_000) for hour in late]


def test_the_wait_for_the_last_label_takes_a_hundred_steps_where_all_requests_came_in_a_second() -> None:
    made = broker()
    slices: list[int] = []
    pipeline = cast(Watch, ObedientPipeline(made))
    end = replay(PLAN, made.sink(), [feed(PAYMENTS, 1, 1), feed(CHARGEBACKS)], pipeline, 1, lambda at, count, seen: slices.append(at))
    assert 100 <= len(set(slices)) <= 102
    assert end >= START + 3_600_000 + PLAN.models["fraud"].label.max_delay_ms


def test_a_data_set_of_the_far_future_is_refused() -> None:
    made = broker()
    with pytest.raises(ReplayRefused, match="a data set of the past, found one that begins at 2024"):
        replay(PLAN, made.sink(), [feed(PAYMENTS, 1)], cast(Watch, ObedientPipeline(made)), DAY, lambda at, count, seen: None, START)


def table(*times: int, place: bool = True) -> StreamTable:
    return StreamTable(pa.table({"x": list(times)}), np.array(times, np.int64), (lambda row: f"orders.csv:{row + 2}") if place else None)


def test_rows_before_1970_are_refused_for_the_true_reason() -> None:
    refuse_before_1970({"orders": table(0, START)})
    with pytest.raises(DataSetError, match=r"orders\.csv:3: expected a row that became known in 1970 or .*, found 1965-01-01T00:00:00.000Z"):
        refuse_before_1970({"orders": table(START, -157_766_400_000)})
    with pytest.raises(DataSetError, match=r"^orders: row 1: "):
        refuse_before_1970({"orders": table(-1, place=False)})


def test_odd_times_are_remarked_upon() -> None:
    assert remarks({"orders": table(START, START + 300 * DAY), "returns": table()}, START + 400 * DAY) == []
    back, zero = remarks({"returns": table(START + DAY), "orders": table(START, 0)}, START + 400 * DAY)
    assert back.startswith("the times of orders go backwards once, first at orders.csv:3 (from 2024-10-04") and "in order of time" in back
    assert "between 1970-01-01T00:00:00.000Z and 2024-10-04" in zero and "(55 years)" in zero and "time of orders.csv:3 meant?" in zero
    _, far = remarks({"orders": table(252_000_000_000_000, START)}, START + 400 * DAY)
    assert far.startswith("1 rows lie beyond") and "orders.csv:2: 9955-07-25" in far


def test_a_journal_that_is_past_the_data_is_refused() -> None:
    feeds = [feed(PAYMENTS, 1), feed(CHARGEBACKS)]
    refuse_a_journal_that_is_past(-1, feeds)
    refuse_a_journal_that_is_past(START, feeds)
    with pytest.raises(ReplayRefused, match="--clock replay"):
        refuse_a_journal_that_is_past(START + 2 * 3_600_000, feeds)


def test_an_open_loop_merges_the_feeds_and_keeps_its_pace() -> None:
    made = broker()
    payments = feed(PAYMENTS, *np.arange(0, 30, 0.1).round(1))
    done = publish_live(made.sink(), [payments, feed(CHARGEBACKS, 0.05, 7.05)], Pace(rate_per_s=1_000), lambda at, count: None)
    assert done.records == 302 and done.seconds >= 301 / 1_000
    assert [value for _, value in read(made, PAYMENTS)] == list(payments.values)
    assert len(read(made, CHARGEBACKS)) == 2


def test_pace() -> None:
    at = np.array([5_000, 6_000, 9_000], np.int64)
    assert Pace(speed=2.0).due_s(at).tolist() == [0.0, 0.5, 2.0]
    assert Pace(rate_per_s=10.0).due_s(at).tolist() == [0.0, 0.1, 0.2]
    for rate, speed in ((None, None), (1.0, 1.0), (0.0, None), (None, -1.0)):
        with pytest.raises(ValueError, match="positive"):
            Pace(rate, speed)
