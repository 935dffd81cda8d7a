"""A real Redis that is flushed, restarted empty, away, full or old, and the writer and readers that live with it."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import redis
from numpy.typing import NDArray

from tests.effort import effort
from tests.online_features import FLIGHTS, changed_plan
from tests.patience import patient
from tidemill.deploy.embedded.component import Component, free_port
from tidemill.deploy.embedded.redis_server import redis_component
from tidemill.services.features.online import OnlineWriter
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.rows import FeatureRows
from tidemill.shared.online_store.store import CorruptValueError, FeatureSlice, OnlineStore, OnlineStoreUnavailableError

PLAN = load_plan(FLIGHTS)
ROUTES = [f"route-{i}" for i in range(3_000)]
DEADLINE_S = patient(30.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Component]:
    """Run a Redis of this test alone, with an append-only file."""
    component = redis_component(tmp_path / "redis", free_port())
    component.start()
    yield component
    component.stop()


@pytest.fixture
def client(server: Component) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.address)
    yield client
    client.close()


class Core:
    """A core of routes; the first feature counts how often a route was touched."""

    def __init__(self, store: OnlineStore) -> None:
        self.counts: dict[str, int] = {}
        self._width = len(store.layouts["route"].features)
        self._touched: list[str] = []

    def touch(self, *keys: str) -> None:
        for key in keys:
            self.counts[key] = self.counts.get(key, 0) + 1
        self._touched.extend(keys)

    def touched(self) -> Mapping[str, Sequence[str]]:
        touched_keys, self._touched = self._touched, []
        return {"route": touched_keys}

    def read(self, entity: str, keys: Sequence[str], now_ms: int) -> NDArray[np.float64]:
        values = np.full((len(keys), self._width), float(now_ms))
        values[:, 0] = [self.counts[key] for key in keys]
        return values

    def known(self, entity: str) -> Sequence[str]:
        return list(self.counts) if entity == "route" else []


_WAITS = {"recv", "recv_into", "send", "sendall", "connect", "select", "poll", "sleep"}


class Pipeline:
    """Steps of a features task: something is touched, then the writer may write."""

    def __init__(self, server: Component, executor: ThreadPoolExecutor, core: Core | None = None, offset: int = 0) -> None:
        self.store = RedisOnlineStore(server.address, PLAN)
        self.core = core or Core(self.store)
        self.writer = OnlineWriter(self.store, 0, executor)
        self.offset = offset
        self.writer.resume(offset)
        self.most_calls, self.waits = 0, 0

    def step(self, *keys: str) -> None:
        self.offset += 1
        self.core.touch(*keys)
        with effort() as measured:
            self.writer.flush(self.core, self.offset, self.offset)
        self.most_calls = max(self.most_calls, measured.calls)
        self.waits += sum(calls for name, calls in measured.c_functions.items() if name.split(".")[-1] in _WAITS)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Make idle steps until the condition holds."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE_S:.0f} s: {what}"
            self.step()
            time.sleep(0.002)

    def rows(self, keys: Sequence[str] = ROUTES) -> FeatureRows:
        return self.store.read_features("route", keys)

    def complete(self) -> bool:
        """Whether the store holds the newest count of every route."""
        try:
            rows = self.rows(list(self.core.counts))
        except OnlineStoreUnavailableError:
            return False
        settled = self.store.standing("route", 0)
        current = rows.values[:, 0].tolist() == list(map(float, self.core.counts.values()))
        return current and settled is not None and settled.complete_to >= 0 and self.writer.waiting == 0


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def pipeline(server: Component, executor: ThreadPoolExecutor) -> Iterator[Pipeline]:
    """Run the pipeline until every route is in the store."""
    pipeline = Pipeline(server, executor)
    pipeline.step(*ROUTES)
    pipeline.until(pipeline.complete, "every route is in the store")
    yield pipeline
    pipeline.store.close()


def test_everything_is_written_again_after_a_flush(pipeline: Pipeline, client: redis.Redis) -> None:
    pipeline.step(*ROUTES[:10])
    client.flushall()
    rows = pipeline.rows(["route-2999"])
    assert rows.status == ("missing",) and rows.rebuilding
    pipeline.until(pipeline.complete, "the flush is healed")
    rows = pipeline.rows()
    assert set(rows.status) == {"found"} and rows.values[:11, 0].tolist() == [2.0] * 10 + [1.0]
    assert not pipeline.rows(["never"]).rebuilding
    assert pipeline.waits == 0, "a step never waits for Redis"
    assert pipeline.most_calls < 1_000, "a step of the task reads a bounded slice"


def test_a_restart_without_data_is_healed(pipeline: Pipeline, server: Component) -> None:
    server.kill()
    pipeline.until(lambda: pipeline.writer.waiting == 0, "nothing to write, nothing noticed")
    pipeline.step(*ROUTES[:5])
    shutil.rmtree(server.folder)
    server.start()
    pipeline.until(pipeline.complete, "the empty store is filled")
    assert set(pipeline.rows().status) == {"found"} and pipeline.rows().values[:6, 0].tolist() == [2.0] * 5 + [1.0]


def test_what_is_touched_while_redis_is_away_is_there_when_it_is_back_with_its_data(pipeline: Pipeline, server: Component) -> None:
    before = pipeline.store.standing("route", 0)
    server.stop()
    for _ in range(50):
        pipeline.step("route-1", "new-route")
    with pytest.raises(OnlineStoreUnavailableError, match="TIDEMILL_REDIS__URL"):
        pipeline.rows()
    server.start()
    pipeline.until(pipeline.complete, "the store has caught up")
    after = pipeline.store.standing("route", 0)
    assert before is not None and after is not None and after.generation == before.generation, "what was there is not written again"
    rows = pipeline.rows(["route-1", "new-route", "route-2"])
    assert rows.values[:, 0].tolist() == [51.0, 50.0, 1.0] and rows.journal_offset[2] < rows.journal_offset[0]


def test_a_writer_that_slept_through_its_replacement_and_a_flush_does_no_harm(
    pipeline: Pipeline, server: Component, client: redis.Redis, executor: ThreadPoolExecutor
) -> None:
    new = Pipeline(server, executor, offset=pipeline.offset)
    new.offset += 1_000
    new.step(*ROUTES, *ROUTES)
    new.until(new.complete, "the new writer has written")
    pipeline.step(*ROUTES)
    pipeline.until(lambda: pipeline.writer.waiting == 0, "the old one has tried")
    assert set(new.rows().values[:, 0].tolist()) == {2.0} and int(new.rows().journal_offset.min()) > 1_000
    client.flushall()
    pipeline.step(*ROUTES, *ROUTES, *ROUTES)
    pipeline.until(lambda: pipeline.writer.waiting == 0 and set(pipeline.rows().status) == {"found"}, "the old one has filled the store")
    new.until(new.complete, "the new writer has found out and written over it")
    assert set(new.rows().values[:, 0].tolist()) == {2.0}
    new.store.close()


def test_a_value_expires_is_known_to_have_expired_and_is_forgotten(server: Component, client: redis.Redis, tmp_path: Path) -> None:
    store = RedisOnlineStore(server.address, changed_plan(tmp_path, "ttl: 60d", "ttl: 200ms"), remember_ms=1_500)
    width = len(store.layouts["aircraft"].features)
    store.write("aircraft", FeatureSlice(0, ["N1"], np.ones((1, width)), 5, 1_000))
    seen: list[str] = []
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and seen[-1:] != ["missing"]:
        rows = store.read_features("aircraft", ["N1"])
        if rows.status[0] == "expired":
            assert (int(rows.journal_offset[0]), int(rows.journal_time_ms[0])) == (5, 1_000) and np.isnan(rows.values).all()
        if rows.status[0] not in seen:
            seen.append(rows.status[0])
        time.sleep(0.005)
    assert seen in (["found", "expired", "missing"], ["expired", "missing"])
    deadline = time.monotonic() + DEADLINE_S
    while list(client.scan_iter("flights:aircraft:*")):
        assert time.monotonic() < deadline, "Redis gives the memory back"
        time.sleep(0.01)
    store.close()


def test_every_value_of_an_entity_with_a_time_to_live_has_one_in_redis(server: Component, client: redis.Redis) -> None:
    store = RedisOnlineStore(server.address, PLAN)
    for entity in ("aircraft", "route"):
        store.write(entity, FeatureSlice(0, ["x"], np.ones((1, len(store.layouts[entity].features))), 5, 1_000))
    ttl = PLAN.application.entities["aircraft"].ttl or 0
    [aircraft], [route] = list(client.scan_iter("flights:aircraft:*")), list(client.scan_iter("flights:route:*"))
    assert ttl < int(client.pttl(aircraft)) <= 2 * ttl and client.pttl(route) == -1
    store.close()


@pytest.mark.parametrize(("setting", "value", "usual"), [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")])
def test_a_redis_that_refuses_writes_is_waited_for(
    pipeline: Pipeline, client: redis.Redis, setting: str, value: str, usual: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.config_set(setting, value)
    pipeline.step(*ROUTES[:5])
    pipeline.until(lambda: "away" in caplog.text, "the refusal is logged")
    assert pipeline.rows(ROUTES[:1]).values[0, 0] == 1.0, "reading goes on"
    client.config_set(setting, usual)
    pipeline.until(pipeline.complete, "the refused values are written")


def test_a_value_that_somebody_else_wrote_is_not_misread(server: Component, client: redis.Redis) -> None:
    store = RedisOnlineStore(server.address, PLAN)
    client.set(f"flights:route:{store.layouts['route'].digest}:JFK-LAX", b"twelve bytes")
    with pytest.raises(CorruptValueError, match=r"route JFK-LAX: expected .* found 12; delete the key"):
        store.read_features("route", ["JFK-LAX"])
    store.close()


def test_the_application_names_everything_it_writes(pipeline: Pipeline, client: redis.Redis) -> None:
    plan: Plan = PLAN
    assert all(key.startswith(f"{plan.application.app}:".encode()) for key in client.scan_iter(count=1_000))
