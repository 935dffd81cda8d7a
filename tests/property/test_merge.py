"""Whatever the order in which inputs arrive, a merge releases the same rows in the same order, and none too early."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.merge.merge import Merge, MergeInput, Released
from tidemill.shared.runner.progress import Progress

Row = tuple[int, int, int, int, int]  # journal time, journal partition, journal offset, rank, offset in its topic


@dataclass
class World:
    """A journal of two partitions and two derived topics, each record with its coordinates, and the producers' commits."""

    rows: dict[tuple[str, int], list[Row]]
    commits: dict[tuple[str, int], list[tuple[int, int, int]]]  # per derived topic: (records produced, covered offset, covered time)
    partitions: int


@st.composite
def worlds(draw: st.DrawFn) -> World:
    partitions = draw(st.integers(1, 2))
    world = World({}, {}, partitions)
    for partition in range(partitions):
        time = 0
        journal: list[Row] = []
        offset = 0
        for _ in range(draw(st.integers(0, 12))):
            time += draw(st.integers(0, 2))
            offset += draw(st.integers(1, 2))  # transaction markers leave gaps
            journal.append((time, partition, offset, 0, offset))
        world.rows[("journal", partition)] = journal
        for rank, topic in ((1, "vectors"), (2, "scores")):
            derived: list[Row] = []
            commits: list[tuple[int, int, int]] = []
            at = 0
            for time, _, offset, _, _ in journal:
                for _ in range(draw(st.integers(0, 2))):
                    derived.append((time, partition, offset, rank, at))
                    at += draw(st.integers(1, 2))
                if draw(st.booleans()):
                    commits.append((len(derived), offset + 1, time))
            if journal:
                commits.append((len(derived), journal[-1][2] + 1, 1_000))
            world.rows[(topic, partition)] = derived
            world.commits[(topic, partition)] = commits
    # The journal itself ends in a tick at time 1,000 in every partition.
    for partition in range(partitions):
        journal = world.rows[("journal", partition)]
        offset = journal[-1][2] + 1 if journal else 0
        journal.append((1_000, partition, offset, 0, offset))
        for topic in ("vectors", "scores"):
            world.commits[(topic, partition)].append((len(world.rows[(topic, partition)]), offset + 1, 1_000))
    return world


STAGES = {"vectors": "features", "scores": "scoring"}


def merge_of(world: World) -> Merge:
    partitions = tuple(range(world.partitions))
    return Merge(
        [MergeInput("journal", 0, partitions), MergeInput("vectors", 1, partitions, "features"), MergeInput("scores", 2, partitions, "scoring")]
    )


def add(merge: Merge, topic: str, partition: int, rows: list[Row]) -> None:
    columns = np.array(rows, np.int64).T
    merge.add(topic, partition, offsets=columns[4], journal_time=columns[0], journal_partition=columns[1], journal_offset=columns[2], payload=rows)


def flat(released: Released) -> list[Row]:
    rows = [run.payload[row] for run in released.runs() for row in run.rows]
    ranks = {"journal": 0, "vectors": 1, "scores": 2}
    parts = zip(
        released.journal_time.tolist(),
        released.journal_partition.tolist(),
        released.journal_offset.tolist(),
        [ranks[released.sources[number][0]] for number in released.source.tolist()],
        released.offsets.tolist(),
        strict=True,
    )
    assert rows == list(parts)
    return rows


def events(world: World, data: st.DataObject) -> Iterator[tuple[str, str, int, list[Row] | tuple[int, int, int], int]]:
    """Deliver everything in an arbitrary interleaving that keeps the order within each topic partition."""
    queues: list[list[tuple[str, str, int, list[Row] | tuple[int, int, int], int]]] = []
    for (topic, partition), rows in world.rows.items():
        cut = data.draw(st.integers(1, 5))
        queues.append([("rows", topic, partition, rows[at : at + cut], at) for at in range(0, len(rows), cut)])
    for (topic, partition), commits in world.commits.items():
        queues.append([("progress", topic, partition, commit, at) for at, commit in enumerate(commits)])
    queues = [queue for queue in queues if queue]
    while queues:
        queue = data.draw(st.sampled_from(queues))
        yield queue.pop(0)
        queues = [queue for queue in queues if queue]


def deliver(
    merge: Merge, event: tuple[str, str, int, list[Row] | tuple[int, int, int], int], done_below: dict[tuple[str, int], int] | None = None
) -> None:
    kind, topic, partition, content, at = event
    if kind == "rows":
        assert isinstance(content, list)
        rows = [row for row in content if done_below is None or row[4] >= done_below.get((topic, partition), 0)]
        if rows:
            add(merge, topic, partition, rows)
    else:
        assert isinstance(content, tuple)
        produced, offset, time = content
        record = Progress(STAGES[topic], partition, covered_offset=offset, covered_time=time, outputs={topic: produced})
        merge.watermark(f"app-{STAGES[topic]}-progress", partition, at, record)


@settings(max_examples=examples(80), deadline=None)
@given(world=worlds(), data=st.data())
def test_order_does_not_depend_on_delivery(world: World, data: st.DataObject) -> None:
    merge = merge_of(world)
    merged: list[Row] = []
    for event in events(world, data):
        deliver(merge, event)
        merged += flat(merge.release())
    everything = sorted(row for rows in world.rows.values() for row in rows)
    assert merged == everything[: len(merged)]
    before_end = [row for row in everything if row[0] < 1_000]
    assert merged[: len(before_end)] == before_end
    assert merge.coverage().time_ms == 1_000
    if world.partitions == 1:
        assert merged == everything


@settings(max_examples=examples(80), deadline=None)
@given(world=worlds(), data=st.data())
def test_a_restart_in_between_changes_nothing(world: World, data: st.DataObject) -> None:
    merge = merge_of(world)
    merged: list[Row] = []
    delivered = []
    for event in events(world, data):
        delivered.append(event)
        deliver(merge, event)
        merged += flat(merge.release())
        if data.draw(st.integers(0, 4)) == 0:
            state, positions = merge.state(), merge.positions()
            merge = merge_of(world)
            merge.restore(state)
            merge.resume(positions)
            below = {(partition.topic, partition.partition): offset for partition, offset in positions.items()}
            for old in delivered:
                deliver(merge, old, below)
            merged += flat(merge.release())
    everything = sorted(row for rows in world.rows.values() for row in rows)
    assert merged == everything[: len(merged)]
    assert len(merged) >= len([row for row in everything if row[0] < 1_000])


def test_an_empty_input_holds_the_merge_until_all_it_had_to_say_was_read() -> None:
    merge = Merge([MergeInput("journal", 0), MergeInput("scores", 1, stage="scoring")])
    add(merge, "journal", 0, [(5, 0, 0, 0, 0), (6, 0, 1, 0, 1)])
    merge.watermark("p", 0, 0, Progress("scoring", 0, covered_offset=2, covered_time=6, outputs={"scores": 1}))
    assert len(merge.release()) == 0
    add(merge, "scores", 0, [(5, 0, 0, 1, 40)])
    assert flat_ranks(merge.release()) == ["journal", "scores", "journal"]


def test_quarantined_records_count_as_read() -> None:
    merge = Merge([MergeInput("journal", 0), MergeInput("scores", 1, stage="scoring")])
    add(merge, "journal", 0, [(5, 0, 0, 0, 0)])
    merge.watermark("p", 0, 0, Progress("scoring", 0, covered_offset=1, covered_time=5, outputs={"scores": 1}))
    assert len(merge.release()) == 0
    merge.skip("scores", 0, np.array([40]))
    assert len(merge.release()) == 1
    assert merge.positions()[TopicPartition("scores", 0)] == 41


def test_a_quarantined_record_is_not_counted_before_the_rows_that_are_read_with_it() -> None:
    """A task learns of it before the step's rows, and stores its counts before it takes them up."""
    merge = Merge([MergeInput("journal", 0), MergeInput("scores", 1, stage="scoring")])
    merge.restore(merge.state())
    merge.skip("scores", 0, np.array([41]))
    assert len(merge.drain()) == 0
    stored = merge.state()
    add(merge, "journal", 0, [(5, 0, 0, 0, 0), (6, 0, 1, 0, 1), (7, 0, 2, 0, 2)])
    add(merge, "scores", 0, [(5, 0, 0, 1, 40), (6, 0, 1, 1, 42)])
    made = Progress("scoring", 0, covered_offset=3, covered_time=7, outputs={"scores": 3})
    merge.watermark("p", 0, 0, made)
    assert flat_ranks(merge.release()) == ["journal", "scores", "journal", "scores", "journal"]
    again = Merge([MergeInput("journal", 0), MergeInput("scores", 1, stage="scoring")])
    again.restore(stored)
    again.skip("scores", 0, np.array([41]))
    add(again, "journal", 0, [(5, 0, 0, 0, 0), (6, 0, 1, 0, 1), (7, 0, 2, 0, 2)])
    add(again, "scores", 0, [(5, 0, 0, 1, 40), (6, 0, 1, 1, 42)])
    again.watermark("p", 0, 0, made)
    assert len(again.release()) == 5


def test_a_quarantined_record_below_the_committed_position_is_in_the_counts_of_the_next_checkpoint() -> None:
    merge = Merge([MergeInput("journal", 0), MergeInput("scores", 1, stage="scoring")])
    merge.resume({TopicPartition("scores", 0): 42})
    merge.skip("scores", 0, np.array([41]))
    assert len(merge.drain()) == 0
    assert ["scores", 0, 42, 1, None] in json.loads(merge.state())


def test_a_gathered_upstream_counts_over_all_partitions() -> None:
    merge = Merge([MergeInput("journal", 0, (0, 1)), MergeInput("drift", 1, (0, 1), "drift", gathered=True)])
    add(merge, "journal", 0, [(5, 0, 0, 0, 0), (9, 0, 1, 0, 1)])
    add(merge, "journal", 1, [(5, 1, 0, 0, 0), (9, 1, 1, 0, 1)])
    merge.watermark("p", 0, 0, Progress("drift", 0, covered_offset=0, covered_time=6, outputs={"drift": 2}))
    add(merge, "drift", 0, [(5, 0, 0, 1, 0)])
    assert flat_ranks(merge.release()) == []
    add(merge, "drift", 1, [(5, 1, 0, 1, 0)])
    assert flat_ranks(merge.release()) == ["journal", "drift", "journal", "drift"]


def flat_ranks(released: Released) -> list[str]:
    return [released.sources[number][0] for number in released.source.tolist()]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="rank of its own"):
        Merge([MergeInput("a", 0), MergeInput("b", 0)])
    merge = Merge([MergeInput("a", 0)])
    with pytest.raises(ValueError, match="expected one of the inputs"):
        add(merge, "b", 0, [(1, 0, 0, 0, 0)])
    with pytest.raises(ValueError, match="never fall in a:0"):
        add(merge, "a", 0, [(2, 0, 0, 0, 0), (1, 0, 1, 0, 1)])
    add(merge, "a", 0, [(2, 0, 0, 0, 0)])
    with pytest.raises(ValueError, match="never fall in a:0"):
        add(merge, "a", 0, [(1, 0, 1, 0, 1)])


def test_a_restored_merge_refuses_what_falls_behind_that_which_it_had_let_go() -> None:
    def merge() -> Merge:
        return Merge([MergeInput("journal", 0), MergeInput("scores", 1)])

    one, two = merge(), merge()
    add(one, "journal", 0, [(5, 0, 0, 0, 0), (7, 0, 1, 0, 1), (9, 0, 2, 0, 2)])
    add(one, "scores", 0, [(8, 0, 0, 1, 0)])
    assert len(one.release()) == 3
    two.restore(one.state())
    two.resume(one.positions())
    # What was held back comes again.
    add(two, "journal", 0, [(9, 0, 2, 0, 2)])
    with pytest.raises(ValueError, match=r"never fall in scores:0, got \(7, 0, 9\) after \(8, 0, 0\)"):
        add(two, "scores", 0, [(7, 0, 9, 1, 1)])
    # A state of before the coordinates were kept in it.
    two = merge()
    two.restore(json.dumps([entry[:4] for entry in json.loads(one.state())]).encode())
    add(two, "scores", 0, [(7, 0, 9, 1, 1)])


@pytest.mark.parametrize("quarantined", [False, True], ids=["a row", "a quarantined record"])
def test_a_restored_merge_believes_no_progress_before_it_has_read_again_what_it_held_back(quarantined: bool) -> None:
    """What was read and held back is given again after a restart, and maybe after the progress record that counts it."""

    def merge() -> Merge:
        return Merge([MergeInput("app-journal", 0), MergeInput("app-predictions", 1, stage="scoring")])

    def predict(one: Merge, offset: int, journal_offset: int, time: int) -> None:
        one.add(
            "app-predictions", 0, offsets=np.array([offset]), journal_time=np.array([time]), journal_offset=np.array([journal_offset]), payload="p"
        )

    def followed(one: Merge) -> list[int]:
        return [int(offset) for offset in one.release().journal_offset]

    first = merge()
    first.add("app-journal", 0, offsets=np.array([0]), journal_time=np.array([0]), payload="j")
    predict(first, 4, 0, 0)
    predict(first, 6, 11, 1_170)
    predict(first, 8, 12, 1_170)
    if quarantined:
        first.skip("app-predictions", 0, np.array([9]))
    assert followed(first) == [0, 0]
    again = merge()
    again.restore(first.state())
    again.resume(first.positions())
    again.add("app-journal", 0, offsets=np.array([11, 12, 13]), journal_time=np.array([1_170] * 3), payload="jjj")
    done = Progress(stage="scoring", partition=0, covered_offset=14, covered_time=1_170, outputs={"app-predictions": 4 if quarantined else 3})
    again.watermark("app-scoring-progress", 0, 5, done)
    assert followed(again) == []
    predict(again, 6, 11, 1_170)
    assert followed(again) == [11, 11], "of what follows, one is still to come"
    predict(again, 8, 12, 1_170)
    if quarantined:
        assert followed(again) == [12, 12]
        again.skip("app-predictions", 0, np.array([9]))
        assert followed(again) == [13]
    else:
        assert followed(again) == [12, 12, 13]
