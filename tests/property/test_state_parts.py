"""Checkpoint entries larger than a record: what is loaded from the log is what was written last, however the log was compacted or cut into runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.runner_tasks import APP, STAGE, CountingTask, DyingBroker, Killed, arguments, expected, output
from tests.property.test_runner_exactly_once import OUTPUT, filled, finish, quick
from tidemill.shared.log.records import Checkpoint, StateEntry
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.state_parts import PART_BYTES, StateParts, TornStateError

PART = 10
KEYS = st.sampled_from([b"a", b"b", "\u00fc|1|x".encode(), b""])
SIZES = st.integers(0, 45).flatmap(lambda n: st.binary(min_size=n, max_size=n))
VALUES = st.none() | SIZES | st.sampled_from([b"x" * 10, b"x" * 11, b"x" * 30, b"x" * 20 + b"y" * 10])


def loaded(log: list[StateEntry], rng: np.random.Generator) -> tuple[StateParts, dict[bytes, bytes]]:
    """Read a log in random runs, as a task that takes runs does."""
    parts, at = StateParts(PART), 0
    state: dict[bytes, bytes] = {}
    while at < len(log):
        run = log[at : at + int(rng.integers(1, 6))]
        at += len(run)
        keys, values = parts.set_aside([entry.key for entry in run], [entry.value for entry in run])
        for key, value in zip(keys, values, strict=True):
            assert key is not None
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    for entry in parts.joined():
        assert entry.value is not None and entry.key not in state
        state[entry.key] = entry.value
    return parts, state


def compacted(log: list[StateEntry], rng: np.random.Generator) -> list[StateEntry]:
    """Leave the latest of each key up to a random place; entries without a value may go as well."""
    end = int(rng.integers(0, len(log) + 1))
    last = {entry.key: place for place, entry in enumerate(log[:end])}
    kept = [entry for place, entry in enumerate(log[:end]) if last[entry.key] == place and (entry.value is not None or rng.random() < 0.5)]
    return kept + log[end:]


@given(
    writes=st.lists(st.lists(st.tuples(KEYS, VALUES), max_size=5), max_size=12), restarts=st.sets(st.integers(0, 11)), seed=st.integers(0, 2**32 - 1)
)
def test_the_log_gives_back_the_latest_state(writes: list[list[tuple[bytes, bytes | None]]], restarts: set[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = StateParts(PART)
    log: list[StateEntry] = []
    latest: dict[bytes, bytes] = {}
    for turn, write in enumerate(writes):
        entries = [StateEntry(key, value) for key, value in dict(write).items()]
        written = parts.cut(entries)
        assert all(len(entry.value or b"") <= max(PART, 80) for entry in written)
        log += written
        for entry in entries:
            if entry.value is None:
                latest.pop(entry.key, None)
            else:
                latest[entry.key] = entry.value
        log = compacted(log, rng)
        if turn in restarts:
            parts, state = loaded(log, rng)
            assert state == latest
    assert loaded(log, rng)[1] == latest


def test_only_the_parts_that_changed_are_written_again() -> None:
    parts = StateParts(PART)
    first = parts.cut([StateEntry(b"k", b"a" * 10 + b"b" * 10 + b"c" * 5)])
    assert len(first) == 5  # the plain key is deleted, a manifest, three parts
    again = parts.cut([StateEntry(b"k", b"a" * 10 + b"b" * 10 + b"d" * 5)])
    assert [entry.value for entry in again][1:] == [b"ddddd"]


def test_a_missing_part_stops_loudly() -> None:
    written = StateParts(PART).cut([StateEntry(b"k", b"a" * 25)])
    for missing in range(1, len(written)):
        parts = StateParts(PART)
        kept = [entry for place, entry in enumerate(written) if place != missing]
        parts.set_aside([entry.key for entry in kept], [entry.value for entry in kept])
        with pytest.raises(TornStateError, match="expected the parts that its manifest names"):
            parts.joined()


class HoardingTask(CountingTask):
    """Keeps all values of its inputs in one entry, which outgrows every record."""

    def restore(self, entries: Sequence[StateEntry]) -> None:
        padded = [entry for entry in entries if entry.value is not None]
        super().restore([StateEntry(entry.key, (entry.value or b"").split(b"\0")[0]) for entry in padded])

    def checkpoint(self, budget_bytes: int) -> Checkpoint:
        written = super().checkpoint(budget_bytes)
        padded = [StateEntry(entry.key, (entry.value or b"") + b"\0" * (PART_BYTES * (entry.key[0] % 3))) for entry in written.entries]
        return Checkpoint(padded, written.marker)


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_killed_at_every_call_with_entries_larger_than_a_record(tmp_path: Path, after: bool) -> None:
    keys = ["a", "b", "c", "a", "b", "d"]
    survived = 0
    for lives in range(1, 200):
        broker = filled(keys)
        hoarding: dict[str, Any] = {"task_factory": lambda partition: HoardingTask(APP, partition), "settings": quick(tmp_path)}
        try:
            finish(Runner(**arguments(APP, DyingBroker(broker, lives, after), **hoarding)), broker)
            survived = lives
            break
        except Killed:
            finish(Runner(**arguments(APP, broker, **hoarding)), broker)
        assert output(broker, OUTPUT) == expected(keys), f"killed at call {lives}"
        assert max(len(value or b"") for value in output(broker, f"{APP}-{STAGE}-checkpoint")) <= PART_BYTES
    assert survived > 10
