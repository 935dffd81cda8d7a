"""The table of known ids: what is a copy never depends on the size of the table, on its chunks or on what has aged."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.ingestion.domain import known_ids
from tidemill.services.ingestion.domain.identity_hash import identity_hashes
from tidemill.services.ingestion.domain.known_ids import KnownIds

KEY = bytes(range(16))


def add(table: KnownIds, names: list[str], time_ms: int) -> list[bool]:
    """Let events become known at one instant; says which are new."""
    ids, at = table.hashes(pa.array(names)), np.full(len(names), time_ms)
    slots, certain = table.claim(ids, at, at)
    assert certain == len(names)
    new = slots >= 0
    table.settle(ids[new], slots[new], at[new])
    return [bool(one) for one in new]


def test_the_hash_is_siphash_with_128_bits() -> None:
    """Vectors of the reference implementation: key 00..0f, input 00, 01, ..."""
    texts = pa.array(["", "\x00", "\x00\x01"])
    assert [row.tobytes().hex() for row in identity_hashes(texts, KEY)] == [
        "a3817f04ba25a8e66df67214c7550293",
        "da87c1d86b99af44347659119b22fc45",
        "8177228da4a45dc7fca38bdef60affe4",
    ]


def test_a_sliced_column_has_the_hashes_of_its_own_texts() -> None:
    texts = [f"id {i}" * (i % 5) for i in range(50)]
    whole = identity_hashes(pa.array(texts), KEY)
    assert (identity_hashes(pa.array(["x", *texts, None]).slice(1, 50), KEY) == whole).all()


def test_ids_age_and_the_table_does_not_grow(tmp_path: Path) -> None:
    """A hundred times the ids of one window pass; the oracle is a dict."""
    table, accepted, rng = KnownIds("s", 1_000, KEY, tmp_path), dict[str, int](), np.random.default_rng(5)
    for step in range(600):
        now = step * 100
        names = [f"e{i}" for i in rng.integers(0, 20_000, 300)]
        expected = []
        for name in names:
            new = now - accepted.get(name, -10_000) > 1_000
            expected.append(new)
            if new:
                accepted[name] = now
        assert add(table, names, now) == expected
        table.take_dirty()
    assert table._table.nbytes <= 16_384 * 32
    assert list(tmp_path.iterdir()) == [], "the file has no name and goes with the process"


def test_checkpoints_are_small_shares_and_chunks_are_deleted_as_they_age() -> None:
    table, state, rng = KnownIds("s", 1_000, KEY), dict[bytes, bytes](), np.random.default_rng(6)
    number = 0
    for step in range(400):
        count = int(rng.integers(0, 120)) if step % 50 else 5_000
        names = [f"e{number + i}" for i in range(count)]
        number += count
        if names:
            add(table, names, step * 10)
        for entry in table.take_dirty():
            assert entry.value is None or len(entry.value) <= 2_048 * 24
            if entry.value is None:
                del state[entry.key]
            else:
                state[entry.key] = entry.value
        assert table.take_dirty() == [], "nothing new, nothing written"
    again = KnownIds("s", 1_000, KEY)
    again.restore([(int(key.split(b"|")[2]), blob) for key, blob in state.items()])
    newest = [f"e{i}" for i in range(number - 300, number)]
    assert not any(add(again, newest, 4_000))
    assert sum(map(len, state.values())) < 24 * 30_000, "what has aged is gone: some 13,000 of all ids are left"


def test_a_row_in_doubt_ends_the_claim() -> None:
    table = KnownIds("s", 100, KEY)
    add(table, ["a", "b"], 1_000)
    ids = table.hashes(pa.array(["c", "a", "d"]))
    slots, certain = table.claim(ids, np.array([1_050, 1_090, 1_095]), np.array([1_050, 1_110, 1_110]))
    assert certain == 1 and len(slots) == 1 and slots[0] >= 0
    table.give_back(slots)
    assert add(table, ["c", "a"], 1_100) == [True, False]
    assert add(table, ["a"], 1_101) == [True]


def test_nobody_waits_for_all_ids_to_be_moved_and_none_is_lost_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table grows to a hundredfold, and shrinks when most have aged; the oracle is a dict."""
    most, move = [0], known_ids._move

    def counted(left: Any, begin: int, end: int, *more: Any) -> int:
        most[0] = max(most[0], end - begin)
        return int(move(left, begin, end, *more))

    monkeypatch.setattr(known_ids, "_move", counted)
    table, accepted, rng = KnownIds("s", 1_000, KEY, tmp_path), dict[str, int](), np.random.default_rng(7)
    rooms, now = [], 0
    for step in range(600):
        now, count = (now + 1, 400) if step < 100 else (now + 50, 120)
        names = [f"e{i}" for i in rng.integers(0, 400_000, int(rng.integers(count // 2, count)))]
        expected, met = [], set[str]()
        for name in names:
            expected.append(name not in met and now - accepted.get(name, -10_000) > 1_000)
            met.add(name)
        accepted |= {name: now for name, new in zip(names, expected, strict=True) if new}
        assert add(table, names, now) == expected
        if step % 7 == 0:
            table.take_dirty()
        rooms.append(len(table._table))
    assert max(rooms) >= 64 * rooms[0] and rooms[-1] <= max(rooms) / 4
    assert 0 < most[0] <= 16 * 400


@pytest.mark.parametrize("count", [1_000_000])
def test_a_million_ids_take_the_memory_that_the_reference_says(count: int, tmp_path: Path) -> None:
    table = KnownIds("s", 10**9, KEY, tmp_path)
    for begin in range(0, count, 100_000):
        add(table, [f"event-{i:012d}" for i in range(begin, begin + 100_000)], begin)
    assert count * 1.5 * 32 <= table._table.nbytes <= count * 6 * 32
