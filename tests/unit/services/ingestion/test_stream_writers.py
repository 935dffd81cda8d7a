"""How a stream's records come to be written otherwise: told once, whatever the steps and restarts."""

import json
from collections import Counter

import numpy as np
import pytest

from tidemill.services.ingestion.domain.stream_writers import DAY_MS, NAMES_BYTES, SchemaChange, StreamWriters, WrittenRows
from tidemill.shared.avro.schema_fields import FieldChange, SchemaField

SCHEMAS = {
    7: {"id": SchemaField("string"), "weight": SchemaField("double")},
    8: {"id": SchemaField("string")},
    9: {"id": SchemaField("string"), "weight": SchemaField("float"), "gift": SchemaField("boolean")},
}
NAMES = {-1: ("id", "weight"), -2: ("id",), -3: ("gift", "id", "weight")}
COLUMNS = {"id": "id", "weight": "weight"}


def rows(writers: list[int], times: list[int], refused: list[bool] | None = None) -> WrittenRows:
    n = len(writers)
    return WrittenRows(
        np.array(times, np.int64), np.array(writers, np.int64), np.array(refused or [False] * n), np.zeros(n, np.int32), np.arange(n) + 100
    )  # fmt: skip


def told(what: WrittenRows, sizes: list[int] | None = None, *, restarts: bool = False) -> list[SchemaChange]:
    """Fold rows in steps of some sizes, and the end of their last day."""
    fold, said, begin, n = StreamWriters("orders", COLUMNS), [], 0, len(what.times)
    for size in sizes or [n]:
        part = slice(begin, begin + size)
        begin += size
        taken = WrittenRows(*(getattr(what, name)[part] for name in WrittenRows.__slots__))
        if len(taken.times):
            said += fold.absorb(taken, NAMES.__getitem__, SCHEMAS.__getitem__)
        if restarts and (text := fold.snapshot()):
            fold = StreamWriters("orders", COLUMNS)
            fold.load(text)
    return said + fold.close(int(what.times[-1]) // DAY_MS + 1, SCHEMAS.__getitem__)


def test_a_new_writer_is_told_with_what_differs_since_when_and_how_many() -> None:
    days = [0] * 10 + [1] * 10
    times = [day * DAY_MS + i for i, day in enumerate(days)]
    writers = [7] * 14 + [8, 7, 8, 8, 7, 8]
    (changes,) = told(rows(writers, times, [False] * 19 + [True]))
    assert (changes.schema_id, changes.previous_id, changes.day, changes.first_ms, changes.source_offset) == (8, 7, 1, times[14], 114)
    assert (changes.records, changes.refused, changes.of, changes.time_ms) == (4, 1, 10, 2 * DAY_MS - 1)
    assert changes.changes == (FieldChange("weight", "dropped", "double", "", "weight", "lost"),)


def test_the_first_writer_is_no_change_and_none_is_told_twice() -> None:
    times = [day * DAY_MS + i for day in range(6) for i in range(4)]
    writers = [7] * 4 + [7, 7, 7, 9] + [9] * 4 + [7] * 4 + [9, 9, 8, 9] + [8] * 4
    changes = told(rows(writers, times))
    assert [(one.schema_id, one.previous_id, one.day) for one in changes] == [(9, 7, 1), (8, 7, 4)], "held against most records of the last day"


def test_fields_of_json_appear_and_no_longer_come() -> None:
    usual, gone, more = [-1] * 150, [-2] * 40, [-3] * 5
    times = [0] * 150 + [DAY_MS + i for i in range(40)] + [2 * DAY_MS + i for i in range(45)]
    first, second = told(rows([*usual, *gone, *gone, *more], times))
    assert first.changes == (FieldChange("weight", "dropped", "", "", "weight", "lost"),) and (first.schema_id, first.records, first.of) == (
        -1,
        40,
        40,
    )
    assert first.first_ms == 0, "since the last record that had it"
    assert [(one.field, one.change, one.effect) for one in second.changes] == [("gift", "added", "none"), ("weight", "added", "read")]
    assert (second.records, second.of) == (5, 45)


def test_a_rare_field_is_not_missed_by_chance() -> None:
    generator = np.random.default_rng(1)
    writers = np.where(generator.random(4_000) < 0.05, -3, -1).tolist()
    assert told(rows(writers, [i * DAY_MS // 100 for i in range(4_000)])) == []


@pytest.mark.parametrize("seed", range(5))
def test_steps_and_restarts_change_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, days = 600, 8
    times = np.sort(generator.integers(0, days * DAY_MS, n)).tolist()
    late = np.array(times) > generator.integers(2, 6) * DAY_MS
    writers = np.where(late, generator.choice([0, 7, 8, 9, -2, -3], n), generator.choice([7, -1, 0], n, p=[0.4, 0.55, 0.05])).tolist()
    what = rows(writers, times, (generator.random(n) < 0.1).tolist())
    whole = told(what)
    assert whole, "something changes"
    assert told(what, [1] * n) == whole
    assert told(what, np.diff([0, *sorted(generator.integers(0, n, 30).tolist()), n]).tolist(), restarts=True) == whole
    # By plain counting: each new schema once, with the counts of the day in which it began.
    by_day = {(number, time // DAY_MS): 0 for number, time in zip(writers, times, strict=True)}
    by_day |= Counter((number, time // DAY_MS) for number, time in zip(writers, times, strict=True))
    for one in whole:
        assert one.of == sum(count for (_, day), count in by_day.items() if day == one.day)
        if one.schema_id > 0:
            assert one.records == by_day[one.schema_id, one.day] and not any((one.schema_id, day) in by_day for day in range(one.day))
    numbers = [number for number in writers if number > 0]
    assert {one.schema_id for one in whole if one.schema_id > 0} == set(numbers) - {numbers[0]}


def test_a_refused_record_of_a_day_that_is_told_counts_with_the_next() -> None:
    fold = StreamWriters("orders", COLUMNS, usual=7, known=[7])
    told_first = fold.absorb(rows([7, 7], [DAY_MS, DAY_MS + 5]), NAMES.__getitem__, SCHEMAS.__getitem__)
    assert told_first == [] == fold.close(2, SCHEMAS.__getitem__)
    again = StreamWriters("orders", COLUMNS)
    again.load(fold.snapshot())
    said = again.absorb(rows([8, 7, 8, 7], [2 * DAY_MS - 1, 2 * DAY_MS + 9, 2 * DAY_MS - 1, 2 * DAY_MS + 9]), NAMES.__getitem__, SCHEMAS.__getitem__)
    (one,) = said + again.close(3, SCHEMAS.__getitem__)
    assert (one.day, one.records, one.of) == (2, 2, 4)


def test_strangers_cannot_make_it_large() -> None:
    fold = StreamWriters("orders", COLUMNS)
    fold.load(StreamWriters("orders", COLUMNS, usual=7, known=[7]).snapshot())
    for day in range(30):
        writers = list(range(10 + 40 * day, 50 + 40 * day))
        names = {-1: tuple(f"{day} {i} {'x' * 5_000}" for i in range(40))}
        said = fold.absorb(rows([*writers, -1], [day * DAY_MS] * 41), names.__getitem__, lambda _: {})
        assert len(said) <= 21
    assert len(fold.snapshot()) < 100_000


def attacked(letters: str, room: int) -> StreamWriters:
    """Thirty days of invented names, in refused and in accepted records."""
    fold = StreamWriters("orders", COLUMNS, name_bytes=room)
    for day in range(30):
        names = {-1 - k: tuple(f"{day} {k} {i} {letters * 100}" for i in range(100)) for k in range(10)} | {-11: ("id", "weight")}
        writers, times = [-1 - k for k in range(10)] + [-11] * 20, [day * DAY_MS] * 30
        fold.absorb(rows(writers, times, [k % 2 == 0 for k in range(10)] + [False] * 20), names.__getitem__, lambda _: {})
    return fold


@pytest.mark.parametrize("letters", ["x", "é", "語", "🂡", '"', "\\", "\x01"])
@pytest.mark.parametrize("streams", [1, 12, 60])
def test_invented_names_of_all_streams_together_are_bounded_in_bytes(letters: str, streams: int) -> None:
    fold = attacked(letters, NAMES_BYTES // streams)
    assert len(fold.snapshot()) * streams < NAMES_BYTES + 1_000 * streams, "a record of the broker has 1 MB"
    assert set(fold.fields.stands) >= {"id", "weight"}, "there is room for the application's own"


def test_a_name_that_only_refused_records_have_is_told_once_and_does_not_stay() -> None:
    names = {-1: ("id", "weight"), -2: ("id", "kilograms", "weight")}
    days = [0] * 120 + [1] * 10 + [2] * 10 + [3] * 10
    writers = [-1] * 120 + [-1, -2] * 15
    times = [day * DAY_MS + i for i, day in enumerate(days)]
    fold, said, kept = StreamWriters("orders", COLUMNS), [], []
    for day in range(5):
        at = [i for i, one in enumerate(days) if one == day]
        said += fold.close(day, SCHEMAS.__getitem__)
        kept.append(json.loads(fold.snapshot() or '{"fields": {"stands": {}, "strange": {}}}')["fields"])
        if at:
            part = rows([writers[i] for i in at], [times[i] for i in at], [writers[i] == -2 for i in at])
            said += fold.absorb(part, names.__getitem__, SCHEMAS.__getitem__)
    (one,) = said
    assert one.changes == (FieldChange("kilograms", "added", "", "", "", "none"),)
    assert (one.day, one.records, one.refused, one.of, one.first_ms) == (1, 5, 5, 10, times[121])
    assert all(set(state["stands"]) <= {"id", "weight"} and not state["strange"] for state in kept)


def test_refused_records_leave_room_for_the_fields_that_come_later() -> None:
    """A new column is told though strangers have filled every room before."""
    fold = StreamWriters("orders", {**COLUMNS, "gift": "gift"})
    names = {-1: ("id", "weight"), -2: ("gift", "id", "weight"), **{-3 - k: tuple(f"{k} {i}" for i in range(60)) for k in range(20)}}
    fold.absorb(rows([-1] * 150, [0] * 150), names.__getitem__, SCHEMAS.__getitem__)
    fold.absorb(rows([*(-3 - k for k in range(20)), -1], [DAY_MS] * 21, [True] * 20 + [False]), names.__getitem__, SCHEMAS.__getitem__)
    said = fold.absorb(rows([-1, -2], [2 * DAY_MS] * 2), names.__getitem__, SCHEMAS.__getitem__)
    said += fold.close(3, SCHEMAS.__getitem__)
    assert said[0].day == 1 and len(said[0].changes) == 20, "of the strangers' names the first are told"
    assert [one.field for one in said[-1].changes] == ["gift"] and said[-1].day == 2


@pytest.mark.parametrize("seed", range(8))
def test_invented_names_beyond_all_room_are_the_same_in_any_steps(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = 400
    times = np.sort(generator.integers(0, 6 * DAY_MS, n)).tolist()
    names = {-1: ("id", "weight")} | {-k: tuple(sorted({f"n{one}" for one in generator.integers(0, 60, 4).tolist()})) for k in range(2, 40)}
    writers = [-int(k) for k in generator.integers(1, 40, n)]
    what = rows(writers, times, (generator.random(n) < 0.6).tolist())

    def folded(sizes: list[int]) -> tuple[list[SchemaChange], str]:
        fold, said, begin = StreamWriters("orders", COLUMNS, name_bytes=6_000), [], 0
        for size in sizes:
            part = slice(begin, begin + size)
            begin += size
            if size:
                said += fold.absorb(WrittenRows(*(getattr(what, name)[part] for name in WrittenRows.__slots__)), names.__getitem__, lambda _: {})
            text, fold = fold.snapshot(), StreamWriters("orders", COLUMNS, name_bytes=6_000)
            fold.load(text or StreamWriters("orders", COLUMNS, usual=0).snapshot())
        return said + fold.close(9, lambda _: {}), fold.snapshot()

    whole = folded([n])
    assert whole[0] and folded([1] * n) == whole
    assert folded(np.diff([0, *sorted(generator.integers(1, n, 25).tolist()), n]).tolist()) == whole


def test_thousands_of_schemas_within_a_day_cannot_make_it_large() -> None:
    """All of it stands in every progress record, which must not outgrow a record of the broker."""
    fold = StreamWriters("orders", COLUMNS)
    for begin in range(1, 5_000, 500):
        assert fold.absorb(rows(list(range(begin, begin + 500)), [5] * 500), NAMES.__getitem__, lambda _: {}) == []
    assert len(fold.snapshot()) < 5_000
    said = fold.close(1, lambda _: {})
    assert len(said) == 20 and {(one.records, one.of) for one in said} == {(1, 5_000)}
