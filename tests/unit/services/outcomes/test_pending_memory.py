"""What waits for the truth is held as bytes, not as objects: the rows against plain Python, and a bound on their memory."""

import random
import tracemalloc

import pytest

from tests.long_forms import shortened
from tidemill.services.outcomes.domain.identity_index import IdentityIndex
from tidemill.services.outcomes.domain.join import JoinPolicy, OutcomeJoin
from tidemill.services.outcomes.domain.packed_rows import ROWS, PackedRows
from tidemill.services.outcomes.domain.request import At, Request, TimedLabel

BASE_MS = 1_700_000_000_000


def traced(join: OutcomeJoin, early: bool, begin: int, end: int) -> float:
    """Bytes that each of some requests, or early labels, takes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(begin, end):
            at = At(BASE_MS + i // 2, 0, 3 * i)
            if early:
                join.label("m", f"payment-{i:09d}", TimedLabel(1.0, at.time_ms), at)
            else:
                served = Request(f"payment-{i:09d}", at.offset, at.time_ms, at.time_ms - 3, i / 7, 0, str(10**6), 2, "champion")
                join.request("m", served, at)
            if i % 10_000 == 0:
                join.snapshot()
        join.snapshot()
        return (tracemalloc.get_traced_memory()[0] - before) / (end - begin)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("early", shortened([False, True], 1), ids=["requests", "early labels"])
def test_what_waits_takes_less_than_ninety_bytes(early: bool) -> None:
    """39 bytes, the id (17 here), 10 to 14 of the index; an object for each took 488 bytes, and an early label 700."""
    join = OutcomeJoin([JoinPolicy("m", 10**12)])
    traced(join, early, 0, 100)
    assert traced(join, early, 100, 40_000) < 90


def test_what_is_forgotten_gives_its_memory_back() -> None:
    join = OutcomeJoin([JoinPolicy("m", 250)])
    tracemalloc.start()
    try:
        peak = []
        for i in range(12_000):
            at = At(BASE_MS + i, 0, i)
            join.advance(at)
            join.request("m", Request(f"r{i}", i, at.time_ms, at.time_ms, 0.5, 1, "v", 0, "champion"), at)
            if i % 3_000 == 2_999:
                join.snapshot()
                peak.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(peak[1:]) < 1.3 * peak[0]


@pytest.mark.parametrize("step", [1, 1 << 21], ids=["near", "further apart than four bytes hold"])
def test_rows_are_what_a_list_of_them_is(step: int) -> None:
    generator, rows = random.Random(7), PackedRows([("offset", "i8"), ("time_ms", "i8"), ("value", "f8"), ("seen", "u1"), ("count", "u4")])
    expected: list[list[object]] = []
    forgotten = offset = 0
    for i in range(3 * ROWS + 100):
        offset += generator.randrange(4) * step
        row: list[object] = ["é" * generator.randrange(4) + str(i), (f"v{i // 3_000}", i % 2), offset, offset * 2, generator.random(), 0, 0]
        assert rows.append(str(row[0]), (f"v{i // 3_000}", i % 2), *row[2:]) == i
        expected.append(row)
        if generator.random() < 0.3:
            rows.forget_first()
            forgotten += 1
        place = generator.randrange(forgotten, i + 1) if forgotten <= i else None
        if place is not None:
            expected[place][5:] = [i % 2, i]
            rows.set(place, "seen", i % 2)
            rows.set(place, "count", i)
            assert rows.number(place & 0xFFFFFFFF) == place
    assert (rows.first, rows.end) == (forgotten, len(expected))
    for place in range(forgotten, len(expected), 17):
        name, repeated, *numbers = expected[place]
        assert (rows.identity(place), rows.repeated(place), list(rows.get(place))) == (name, repeated, numbers)
        assert rows.is_named(place, str(name)) and not rows.is_named(place, f"{name}0")
    for _ in range(60):
        low = generator.randrange(-5, offset + 5)
        high = low + generator.choice([0, 1, 256, 5_000, offset])
        chosen = [list(row) for columns in rows.between(low, high) for row in zip(*columns, strict=True)]
        assert chosen == [row for row in expected[forgotten:] if isinstance(row[2], int) and low <= row[2] < high]


def test_the_index_is_what_a_dictionary_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so few tags that most ids collide: the rows have the last word."""
    names: dict[int, str] = {}
    monkeypatch.setattr("tidemill.services.outcomes.domain.identity_index._tag", lambda identity: int(identity) % 97 * 22_000_000 + 1)
    index, generator = IdentityIndex(lambda lower, identity: names[lower] == identity), random.Random(3)
    expected: dict[str, int] = {}
    for row in range(6_000):
        identity = str(generator.randrange(900))
        if identity in expected and generator.random() < (0.9 if 2_000 < row < 4_000 else 0.4):
            index.remove(identity, expected.pop(identity))
        elif identity in expected and generator.random() < 0.5:
            names[row] = identity
            index.replace(identity, expected[identity], row)
            expected[identity] = row
        else:
            names[row] = identity
            assert index.add(identity, row) == (identity not in expected)
            expected.setdefault(identity, row)
        assert len(index) == len(expected)
        asked = str(generator.randrange(900))
        assert index.find(asked) == expected.get(asked, -1)
    with pytest.raises(KeyError):
        index.remove("901", 1)
