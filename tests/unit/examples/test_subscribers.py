"""The subscribers' way with a registry that is away; what they do beside a run is in `tests/integration/test_subscribers.py`."""

import asyncio
import threading
from types import ModuleType
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import SchemaRegistryError
from confluent_kafka.serialization import SerializationContext

from tidemill.examples.subscribers import events


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(events, "ASKED_AGAIN_AFTER_S", 0.0)
    return events


def test_an_event_is_told_however_long_the_registry_is_away(hurried: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    problems: list[Exception] = [httpx.ReadTimeout("no answer"), SchemaRegistryError(503, -1, "starting"), httpx.ConnectError("refused")]
    asked: list[bytes] = []

    def decode(value: bytes, context: SerializationContext) -> dict[str, Any]:
        asked.append(value)
        if problems:
            raise problems.pop(0)
        return {"topic": context.topic}

    assert asyncio.run(hurried.decoded(decode, "shop-drift", b"v")) == {"topic": "shop-drift"}
    assert asked == [b"v"] * 4
    assert capsys.readouterr().err.count("shop-drift: the registry does not answer, asking again") == 3


def test_what_faust_does_goes_on_while_the_registry_is_asked() -> None:
    answer, running = threading.Event(), threading.Event()

    def decode(value: bytes, context: SerializationContext) -> str:
        running.set()
        assert answer.wait(60)
        return "record"

    async def both() -> object:
        asking = asyncio.create_task(events.decoded(decode, "shop-drift", b"v"))
        while not running.is_set():
            await asyncio.sleep(0.001)
        answer.set()
        return await asking

    assert asyncio.run(both()) == "record"


def test_a_record_that_is_none_is_no_matter_of_the_registry() -> None:
    def decode(value: bytes, context: SerializationContext) -> None:
        raise ValueError("no Avro")

    with pytest.raises(ValueError, match="no Avro"):
        asyncio.run(events.decoded(decode, "shop-drift", b"junk"))


def test_a_record_whose_schema_nobody_knows_holds_nothing_up() -> None:
    asked: list[bytes] = []

    def decode(value: bytes, context: SerializationContext) -> None:
        asked.append(value)
        raise SchemaRegistryError(404, 40403, "Schema not found")

    with pytest.raises(SchemaRegistryError, match="Schema not found"):
        asyncio.run(asyncio.wait_for(events.decoded(decode, "shop-drift", b"junk"), 20.0))
    assert asked == [b"junk"]
