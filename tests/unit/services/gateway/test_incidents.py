"""Incidents and findings over HTTP, from the topics that drift and control write."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.drift_desk import KafkaDriftDesk
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.newest_records import NewestRecords
from tidemill.services.gateway.settings import DoorSettings, TokenSettings
from tidemill.services.gateway.tokens import TokenBook
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import BrokerUnreachableError, TopicSpec
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.online_store.memory_store import MemoryOnlineStore

ROOT = Path(__file__).parents[4]
PLAN = load_plan(ROOT / "examples" / "payments")
MODEL = next(iter(PLAN.models))
TOPICS = PLAN.topics
INCIDENT, FINDING = (json.loads((ROOT / "schemas" / "examples" / f"{name}.json").read_text())[0] for name in ("incident", "drift"))


class Publisher:
    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        raise AssertionError("nothing is published")


class World:
    def __init__(self) -> None:
        self.broker, self.registry = MemoryBroker(), MemorySchemaRegistry()
        self.desk = KafkaDriftDesk(PLAN, self.broker, self.registry)
        token = {"web": TokenSettings.model_validate({"token": "r" * 20, "roles": ["read"]})}
        token["shop"] = TokenSettings.model_validate({"token": "p" * 20, "roles": ["publish"]})
        door = Door(DoorSettings(), TokenBook(token))
        self.client = TestClient(build_app(PLAN, ThreadedReader(MemoryOnlineStore(PLAN)), Publisher(), door=door, drift=self.desk))
        # The desk makes the topics when somebody asks.
        assert self.get("/v1/incidents") == {"incidents": []} and self.get("/v1/findings") == {"findings": []}
        self.sink = self.broker.sink()

    def get(self, path: str, status: int = 200, token: str = "r") -> Any:
        answer = self.client.get(path, headers={"authorization": f"Bearer {token * 20}"})
        assert answer.status_code == status, answer.text
        return answer.json()

    def write(self, topic: str, name: str, record: dict[str, Any]) -> None:
        codec = message_codec(self.registry, topic, name)
        self.sink.publish(topic, record["model"].encode(), codec.encode(record), 0, 0)
        self.sink.flush()

    def incident(self, number: int, **changes: Any) -> str:
        name = f"{number:032x}"
        self.write(TOPICS.incidents, "incident", {**INCIDENT, "incident_id": name, "model": MODEL, **changes})
        return name


@pytest.fixture
def world() -> World:
    return World()


def ids(page: Any) -> list[str]:
    return [one["incident_id"] for one in page["incidents"]]


def test_the_newest_record_of_an_incident_holds(world: World) -> None:
    first, second = world.incident(1, status="open"), world.incident(2, status="open")
    assert ids(world.get("/v1/incidents")) == [second, first]
    world.incident(1, status="ongoing", severity="alarm", journal_time=1_700_000_000_000)
    world.incident(2, status="resolved")
    assert ids(world.get("/v1/incidents")) == [first] and ids(world.get(f"/v1/incidents?status=resolved&model={MODEL}")) == [second]
    assert ids(world.get("/v1/incidents?status=all&limit=1")) == [second], "the one that changed last"
    one = world.get(f"/v1/incidents/{first}")
    assert (one["severity"], one["status"], one["updated"]) == ("alarm", "ongoing", 1_700_000_000_000)
    assert one["decisions"] == INCIDENT["decisions"] and one["root"] == INCIDENT["root"] and one["evidence"] == INCIDENT["evidence"]


def test_findings_are_the_last_of_each_subject(world: World) -> None:
    for subject, part, statistic in (("amount", "", 1.0), ("amount", "country=de", 2.0), ("amount", "", float("inf")), ("hour", "", 4.0)):
        kind = "missing" if subject == "amount" else "schema_change"
        record = {
            **FINDING,
            "model": MODEL,
            "kind": kind,
            "subject": subject,
            "slice": part,
            "statistic": statistic,
            "evidence": {"share": float("nan")},
        }
        world.write(TOPICS.drift, "drift", record)
    findings = world.get("/v1/findings")["findings"]
    assert [(one["subject"], one["slice"], one["statistic"]) for one in findings] == [
        ("hour", "", 4.0),
        ("amount", "", None),
        ("amount", "country=de", 2.0),
    ]
    assert findings[0]["evidence"] == {"share": None}, "JSON has no NaN"
    assert [one["subject"] for one in world.get("/v1/findings?kind=schema_change")["findings"]] == ["hour"]


def test_who_asks_wrongly_is_told(world: World) -> None:
    assert MODEL in world.get("/v1/incidents?model=nobody", 404)["detail"] and MODEL in world.get("/v1/findings?model=nobody", 404)["detail"]
    assert "5,000" in world.get(f"/v1/incidents/{'0' * 32}", 404)["detail"]
    for path in ("/v1/incidents/x", "/v1/incidents?limit=0", "/v1/incidents?limit=1001", "/v1/incidents?status=half", "/v1/findings?limit=x"):
        world.get(path, 422)
    assert "role read" in world.get("/v1/incidents", 403, token="p")["detail"]


def test_kafka_that_is_away_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise BrokerUnreachableError("nobody there")

    monkeypatch.setattr(world.broker, "reader", away)
    for path in ("/v1/incidents", f"/v1/incidents/{'0' * 32}", "/v1/findings"):
        assert "does not answer" in world.get(path, 503)["detail"]


def test_what_is_kept_is_bounded(world: World) -> None:
    book = NewestRecords(world.broker, world.registry, TOPICS.incidents, "incident", ("incident_id",), kept=3)
    names = [world.incident(number) for number in range(5)]
    world.incident(2, status="resolved")
    assert [one["incident_id"] for one in book.read()] == [names[3], names[4], names[2]]
    assert [one["incident_id"] for one in book.read()] == [names[3], names[4], names[2]], "read on from there"


def test_a_topic_made_anew_is_read_from_its_beginning_however_long_it_is(world: World) -> None:
    book = NewestRecords(world.broker, world.registry, TOPICS.incidents, "incident", ("incident_id",), kept=100)
    world.incident(1)
    world.incident(2)
    assert len(book.read()) == 2
    world.broker.delete_topic(TOPICS.incidents)
    world.broker.create_topics([TopicSpec(TOPICS.incidents)])
    names = [world.incident(number) for number in (7, 8, 9)]
    assert [one["incident_id"] for one in book.read()] == names


def test_what_is_no_record_is_skipped_and_named_and_withholds_nobody_elses(world: World, caplog: pytest.LogCaptureFixture) -> None:
    before = world.incident(1)
    for junk in (b"junk", b"\0\0\0\0\x09junk", b""):
        world.sink.publish(TOPICS.incidents, b"key", junk, 0, 0)
    world.sink.flush()
    after = world.incident(2)
    assert sorted(ids(world.get("/v1/incidents"))) == [before, after]
    assert world.get(f"/v1/incidents/{after}")["incident_id"] == after
    assert [(vars(record)["offset"], vars(record)["records"]) for record in caplog.records if "cannot be read" in record.message] == [(1, 3)]
