"""The HTTP door: every answer, also the bad ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.online_features import Clock
from tidemill.services.gateway.app import build_app
from tidemill.services.gateway.features import EntitiesAnswer, EntityAnswer, ThreadedReader
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.memory_store import MemoryOnlineStore
from tidemill.shared.online_store.redis_store import RedisOnlineStore
from tidemill.shared.online_store.store import FeatureSlice

PLAN = load_plan(Path(__file__).parents[4] / "examples" / "flights")


class Publisher:
    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bytes]] = []
        self.fails = False

    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        if self.fails:
            raise ConnectionError("broker away")
        self.published.append((topic, key, value))
        return 0, len(self.published) - 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryOnlineStore:
    return MemoryOnlineStore(PLAN, clock_ms=clock)


def test_features_of_an_entity(store: MemoryOnlineStore, clock: Clock) -> None:
    layout = store.layouts["aircraft"]
    first, second, third = layout.features[:3]
    values = np.arange(len(layout.features), dtype=np.float64)[None]
    values[0, 1:3] = np.nan, np.inf
    generation = store.write("aircraft", FeatureSlice(0, ["N1/2 é"], values, 7, clock.now_ms - 250)).generation
    client = TestClient(build_app(PLAN, ThreadedReader(store), Publisher()))
    body = client.get("/v1/features/aircraft/N1%2F2%20%C3%A9").json()
    assert EntityAnswer.model_validate(body).model_fields_set == set(body)
    head = {name: body[name] for name in ("entity", "key", "status", "journal_offset", "journal_time", "age_ms", "layout", "rebuilding")}
    assert head == {
        "entity": "aircraft", "key": "N1/2 é", "status": "found", "journal_offset": 7, "journal_time": "2023-11-14T22:13:19.750Z", "age_ms": 250,
        "layout": layout.digest, "rebuilding": False,
    }  # fmt: skip
    assert list(body["values"]) == list(layout.features)
    assert (body["values"][first], body["values"][second], body["values"][third], body["values"][layout.features[3]]) == (0.0, None, None, 3.0)

    missing = client.get("/v1/features/aircraft/XXX")
    assert missing.status_code == 200
    assert {name: value for name, value in missing.json().items() if name != "values"} == {
        "entity": "aircraft", "key": "XXX", "status": "missing", "journal_offset": None, "journal_time": None, "age_ms": None,
        "layout": layout.digest, "rebuilding": True,
    }  # fmt: skip
    assert set(missing.json()["values"].values()) == {None}
    store.write("aircraft", FeatureSlice(0, [], values[:0], 8, clock.now_ms, generation, completes=True))
    assert client.get("/v1/features/aircraft/XXX").json()["rebuilding"] is False

    clock.now_ms += (layout.ttl_ms or 0) + 1
    expired = client.get("/v1/features/aircraft/N1%2F2%20%C3%A9").json()
    assert (expired["status"], expired["journal_offset"], set(expired["values"].values())) == ("expired", 7, {None})

    assert "carrier" in client.get("/v1/features/galaxy/1").json()["detail"]
    assert client.get("/ready").status_code == client.get("/live").status_code == 200
    metrics = client.get("/metrics").text
    assert 'tidemill_gateway_requests_total{route="features",status="404"} 1.0' in metrics
    assert 'tidemill_gateway_requests_total{route="features",status="200"} 4.0' in metrics


def test_features_of_several_entities_come_in_the_order_of_the_keys(store: MemoryOnlineStore, clock: Clock) -> None:
    width = len(store.layouts["origin"].features)
    store.write("origin", FeatureSlice(0, ["JFK", "EWR"], np.array([[1.0] * width, [2.0] * width]), 7, clock.now_ms))
    client = TestClient(build_app(PLAN, ThreadedReader(store), Publisher()))
    answer = client.post("/v1/features/origin", json={"keys": ["EWR", "XXX", "JFK", "EWR"]})
    body = answer.json()
    assert all(row.model_fields_set == set(body["rows"][0]) for row in EntitiesAnswer.model_validate(body).rows)
    assert [(row["key"], row["status"], next(iter(row["values"].values()))) for row in body["rows"]] == [
        ("EWR", "found", 2.0), ("XXX", "missing", None), ("JFK", "found", 1.0), ("EWR", "found", 2.0),
    ]  # fmt: skip
    assert client.post("/v1/features/origin", json={"keys": []}).json()["rows"] == []


@pytest.mark.parametrize(
    ("entity", "body", "status", "says"),
    [
        ("galaxy", '{"keys": ["a"]}', 404, "carrier"),
        ("origin", '{"keys": "JFK"}', 422, "list"),
        ("origin", '{"keys": [1]}', 422, "string"),
        ("origin", '{"names": ["JFK"]}', 422, "keys"),
        ("origin", "{", 422, "JSON"),
        ("origin", json.dumps({"keys": ["a"] * 1_001}), 422, "1000"),
        ("origin", '{"keys": ["\\ud800"]}', 422, "surrogate"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(store: MemoryOnlineStore, entity: str, body: str, status: int, says: str) -> None:
    client = TestClient(build_app(PLAN, ThreadedReader(store), Publisher()))
    answer = client.post(f"/v1/features/{entity}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status and says in answer.text


def test_the_description_of_the_interface_says_what_a_caller_needs(store: MemoryOnlineStore) -> None:
    described = TestClient(build_app(PLAN, ThreadedReader(store), Publisher())).get("/openapi.json").json()
    one, several = described["paths"]["/v1/features/{entity}/{key}"]["get"], described["paths"]["/v1/features/{entity}"]["post"]
    assert {*one["responses"]} == {*several["responses"]} == {"200", "404", "422", "503"}
    assert "aircraft" in one["parameters"][0]["description"]
    answer = described["components"]["schemas"]["EntityAnswer"]
    assert EntityAnswer.model_validate(answer["example"])
    assert all("description" in answer["properties"][name] for name in ("status", "age_ms", "layout"))


def test_an_event_is_published_under_its_partition_key(store: MemoryOnlineStore) -> None:
    publisher = Publisher()
    client = TestClient(build_app(PLAN, ThreadedReader(store), publisher))
    event = json.dumps({"flight_id": "UA1"})
    assert client.post("/v1/events/departures", content=event).json() == {"topic": "flights-departures", "partition": 0, "offset": 0}
    assert client.post("/v1/events/weather", content=json.dumps({"origin": "JFK"})).status_code == 202
    assert publisher.published == [("flights-departures", b"UA1", event.encode()), ("flights-weather", b"JFK", b'{"origin": "JFK"}')]


@pytest.mark.parametrize(
    ("stream", "body", "status", "says"),
    [
        ("starships", b"{}", 404, "departures"), ("departures", b"{", 422, "JSON"), ("departures", b"[1]", 422, "object"),
        ("departures", b"\xff", 422, "JSON"),
        ("departures", b'{"carrier": "UA"}', 422, "flight_id"), ("departures", b" " * 1_000_001, 413, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_event_is_refused_at_the_door(store: MemoryOnlineStore, stream: str, body: bytes, status: int, says: str) -> None:
    answer = TestClient(build_app(PLAN, ThreadedReader(store), Publisher())).post(f"/v1/events/{stream}", content=body)
    assert answer.status_code == status and says in answer.json()["detail"]


def test_a_broker_or_a_redis_that_is_away_is_503_not_a_crash() -> None:
    publisher = Publisher()
    publisher.fails = True
    client = TestClient(build_app(PLAN, ThreadedReader(RedisOnlineStore("redis://:S3cretPassw0rd@127.0.0.1:1/0", PLAN)), publisher))
    answers = [client.post("/v1/events/departures", content=b'{"flight_id": "a"}'), client.get("/v1/features/origin/JFK"), client.get("/ready")]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    told = "".join(answer.text for answer in answers)
    assert "again" in answers[0].json()["detail"] and "again" in answers[1].json()["detail"]
    assert not any(word in told for word in ("S3cret", "127.0.0.1", "broker away")), "where the servers are and what they say is no caller's business"
