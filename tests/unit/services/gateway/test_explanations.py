"""Explanations over HTTP, from the topic that the stage of explanations writes."""

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter

from tests.unit.services.gateway.test_incidents import Publisher
from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.explanation_desk import KafkaExplanationDesk
from tidemill.services.gateway.explanations import explanations_router
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.settings import DoorSettings, TokenSettings
from tidemill.services.gateway.tokens import TokenBook
from tidemill.shared.application.model import Explain
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.online_store.memory_store import MemoryOnlineStore

ROOT = Path(__file__).parents[4]
EXAMPLE = json.loads((ROOT / "schemas" / "examples" / "explanation.json").read_text())[0]


def explained_plan() -> Plan:
    """The payments in three partitions, whose models are explained."""
    plan = load_plan(ROOT / "examples" / "payments")
    object.__setattr__(plan, "application", plan.application.model_copy(update={"partitions": 3}))
    for model in plan.models.values():
        object.__setattr__(model, "settings", model.settings.model_copy(update={"explain": Explain(top=2)}))
    return plan


class World:
    def __init__(self, newest: int = 4) -> None:
        self.plan = explained_plan()
        self.model, self.topic = next(iter(self.plan.models)), self.plan.topics.explanations
        self.broker, self.registry = MemoryBroker(), MemorySchemaRegistry()
        desk = KafkaExplanationDesk(self.plan, self.broker, self.registry, newest)
        tokens = {name: TokenSettings.model_validate({"token": name[0] * 20, "roles": [name]}) for name in ("read", "publish")}
        door = Door(DoorSettings(), TokenBook(tokens))
        self.client = TestClient(build_app(self.plan, ThreadedReader(MemoryOnlineStore(self.plan)), Publisher(), door=door, explanations=desk))
        self.get("nobody", 404)  # the desk makes the topic when somebody asks
        self.sink = self.broker.sink()

    def get(self, request: str, status: int = 200, token: str = "r") -> Any:
        answer = self.client.get(f"/v1/explanations/{request}", headers={"authorization": f"Bearer {token * 20}"})
        assert answer.status_code == status, answer.text
        return answer.json()

    def write(self, request: str, partition: int = 0, **changes: Any) -> None:
        record = {**EXAMPLE, "request_id": request, "model": self.model, **changes}
        self.sink.publish(self.topic, b"k", message_codec(self.registry, self.topic, "explanation").encode(record), 0, partition)
        self.sink.flush()


@pytest.fixture
def world() -> World:
    return World()


def test_a_request_is_explained_whatever_its_partition_and_its_id(world: World) -> None:
    last = world.plan.application.partitions - 1
    assert last == 2
    for number, request in enumerate(("a/b c", "ü?#", "plain")):
        world.write(request, partition=number)
    for request in ("a/b c", "ü?#", "plain"):
        (one,) = world.get(quote(request, safe=""))["explanations"]
        assert (one["request_id"], one["model"], one["model_version"], one["link"]) == (
            request, world.model, EXAMPLE["model_version"], EXAMPLE["link"],
        )  # fmt: skip
        assert one["base"] + sum(part["contribution"] for part in one["contributions"]) + one["rest"] == pytest.approx(
            EXAMPLE["base"] + sum(part["contribution"] for part in EXAMPLE["contributions"]) + EXAMPLE["rest"]
        )
        values = [part["text"] if part["text"] is not None else part["number"] for part in EXAMPLE["contributions"]]
        assert [part["value"] for part in one["contributions"]] == values


def test_the_newest_of_each_model_holds_and_what_is_long_ago_is_in_the_archive(world: World) -> None:
    world.write("one", score=0.25)
    odd = {**EXAMPLE["contributions"][0], "number": float("nan"), "text": None}
    world.write("one", score=float("nan"), base=float("inf"), rest=float("-inf"), contributions=[odd])
    (one,) = world.get("one")["explanations"]
    assert one["score"] is one["base"] is one["rest"] is one["contributions"][0]["value"] is None, "JSON has neither NaN nor infinities"
    for number in range(4):
        world.write(f"later-{number}")
    assert "tidemill explain ID" in world.get("one", 404)["detail"]
    assert world.get("later-3")["explanations"]
    late = World(newest=2)
    for number in range(5):
        late.write(f"r{number}")
    late.get("r2", 404)
    assert late.get("r3")["explanations"], "of those before it asked for the first time the newest are known"
    late.write("seldom")
    for _ in range(2):
        late.write("often")
    late.get("seldom", 404)
    assert late.get("often")["explanations"], "what is read is bounded, also where few requests are explained again and again"


def test_what_nobody_asks_for_stays_encoded() -> None:
    world, count = World(newest=150), 150
    for request in ("first", *map(str, range(count))):
        parts = [{**EXAMPLE["contributions"][0], "feature": f"feature-{number}", "number": number / 7} for number in range(5)]
        world.write(request, contributions=parts)
        if request == "first":
            world.get("first")  # what is made once, as the reader of the schema
    gc.collect()
    tracemalloc.start()
    try:
        assert len(world.get("7")["explanations"]) == 1
        gc.collect()
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_bytes / count < 1_000, "a decoded one takes 2,700"


def test_the_answer_of_one_model_alone_can_be_asked_for() -> None:
    class Desk:
        def of_request(self, request_id: str) -> list[dict[str, Any]]:
            return [{**EXAMPLE, "request_id": request_id, "model": name} for name in ("risk", "delay")]

    app = FastAPI()
    app.include_router(explanations_router(["risk", "delay"], Desk(), Counter("asked", "of what", ["what", "status"], registry=CollectorRegistry())))
    client = TestClient(app)
    for asked, models in (("", ["risk", "delay"]), ("?model=delay", ["delay"])):
        assert [one["model"] for one in client.get(f"/v1/explanations/one{asked}").json()["explanations"]] == models


def test_who_asks_wrongly_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("one")
    assert world.model in world.get("one?model=nobody", 404)["detail"]
    assert world.get(f"one?model={world.model}")["explanations"]
    world.get("", 422)
    world.get("x" * 1_001, 422)
    assert "role read" in world.get("one", 403, token="p")["detail"]

    def away() -> None:
        raise BrokerUnreachableError("nobody there")

    monkeypatch.setattr(world.broker, "reader", away)
    assert "does not answer" in world.get("one", 503)["detail"]
