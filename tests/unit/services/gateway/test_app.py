"""The HTTP door, on a real Redis: every answer, also the bad ones."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from deploy.embedded.infrastructure import Infrastructure
from services.gateway.app import build_app
from shared.application.planning import load_plan
from shared.online_store.layout import entity_features
from shared.online_store.store import OnlineFeatures, OnlineStore

PLAN = load_plan(Path(__file__).parents[4] / "examples" / "flights")


class Publisher:
    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bytes]] = []
        self.fails = False

    def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        if self.fails:
            raise ConnectionError("broker away")
        self.published.append((topic, key, value))
        return 0, len(self.published) - 1


@pytest.fixture
def store(infrastructure: Infrastructure, application_name: str) -> Iterator[OnlineStore]:
    found = OnlineStore(infrastructure.redis_url, application_name)
    yield found
    found.close()


def test_features_of_an_entity(store: OnlineStore) -> None:
    names = entity_features(PLAN, "origin")
    values = np.arange(len(names), dtype=np.float64)
    values[1] = np.nan
    store.put("origin", {"JFK": OnlineFeatures(7, 1_000, values)}, None)
    client = TestClient(build_app(PLAN, store, Publisher()))
    body = client.get("/v1/features/origin/JFK").json()
    assert (body["journal_offset"], body["journal_time_ms"], body["features"][names[1]], body["features"][names[2]]) == (7, 1_000, None, 2.0)
    assert client.get("/v1/features/origin/XXX").status_code == 404
    assert "carrier" in client.get("/v1/features/galaxy/1").json()["detail"]
    assert client.get("/ready").status_code == client.get("/live").status_code == 200
    assert 'tidemill_gateway_requests_total{route="features",status="404"} 2.0' in client.get("/metrics").text


def test_an_older_value_never_replaces_a_newer_one(store: OnlineStore) -> None:
    def write(offset: int, value: float) -> int:
        return store.put("origin", {"EWR": OnlineFeatures(offset, offset, np.array([value]))}, None)

    assert [write(5, 1.0), write(4, 2.0), write(300, 3.0), write(255, 4.0), write(2**40, 5.0), write(2**33, 6.0)] == [1, 0, 1, 0, 1, 0]
    found = store.get("origin", "EWR")
    assert found is not None and (found.journal_offset, found.values.tolist()) == (2**40, [5.0])


def test_an_event_is_published_under_its_partition_key(store: OnlineStore) -> None:
    publisher = Publisher()
    client = TestClient(build_app(PLAN, store, publisher))
    event = json.dumps({"flight_id": "UA1"})
    assert client.post("/v1/events/departures", content=event).json() == {"topic": "flights-departures", "partition": 0, "offset": 0}
    assert client.post("/v1/events/weather", content=json.dumps({"origin": "JFK"})).status_code == 202
    assert publisher.published == [("flights-departures", b"UA1", event.encode()), ("flights-weather", b"JFK", b'{"origin": "JFK"}')]


@pytest.mark.parametrize(
    ("stream", "body", "status", "says"),
    [
        ("starships", b"{}", 404, "departures"), ("departures", b"{", 422, "JSON"), ("departures", b"[1]", 422, "list"),
        ("departures", b"\xff", 422, "JSON"),
        ("departures", b'{"carrier": "UA"}', 422, "flight_id"), ("departures", b" " * 1_000_001, 422, "bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_event_is_refused_at_the_door(store: OnlineStore, stream: str, body: bytes, status: int, says: str) -> None:
    answer = TestClient(build_app(PLAN, store, Publisher())).post(f"/v1/events/{stream}", content=body)
    assert answer.status_code == status and says in answer.json()["detail"]


def test_a_broker_or_a_redis_that_is_away_is_503_not_a_crash() -> None:
    publisher = Publisher()
    publisher.fails = True
    client = TestClient(build_app(PLAN, OnlineStore("redis://127.0.0.1:1/0", "nobody"), publisher))
    answers = [client.post("/v1/events/departures", content=b'{"flight_id": "a"}'), client.get("/v1/features/origin/JFK"), client.get("/ready")]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert "127.0.0.1:1" in answers[1].json()["detail"] and "broker away" in answers[0].json()["detail"]
