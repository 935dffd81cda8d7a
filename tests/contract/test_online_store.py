"""One suite for both online stores: round trips, the guard, expiry, layouts, generations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from tests.online_features import FLIGHTS, Clock, changed_plan, named, with_view
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.layout import UnknownEntityError, entity_layouts
from tidemill.shared.online_store.memory_store import MemoryOnlineStore, SharedMemory
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import FeatureSlice, OnlineStore, OnlineStoreUnavailableError, Receipt

DAY_MS = 86_400_000
TTL_MS = 60 * DAY_MS  # of aircraft, in the flights application
WIDTH = {entity: len(layout.features) for entity, layout in entity_layouts(load_plan(FLIGHTS)).items()}


@dataclass(frozen=True)
class Shop:
    """Opens stores on the same memory or Redis."""

    open: Callable[..., OnlineStore]
    flush: Callable[[], None]
    plan: Plan
    clock: Clock


@pytest.fixture(params=["memory", "redis"])
def shop(request: pytest.FixtureRequest, application_name: str) -> Iterator[Shop]:
    clock, plan = Clock(), named(load_plan(FLIGHTS), application_name)
    if request.param == "memory":
        memory = SharedMemory()
        yield Shop(lambda other=plan: MemoryOnlineStore(named(other, application_name), memory, clock), memory.flush, plan, clock)
        return
    infrastructure: Infrastructure = request.getfixturevalue("infrastructure")
    opened: list[RedisOnlineStore] = []
    client = redis.Redis.from_url(infrastructure.redis_url)

    def open_store(other: Plan = plan) -> OnlineStore:
        opened.append(RedisOnlineStore(infrastructure.redis_url, named(other, application_name), clock))
        return opened[-1]

    def flush() -> None:
        for key in list(client.scan_iter(f"{application_name}:*", 1_000)):
            client.delete(key)

    yield Shop(open_store, flush, plan, clock)
    flush()
    for store in opened:
        store.close()
    client.close()


@pytest.fixture
def store(shop: Shop) -> OnlineStore:
    return shop.open()


def matrix(entity: str, *first: float) -> NDArray[np.float64]:
    values = np.full((len(first), WIDTH[entity]), np.nan)
    values[:, 0] = first
    return values


def put(store: OnlineStore, entity: str, values: dict[str, float], offset: int = 1, time_ms: int = 1_000, generation: str = "") -> Receipt:
    return store.write(entity, FeatureSlice(0, list(values), matrix(entity, *values.values()), offset, time_ms, generation))


def test_what_is_written_is_read_bit_for_bit_in_the_order_asked_for(shop: Shop, store: OnlineStore) -> None:
    rng = np.random.default_rng(1)
    keys = ["JFK-LAX", "", "Zürich 東京", "a:b/c\n\x00", "x" * 300]
    values = rng.normal(size=(len(keys), WIDTH["route"]))
    values[0, :4] = np.nan, np.inf, -0.0, 5e-324
    now = shop.clock.now_ms
    assert store.write("route", FeatureSlice(0, keys, values, 7, now - 250)).written == len(keys)
    asked = [*reversed(keys), "never seen", keys[2]]
    rows = store.read_features("route", asked)
    assert rows.keys == tuple(asked) and rows.names == store.layouts["route"].features and rows.entity == "route"
    assert rows.values.tobytes() == np.vstack([values[::-1], np.full((1, WIDTH["route"]), np.nan), values[2:3]]).tobytes()
    assert rows.status == (*["found"] * len(keys), "missing", "found")
    assert rows.journal_offset.tolist() == [7] * len(keys) + [-1, 7]
    assert rows.journal_time_ms.tolist() == [now - 250] * len(keys) + [-1, now - 250]
    assert rows.age_ms.tolist() == [250] * len(keys) + [-1, 250]
    assert store.read_features("route", keys[:1], now_ms=now + 1_000).age_ms.tolist() == [1_250]
    assert store.read_features("route", keys[:1], now_ms=0).age_ms.tolist() == [0]
    assert rows.layout == store.layouts["route"].digest


def test_a_table_of_the_rows_has_nulls_where_something_is_missing(store: OnlineStore) -> None:
    put(store, "origin", {"JFK": 4.0}, time_ms=1_000)
    table = store.read_features("origin", ["JFK", "XXX"], now_ms=3_500).to_arrow().to_pylist()
    first, second = store.layouts["origin"].features[:2]
    assert [(row["key"], row["status"], row["age_ms"], row[first], row[second]) for row in table] == [
        ("JFK", "found", 2_500, 4.0, None),
        ("XXX", "missing", None, None, None),
    ]
    assert table[0]["journal_time"].timestamp() == 1.0 and table[1]["journal_time"] is None


def test_an_older_value_never_replaces_a_newer_one(store: OnlineStore) -> None:
    offsets = [5, 4, 300, 255, 2**40, 2**33, 2**40]
    assert [put(store, "origin", {"EWR": float(i)}, offset).written for i, offset in enumerate(offsets)] == [1, 0, 1, 0, 1, 0, 1]
    rows = store.read_features("origin", ["EWR"])
    assert (rows.journal_offset[0], rows.values[0, 0]) == (2**40, 6.0)


def test_the_guard_holds_for_each_key_of_a_slice(store: OnlineStore) -> None:
    """Against a model: the last of the writes with the highest offset."""
    rng = np.random.default_rng(2)
    expected: dict[str, tuple[int, float]] = {}
    for step in range(60):
        offset = int(rng.integers(0, 40))
        chosen = {f"k{k}": float(step) for k in rng.choice(400, int(rng.integers(0, 300)), replace=False).tolist()}
        wins = {key: (offset, value) for key, value in chosen.items() if expected.get(key, (-1, 0.0))[0] <= offset}
        assert put(store, "dest", chosen, offset).written == len(wins)
        expected |= wins
    rows = store.read_features("dest", list(expected))
    assert [(offset, value) for offset, value in zip(rows.journal_offset.tolist(), rows.values[:, 0].tolist(), strict=True)] == list(
        expected.values()
    )


def test_found_expired_and_missing_are_told_apart(shop: Shop, store: OnlineStore) -> None:
    put(store, "aircraft", {"N1": 1.0}, time_ms=shop.clock.now_ms)
    put(store, "route", {"JFK-LAX": 1.0}, time_ms=shop.clock.now_ms)

    def state(entity: str, key: str) -> tuple[str, int, bool]:
        rows = store.read_features(entity, [key])
        return rows.status[0], int(rows.age_ms[0]), bool(np.isnan(rows.values).all())

    assert state("aircraft", "N1") == ("found", 0, False)
    shop.clock.now_ms += TTL_MS
    assert state("aircraft", "N1") == ("found", TTL_MS, False)
    shop.clock.now_ms += 1
    assert state("aircraft", "N1") == ("expired", TTL_MS + 1, True)
    assert state("aircraft", "N2") == ("missing", -1, True)
    shop.clock.now_ms += 7 * DAY_MS
    assert state("aircraft", "N1") == ("missing", -1, True)
    assert state("route", "JFK-LAX") == ("found", TTL_MS + 1 + 7 * DAY_MS, False)
    put(store, "aircraft", {"N1": 2.0}, offset=2, time_ms=shop.clock.now_ms)
    assert state("aircraft", "N1") == ("found", 0, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("half_life: 6h}}], windows: [24h, 7d]}", "half_life: 6h}}], windows: [7d, 24h]}"),
        ("value: arr_delay, aggregate: [count", "value: dep_delay, aggregate: [count"),
        ("late: \"CASE WHEN arr_delay > 15", "late: \"CASE WHEN arr_delay > 30"),
        ("arrivals: route}", "arrivals: route}, ttl: 9d"),
    ],
)  # fmt: skip
def test_another_order_meaning_or_time_to_live_is_another_layout(tmp_path: Path, old: str, new: str) -> None:
    before, after = entity_layouts(load_plan(FLIGHTS)), entity_layouts(changed_plan(tmp_path, old, new))
    assert before["route"].digest != after["route"].digest
    of_a_stream = "CASE" in old  # Whatever is derived from a stream belongs to every view of it.
    assert (before["aircraft"].digest == after["aircraft"].digest) is not of_a_stream


def test_versions_of_an_application_write_and_read_side_by_side(shop: Shop, store: OnlineStore, tmp_path: Path) -> None:
    newer = shop.open(with_view(tmp_path))
    put(store, "route", {"JFK-LAX": 1.0}, offset=9)
    put(store, "dest", {"LAX": 5.0}, offset=9)
    assert newer.read_features("route", ["JFK-LAX"]).status == ("missing",)
    assert newer.read_features("dest", ["LAX"]).values[0, 0] == 5.0, "no view of it has changed"
    wide = np.arange(WIDTH["route"] + 1.0)[None]
    assert newer.write("route", FeatureSlice(0, ["JFK-LAX"], wide, 3, 1_000)).written == 1
    put(store, "route", {"JFK-LAX": 2.0}, offset=10)
    assert newer.read_features("route", ["JFK-LAX"]).values.tolist() == wide.tolist()
    assert store.read_features("route", ["JFK-LAX"]).values[0, 0] == 2.0


def test_the_generation_is_lost_with_the_data(shop: Shop, store: OnlineStore) -> None:
    assert store.standing("origin", 0) is None
    first = put(store, "origin", {"JFK": 1.0}).generation
    assert first and put(store, "origin", {"EWR": 1.0}, generation=first).generation == first
    other_task = store.write("origin", FeatureSlice(1, ["LGA"], matrix("origin", 1.0), 1, 1)).generation
    assert other_task != first and put(store, "dest", {"LAX": 1.0}).generation not in (first, other_task)
    shop.flush()
    assert store.standing("origin", 0) is None
    second = put(store, "origin", {"JFK": 1.0}, generation=first).generation
    assert second != first and put(store, "origin", {"JFK": 1.0}, generation=first).generation == second


def test_a_store_is_complete_when_its_writer_says_so_in_its_generation(shop: Shop, store: OnlineStore) -> None:
    def complete(offset: int, generation: str, keys: list[str] | None = None) -> Receipt:
        chosen = keys or []
        return store.write("origin", FeatureSlice(0, chosen, matrix("origin", *[1.0] * len(chosen)), offset, 1, generation, completes=True))

    def complete_to() -> int | None:
        standing = store.standing("origin", 0)
        return None if standing is None else standing.complete_to

    generation = complete(5, "").generation
    assert complete_to() == -1, "the writer did not know the generation: what it wrote before may be gone"
    assert store.read_features("origin", ["JFK"]).rebuilding
    assert complete(6, generation, ["JFK"]) == Receipt(1, generation)
    assert complete_to() == 6 and not store.read_features("origin", ["EWR"]).rebuilding
    complete(2**45, generation)
    complete(7, generation)
    assert complete_to() == 2**45, "an old writer does not take it back"
    shop.flush()
    assert store.read_features("origin", ["JFK"]).rebuilding
    complete(9, generation)
    assert complete_to() == -1


def test_many_keys_in_one_call(store: OnlineStore) -> None:
    values = {f"route-{i}": float(i) for i in range(3_000)}
    assert put(store, "route", values).written == 3_000
    assert store.read_features("route", list(values)).values[:, 0].tolist() == list(values.values())
    assert store.read_features("route", []).values.shape == (0, WIDTH["route"])
    assert put(store, "route", {}).written == 0


def test_wrong_questions_and_wrong_values_are_refused(store: OnlineStore) -> None:
    with pytest.raises(UnknownEntityError, match=r"aircraft, carrier, dest, origin, route.*got galaxy"):
        store.read_features("galaxy", ["a"])
    with pytest.raises(UnknownEntityError):
        put_wrong = FeatureSlice(0, ["a"], np.zeros((1, 1)), 1, 1)
        store.write("galaxy", put_wrong)
    with pytest.raises(TypeError, match="sequence of keys"):
        store.read_features("route", "JFK-LAX")
    with pytest.raises(TypeError, match="7 \\(int\\)"):
        store.read_features("route", ["a", 7])  # type: ignore[list-item]  # what is refused
    with pytest.raises(UnicodeEncodeError):
        store.read_features("route", ["\ud800"])
    with pytest.raises(ValueError, match=r"route: expected values of shape \(1, \d+\), got \(1, 3\)"):
        store.write("route", FeatureSlice(0, ["a"], np.zeros((1, 3)), 1, 1))
    with pytest.raises(ValueError, match="shape"):
        store.write("route", FeatureSlice(0, ["a", "b"], matrix("route", 1.0), 1, 1))
    assert store.ping()


def test_a_store_that_is_away_says_so(shop: Shop) -> None:
    memory = SharedMemory(away=True)
    for store in (MemoryOnlineStore(shop.plan, memory), RedisOnlineStore("redis://127.0.0.1:1/0", shop.plan)):
        assert not store.ping()
        with pytest.raises(OnlineStoreUnavailableError):
            store.read_features("origin", ["JFK"])
        with pytest.raises(OnlineStoreUnavailableError):
            put(store, "origin", {"JFK": 1.0})
        with pytest.raises(OnlineStoreUnavailableError):
            store.standing("origin", 0)
