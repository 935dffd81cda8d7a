"""The writer between a core and the store, on hand-written ones: what reaches the store, when, and what happens when it is away."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.online_features import FLIGHTS, with_view
from tidemill.services.features import online
from tidemill.services.features.online import OnlineWriter
from tidemill.shared.application.planning import load_plan
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.online_store.memory_store import MemoryOnlineStore, SharedMemory
from tidemill.shared.online_store.rows import FeatureRows
from tidemill.shared.online_store.store import FeatureSlice, OnlineStore, Receipt

PLAN = load_plan(FLIGHTS)


class Core:
    """A core whose every feature of an entity is [times touched, time of the reading, missing ...]."""

    def __init__(self, store: OnlineStore) -> None:
        self.counts: dict[str, dict[str, int]] = {entity: {} for entity in store.layouts}
        self._width = {entity: len(layout.features) for entity, layout in store.layouts.items()}
        self._touched: dict[str, list[str]] = {}
        self.reads: list[int] = []
        self.takes_time: Callable[[int], None] = lambda keys: None

    def touch(self, entity: str, *keys: str) -> None:
        for key in keys:
            self.counts[entity][key] = self.counts[entity].get(key, 0) + 1
        self._touched.setdefault(entity, []).extend(keys)

    def touched(self) -> Mapping[str, Sequence[str]]:
        keys, self._touched = self._touched, {}
        return keys

    def read(self, entity: str, keys: Sequence[str], now_ms: int) -> NDArray[np.float64]:
        self.reads.append(len(keys))
        self.takes_time(len(keys))
        values = np.full((len(keys), self._width[entity]), np.nan)
        values[:, 0] = [self.counts[entity][key] for key in keys]
        values[:, 1] = now_ms
        return values

    def known(self, entity: str) -> Sequence[str]:
        return list(self.counts[entity])


class AtOnce(Executor):
    """Does the work when it is submitted."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class Later(AtOnce):
    """Does the work when it is told to: a store that takes its time."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        promised: Future[Any] = Future()
        self.waiting.append(lambda: promised.set_result(work(*args, **kwargs)))
        return promised

    def work(self) -> None:
        for one in self.waiting:
            one()
        self.waiting.clear()


class Stopwatch:
    """Seconds that stand until they are moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes_per_key(self, seconds: float) -> Callable[[int], None]:
        def passes(keys: int) -> None:
            self.now += keys * seconds

        return passes


class Case:
    """A writer at work between a core and a store in memory."""

    def __init__(self, memory: SharedMemory | None = None, core: Core | None = None, executor: Executor | None = None, plan: Any = PLAN) -> None:
        self.memory = memory or SharedMemory()
        self.store = MemoryOnlineStore(plan, self.memory)
        self.core = core or Core(self.store)
        self.seconds = Stopwatch()
        self.metrics = Metrics("features")
        self.writer = OnlineWriter(self.store, 0, executor or AtOnce(), self.metrics, self.seconds)

    def flush(self, offset: int, times: int = 6) -> None:
        """Let the writer work until nothing is left to do: look, write, confirm."""
        for _ in range(times):
            self.writer.flush(self.core, offset, offset * 10)
            self.seconds.now += 1.0

    def rows(self, entity: str, *keys: str) -> FeatureRows:
        return self.store.read_features(entity, keys)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"stage": "features", **labels})

    def counts(self, entity: str, *keys: str) -> list[float]:
        return [float(count) for count in self.rows(entity, *keys).values[:, 0]]


def test_an_update_that_nobody_asked_for_reaches_the_store_with_its_journal_time() -> None:
    case = Case()
    case.core.touch("route", "JFK-LAX", "EWR-SFO")
    case.core.touch("origin", "JFK")
    case.flush(5)
    case.core.touch("route", "JFK-LAX")
    case.flush(9)
    rows = case.rows("route", "JFK-LAX", "EWR-SFO", "LGA-ORD")
    assert rows.status == ("found", "found", "missing") and not rows.rebuilding
    assert rows.values[:2, :2].tolist() == [[2.0, 90.0], [1.0, 50.0]]
    assert (rows.journal_offset.tolist(), rows.journal_time_ms.tolist()) == ([9, 5, -1], [90, 50, -1])
    assert case.counts("origin", "JFK") == [1.0] and case.writer.waiting == 0


def test_a_key_touched_often_between_two_steps_is_read_once() -> None:
    case = Case()
    case.flush(1)
    case.core.reads.clear()
    case.core.touch("route", *["JFK-LAX"] * 50)
    case.writer.flush(case.core, 2, 20)
    assert case.core.reads == [1] and case.counts("route", "JFK-LAX") == [50.0]


def test_nothing_waits_for_a_slow_store_and_what_is_touched_meanwhile_gathers() -> None:
    executor = Later()
    case = Case(executor=executor)
    case.flush(1)
    executor.work()
    case.core.touch("route", "a")
    case.flush(2)
    for offset in range(3, 50):
        case.core.touch("route", "a", f"b{offset}")
        case.writer.flush(case.core, offset, offset * 10)
    assert len(executor.waiting) == 1 and case.rows("route", "a").status == ("missing",)
    executor.work()
    assert case.counts("route", "a") == [1.0]
    case.writer.flush(case.core, 50, 500)
    executor.work()
    rows = case.rows("route", "a", "b3", "b49")
    assert rows.values[:, 0].tolist() == [48.0, 1.0, 1.0] and set(rows.journal_offset.tolist()) == {50}


def test_while_the_store_is_away_names_wait_and_their_values_are_those_of_the_time_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    case = Case()
    case.flush(1)
    case.memory.away = True
    for offset in range(2, 6):
        case.core.touch("route", "a")
        case.flush(offset, times=3)
    assert case.writer.waiting == 1
    assert (case.metric("tidemill_online_waiting", partition="0"), case.metric("tidemill_online_away", partition="0")) == (1.0, 1.0)
    case.memory.away = False
    case.flush(7)
    assert (case.metric("tidemill_online_waiting", partition="0"), case.metric("tidemill_online_away", partition="0")) == (0.0, 0.0)
    assert case.metric("tidemill_online_written_total") == 1.0
    rows = case.rows("route", "a")
    assert (rows.values[0, 0], rows.journal_offset[0], case.writer.waiting) == (4.0, 7, 0)
    assert [record.message for record in caplog.records if "online store is" in record.message and "filled" not in record.message] == [
        "the online store is away; predictions go on",
        "the online store is back",
    ]


def test_a_store_that_is_away_is_asked_once_a_second() -> None:
    case = Case()
    case.memory.away = True
    attempts = 0
    standing = case.store.standing

    def counted(entity: str, partition: int) -> Any:
        nonlocal attempts
        attempts += 1
        return standing(entity, partition)

    case.store.standing = counted  # type: ignore[method-assign]  # the fault is planted here
    for _ in range(30):
        case.core.touch("route", "a")
        case.writer.flush(case.core, 1, 10)
        case.seconds.now += 0.1
    assert attempts in (3, 4)


def test_a_store_away_for_long_costs_no_list_of_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_WAITING_LIMIT", 10)
    case = Case()
    case.flush(1)
    case.memory.away = True
    for i in range(30):
        case.core.touch("route", f"r{i}")
        case.flush(2 + i, times=1)
    assert case.writer.waiting <= 11
    case.memory.away = False
    case.flush(40)
    assert case.counts("route", *(f"r{i}" for i in range(30))) == [1.0] * 30


@pytest.mark.parametrize("away", [False, True])
def test_after_a_flush_every_known_entity_is_written_again(away: bool) -> None:
    case = Case()
    case.core.touch("route", *(f"r{i}" for i in range(50)))
    case.core.touch("aircraft", "N1")
    case.flush(5)
    case.memory.away = away
    case.flush(6)
    case.memory.flush()
    case.memory.away = False
    assert case.rows("route", "r7").status == ("missing",) and case.rows("route", "r7").rebuilding
    case.flush(7)
    rows = case.rows("route", *(f"r{i}" for i in range(50)))
    assert set(rows.status) == {"found"} and set(rows.journal_time_ms.tolist()) == {70}
    assert case.counts("aircraft", "N1") == [1.0]
    assert not case.rows("route", "new").rebuilding


def test_rewriting_goes_in_bounded_slices_behind_what_is_touched_now() -> None:
    case = Case()
    case.core.takes_time = case.seconds.passes_per_key(4e-6)
    case.core.touch("route", *(f"r{i}" for i in range(5_000)))
    case.flush(5, times=20)
    case.memory.flush()
    case.flush(6, times=1)  # The write that finds out.
    case.core.reads.clear()
    case.core.touch("route", "r4999")
    for turn in range(30):
        case.writer.flush(case.core, 7 + turn, 70)
        case.seconds.now += 0.05
        if turn == 0:
            assert case.counts("route", "r4999") == [2.0]
    assert max(case.core.reads) <= 500 and len(case.core.reads) > 10
    assert set(case.rows("route", *(f"r{i}" for i in range(5_000))).status) == {"found"}


def test_slices_shrink_when_reading_takes_long_and_grow_when_it_does_not() -> None:
    case = Case()
    case.flush(1)
    case.core.takes_time = case.seconds.passes_per_key(10e-6)
    case.core.touch("route", *(f"r{i}" for i in range(60_000)))
    case.core.reads.clear()
    for _ in range(50):
        case.writer.flush(case.core, 2, 20)
    assert case.core.reads[0] == 1_000 and max(case.core.reads[3:]) <= 200 and min(case.core.reads) >= 64
    case.core.takes_time = case.seconds.passes_per_key(0.1e-6)
    for _ in range(50):
        case.writer.flush(case.core, 2, 20)
    assert max(case.core.reads) > 5_000 and case.writer.waiting == 0


def test_a_restart_writes_nothing_again_when_the_store_has_everything() -> None:
    case = Case()
    case.core.touch("route", "a", "b")
    case.flush(5)
    again = Case(case.memory, case.core)
    again.writer.resume(5)
    again.core.reads.clear()
    again.flush(6)
    assert sum(again.core.reads) == 0
    again.core.touch("route", "b")
    again.flush(7)
    assert again.rows("route", "a", "b").journal_offset.tolist() == [5, 7]


def test_a_restart_after_commits_that_the_store_did_not_see_writes_everything_again() -> None:
    case = Case()
    case.core.touch("route", "a", "b")
    case.flush(5)
    case.core.touch("route", "b")
    case.core.touched()  # Committed, and killed before the store heard of it.
    again = Case(case.memory, case.core)
    again.writer.resume(6)
    again.flush(6)
    assert again.counts("route", "a", "b") == [1.0, 2.0]


def test_a_writer_killed_while_it_fills_the_store_begins_again() -> None:
    case = Case()
    case.core.touch("route", *(f"r{i}" for i in range(3_000)))
    case.core.touched()
    case.flush(5, times=2)  # Looks, and writes one slice.
    assert 0 < sum(status == "found" for status in case.rows("route", *case.core.known("route")).status) < 3_000
    again = Case(case.memory, case.core)
    again.writer.resume(5)
    again.flush(5, times=20)
    assert set(again.rows("route", *again.core.known("route")).status) == {"found"} and not again.rows("route", "x").rebuilding


def test_a_new_layout_is_filled_beside_the_old_one(tmp_path: Path) -> None:
    old = Case()
    old.core.touch("route", "a")
    old.flush(5)
    new = Case(old.memory, plan=with_view(tmp_path))
    new.core.touch("route", "a", "b")
    new.core.touched()
    new.writer.resume(5)
    new.flush(5)
    assert new.counts("route", "a", "b") == [1.0, 1.0]
    old.core.touch("route", "a")
    old.flush(6)
    assert (old.counts("route", "a"), new.counts("route", "a")) == ([2.0], [1.0])


def test_an_old_writer_that_wakes_up_changes_nothing_and_cannot_pass_for_the_new_one() -> None:
    old = Case()
    old.core.touch("route", "a")
    old.flush(5)
    new = Case(old.memory)
    new.writer.resume(5)
    new.core.touch("route", "a", "a", "a")
    new.flush(8)
    old.core.touch("route", "a")
    old.flush(6)
    assert new.counts("route", "a") == [3.0]
    old.memory.flush()
    old.flush(7)  # It fills the empty store with what it knows, under a generation of its own.
    assert new.counts("route", "a") == [2.0]
    new.flush(9)
    assert new.counts("route", "a") == [3.0]


def test_what_is_no_absence_of_the_store_is_not_swallowed() -> None:
    case = Case()
    case.flush(1)

    def broken(entity: str, part: FeatureSlice) -> Receipt:
        raise ZeroDivisionError("a bug")

    case.store.write = broken  # type: ignore[method-assign]  # the fault is planted here
    case.core.touch("route", "a")
    with pytest.raises(ZeroDivisionError):
        case.flush(2)


def test_nothing_is_written_before_the_first_record() -> None:
    case = Case()
    case.writer.flush(case.core, 0, -1)
    assert case.store.standing("route", 0) is None
