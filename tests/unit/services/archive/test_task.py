"""The archive end to end on records: every row once, whatever crashes, and progress that never promises what is not in the lake."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.services.drift.stream import SCHEMAS, START, Topics, season, shop
from tidemill.services.archive.task import ArchiveTask, task_inputs
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.history import history
from tidemill.shared.lake.names import DECISIONS, DEPLOYMENTS, EXPLANATIONS, INCIDENTS, OUTCOMES, PREDICTIONS, TRIALS, VECTORS
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.runner.task import StepContext

FLUSH_MS = 1_000
STEPS = 12


class World:
    """A short season in its topics, and a journal of ticks that moves time on."""

    def __init__(self, folder: Path) -> None:
        self.plan: Plan = shop(folder)
        self.registry = MemorySchemaRegistry()
        rows = season(days=4, per_day=60, promoted=2, drifting=3)
        self.topics = Topics(self.plan, self.registry, rows)
        self.lake = Lake(str(folder / "lake"), "shop")
        archived = (VECTORS, self.plan.topics.vectors), (PREDICTIONS, self.plan.topics.predictions), (OUTCOMES, self.plan.topics.outcomes)
        self.tables = {topic: table for table, topic in archived}
        self.end_ms = rows.end_ms + 1
        self.tick = RecordCodec(self.registry, "shop-journal-tidemill.Tick", (SCHEMAS / "tick.avsc").read_text())

    def task(self) -> ArchiveTask:
        return ArchiveTask(self.plan, self.registry, self.lake, 0, flush_ms=FLUSH_MS)

    def inputs(self, step: int, begin: dict[str, int]) -> list[Records]:
        """What comes in a step: a twelfth of each topic, and everybody's word that it is complete up to then."""
        time = START + (self.end_ms - START) * (step + 1) // STEPS
        batches = []
        for topic in self.tables:
            times = self.topics.times[topic]
            end = int(np.searchsorted(times, time))
            batches += [self.topics.records(topic, begin.get(topic, 0), end), self.topics.covered(topic, 10_000 + step, time)]
            begin[topic] = end
        offset = np.array([10_000 + step])
        batches.append(Records(self.plan.topics.journal, 0, offset, np.array([time]), [b""], [self.tick.encode({"_journal_time": time})]))
        return batches

    def rows(self) -> dict[str, int]:
        columns = {VECTORS: "_journal_time", PREDICTIONS: "journal_time", OUTCOMES: "journal_time"}
        return {
            table: self.lake.read(table, [columns[table]], 2**53, columns[table]).num_rows if self.lake.exists(table) else 0
            for table in self.tables.values()
        }

    @property
    def expected(self) -> dict[str, int]:
        return {table: len(self.topics.values[topic]) for topic, table in self.tables.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_everything_lands_once_and_progress_follows_the_lake(world: World) -> None:
    task, begin, before = world.task(), dict[str, int](), -1
    for step in range(STEPS):
        made = task.process(world.inputs(step, begin), StepContext(now_ms=step * FLUSH_MS))
        assert made.coverage.time_ms >= before
        before = made.coverage.time_ms
        known = world.lake.read(VECTORS, ["_journal_time"], 2**53, "_journal_time").num_rows if world.lake.exists(VECTORS) else 0
        promised = sum(time < made.coverage.time_ms for time in world.topics.times[world.plan.topics.vectors])
        assert known >= promised, "a covered instant is in the lake"
    task.process([], StepContext(now_ms=STEPS * FLUSH_MS))
    assert world.rows() == world.expected


def test_what_is_buffered_is_appended_when_the_process_stops_and_there_is_no_more_input(world: World) -> None:
    task, begin = world.task(), dict[str, int]()
    task.process([], StepContext(now_ms=0))
    for step in range(STEPS):
        task.process(world.inputs(step, begin), StepContext(now_ms=1, stopping=step == STEPS - 1))
    assert task.buffered > 0 and sum(world.rows().values()) == 0
    task.process([], StepContext(now_ms=1, stopping=True))
    assert task.buffered == 0 and world.rows() == world.expected


def test_nothing_is_promised_before_it_is_flushed(world: World) -> None:
    task, begin = world.task(), dict[str, int]()
    task.process([], StepContext(now_ms=0))
    for step in range(3):
        made = task.process(world.inputs(step, begin), StepContext(now_ms=FLUSH_MS - 1))
        assert (made.coverage.time_ms, dict(made.positions)) == (-1, {})
    assert sum(world.rows().values()) == 0
    assert task.process([], StepContext(now_ms=FLUSH_MS)).coverage.time_ms > START


def test_a_clock_that_steps_back_by_hours_delays_nothing(world: World) -> None:
    task, begin = world.task(), dict[str, int]()
    task.process([], StepContext(now_ms=10**12, steady_ms=0))
    task.process(world.inputs(0, begin), StepContext(now_ms=10**12 - 5 * 3_600_000, steady_ms=FLUSH_MS))
    assert task.buffered == 0 and sum(world.rows().values()) > 0


def test_what_is_buffered_is_bounded_in_bytes_too(world: World) -> None:
    """Fifty thousand rows may be fifty gigabytes."""
    task, begin = ArchiveTask(world.plan, world.registry, world.lake, 0, flush_bytes=10_000), dict[str, int]()
    task.process([], StepContext(now_ms=0))
    for step in range(STEPS):
        task.process(world.inputs(step, begin), StepContext(now_ms=1))
        assert task.buffered < 400
    task.process([], StepContext(now_ms=1, stopping=True))
    assert world.rows() == world.expected


def test_rows_that_came_one_by_one_take_no_more_memory_than_rows_that_came_together(world: World) -> None:
    """Each column of a row alone has buffers of its own: 50,000 rows of a slow stream took 5,700 bytes each here."""
    topics = world.topics
    total = sum(map(len, topics.values.values()))
    task = ArchiveTask(world.plan, world.registry, world.lake, 0, flush_rows=10**9)
    task.process([], StepContext(now_ms=0))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes()
        for topic, values in topics.values.items():
            for row in range(len(values)):
                task.process([topics.records(topic, row, row + 1)], StepContext(now_ms=1))
        held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()
    assert task.buffered == total
    # What the merge holds back is in it.
    assert held / total < 4_500


@pytest.mark.parametrize("crash", range(0, STEPS, 2))
def test_a_crash_between_append_and_commit_writes_nothing_twice(world: World, crash: int) -> None:
    committed = Step([], {}, world.task().coverage)
    state = world.task().checkpoint(0)
    task, begin = world.task(), dict[str, int]()
    for step in range(STEPS):
        made = task.process(world.inputs(step, begin), StepContext(now_ms=step * FLUSH_MS))
        if step == crash:
            # The lake has the rows, the transaction is lost: start again from what was committed before.
            task = world.task()
            task.restore(state.entries)
            task.resume(committed.positions, {}, committed.coverage.offset, committed.coverage.time_ms)
            again = [
                world.topics.records(topic, int(dict(committed.positions).get((topic, 0), 0)), end)  # type: ignore[call-overload]  # plain integers at run time
                for topic, end in begin.items()
            ]
            made = task.process(again, StepContext(now_ms=step * FLUSH_MS))
        committed, state = made, task.checkpoint(0)
    task.process([], StepContext(now_ms=(STEPS + 1) * FLUSH_MS))
    task.process([], StepContext(now_ms=(STEPS + 2) * FLUSH_MS))
    assert world.rows() == world.expected


def test_a_lake_that_fails_stops_progress_and_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task, begin = world.task(), dict[str, int]()
    task.process([], StepContext(now_ms=0))

    def fail(*_: object) -> int:
        raise TransientError("no space")

    with monkeypatch.context() as broken:
        broken.setattr(world.lake, "append", fail)
        with pytest.raises(TransientError):
            task.process(world.inputs(0, begin), StepContext(now_ms=FLUSH_MS))


def test_what_a_training_waits_for_is_appended_as_soon_as_it_has_come(world: World) -> None:
    task, begin = world.task(), dict[str, int]()
    topic = world.plan.topics.flush_marks
    codec = RecordCodec(world.registry, f"{topic}-tidemill.FlushMark", (SCHEMAS / "flush-mark.avsc").read_text())
    wanted = START + (world.end_ms - START) // 2
    asked = Records(topic, 0, np.arange(1), np.zeros(1, np.int64), [b"sent_back"], [codec.encode({"journal_time": wanted, "cause": "d1"})])
    flushed = []
    for step in range(STEPS):
        made = task.process([*world.inputs(step, begin), *([asked] if step == 0 else [])], StepContext(now_ms=0))
        flushed.append(made.coverage.time_ms)
    first = next(step for step, time in enumerate(flushed) if time >= 0)
    assert flushed[first] >= wanted, "not before it is complete"
    assert first <= STEPS // 2 and flushed[first:] == [flushed[first]] * (STEPS - first), "at once, and nothing more without another mark"
    known = world.lake.read(VECTORS, ["_journal_time"], wanted, "_journal_time").num_rows
    assert known == sum(time < wanted for time in world.topics.times[world.plan.topics.vectors]) > 0


def test_the_history_of_models_is_kept_once_by_one_task_over_restarts(world: World) -> None:
    """These topics have one partition, and every task reads them from their beginning at every start."""
    topics, lake = world.plan.topics, world.lake
    names = {topics.deployments: "deployment", topics.decisions: "decision", topics.incidents: "incident", topics.trials: "trial"}
    examples = {topic: json.loads((SCHEMAS / "examples" / f"{name}.json").read_text())[0] for topic, name in names.items()}
    codecs = {topic: message_codec(world.registry, topic, name) for topic, name in names.items()}

    def told(end: int) -> list[Records]:
        values = {topic: codecs[topic].encode(example) for topic, example in examples.items()}
        # Offsets of a log with transactions have gaps.
        places, times = 2 * np.arange(end), np.zeros(end, np.int64)
        return [Records(topic, 0, places, times, [b"m"] * end, [value] * end) for topic, value in values.items()]

    assert {*names} <= {*task_inputs(world.plan).broadcast}
    for end in (2, 3):
        for partition in (0, 1):
            task = ArchiveTask(world.plan, world.registry, lake, partition, flush_ms=FLUSH_MS)
            task.process(told(end), StepContext(now_ms=0))
            task.process([], StepContext(now_ms=FLUSH_MS))
    for topic, table in zip(names, (DEPLOYMENTS, DECISIONS, INCIDENTS, TRIALS), strict=True):
        kept = history(lake, table, examples[topic]["model"])
        assert len(kept) == 3 and kept[0] == kept[2] == codecs[topic].decode(codecs[topic].encode(examples[topic]))
        assert sorted(lake.dataset(table).to_table()["log_offset"].to_pylist()) == [0, 2, 4]


def test_two_restarts_between_two_checkpoints_lose_no_count(world: World) -> None:
    """The counts of a checkpoint that is older than its marker would leave the merge waiting for ever for records it has read."""
    first, begin = world.task(), dict[str, int]()
    for step in range(4):
        made = first.process(world.inputs(step, begin), StepContext(now_ms=step * FLUSH_MS))
        if step == 1:
            written = first.checkpoint(0)
    entries, again = list(written.entries), world.task()
    again.restore(entries)
    again.resume(made.positions, {}, made.coverage.offset, made.coverage.time_ms)
    again.replay(
        [world.topics.records(topic, int(written.marker[topic, 0]), int(made.positions[topic, 0])) for topic in begin]  # type: ignore[index]  # plain integers at run time
    )
    step_again = again.process([], StepContext(now_ms=3 * FLUSH_MS))
    later = again.checkpoint(0)
    third = world.task()
    third.restore(list({entry.key: entry for entry in [*entries, *later.entries]}.values()))
    third.resume(step_again.positions, {}, step_again.coverage.offset, step_again.coverage.time_ms)
    third.replay(
        [world.topics.records(topic, int(later.marker[topic, 0]), int(step_again.positions[topic, 0])) for topic in begin]  # type: ignore[index]  # plain integers at run time
    )
    held = {topic: int(step_again.positions[topic, 0]) for topic in begin}  # type: ignore[index]  # plain integers at run time
    third.process([], StepContext(now_ms=3 * FLUSH_MS))
    for step in range(4, STEPS + 1):
        made = third.process(world.inputs(step, held), StepContext(now_ms=step * FLUSH_MS))
    assert made.coverage.time_ms >= world.end_ms
    assert world.rows() == world.expected


def test_explanations_land_once_and_nobody_waits_for_them(tmp_path: Path) -> None:
    """Their stage may lag: what it writes late is appended late, over restarts too, and the coverage is that of everything else."""
    world = World(tmp_path)
    assert world.plan.topics.explanations not in task_inputs(world.plan).partitioned, "not declared"
    file = tmp_path / "app.yaml"
    file.write_text(file.read_text().replace("    drift:", "    explain: {top: 2}\n    drift:"))
    world.plan = load_plan(tmp_path)
    topic = world.plan.topics.explanations
    assert topic in task_inputs(world.plan).partitioned
    example = json.loads((SCHEMAS / "examples" / "explanation.json").read_text())[0]
    codec = message_codec(world.registry, topic, "explanation")
    values = [codec.encode({**example, "request_id": f"r{number}"}) for number in range(9)]

    def records(begin: int, end: int) -> Records:
        return Records(topic, 0, np.arange(begin, end), np.zeros(end - begin, np.int64), [b"k"] * (end - begin), values[begin:end])

    task, begin = world.task(), dict[str, int]()
    for step in range(4):
        made = task.process([*world.inputs(step, begin), *([records(0, 3)] if step == 1 else [])], StepContext(now_ms=step * FLUSH_MS))
    before = made.coverage.time_ms
    assert before > START and made.positions[TopicPartition(topic, 0)] == 3
    written = task.checkpoint(0)
    # Read and not appended, it is read again after a crash; so is what the lake has beyond the last position.
    task.process([records(3, 5)], StepContext(now_ms=3 * FLUSH_MS + 1))
    again = world.task()
    again.restore(list(written.entries))
    again.resume(made.positions, {}, made.coverage.offset, before)
    again.replay([world.topics.records(name, int(written.marker[name, 0]), int(made.positions[name, 0])) for name in begin])  # type: ignore[index]  # plain integers at run time
    again.process([records(3, 7)], StepContext(now_ms=0))
    made = again.process([], StepContext(now_ms=FLUSH_MS))
    assert made.positions[TopicPartition(topic, 0)] == 7 and made.coverage.time_ms == before
    once_more = world.task()
    once_more.process([records(0, 9)], StepContext(now_ms=0))
    once_more.process([], StepContext(now_ms=FLUSH_MS))
    rows = sorted(world.lake.dataset(EXPLANATIONS).to_table().to_pylist(), key=lambda row: str(row["request_id"]))
    assert [row["request_id"] for row in rows] == [f"r{number}" for number in range(9)]
    assert {name: rows[0][name] for name in ("contributions", "base", "rest", "link")} == {
        name: codec.decode(values[0])[name] for name in ("contributions", "base", "rest", "link")
    }


def test_explanations_that_are_replayed_are_in_the_lake_already(world: World) -> None:
    file = Path(world.lake.root).parents[1] / "app.yaml"
    file.write_text(file.read_text().replace("    drift:", "    explain: {top: 2}\n    drift:"))
    world.plan = load_plan(file.parent)
    topic = world.plan.topics.explanations
    example = json.loads((SCHEMAS / "examples" / "explanation.json").read_text())[0]
    value = message_codec(world.registry, topic, "explanation").encode(example)
    task = world.task()
    task.resume({TopicPartition(topic, 0): 2}, {}, -1, -1)
    task.replay([Records(topic, 0, np.arange(2), np.zeros(2, np.int64), [b"k"] * 2, [value] * 2)])
    task.process([], StepContext(now_ms=0))
    made = task.process([], StepContext(now_ms=FLUSH_MS))
    assert not world.lake.exists(EXPLANATIONS) and made.positions[TopicPartition(topic, 0)] == 2
