"""Who may come in, how much of it, and how long they may take."""

import asyncio
import http.client
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError
from uvicorn import Server

from tests.patience import patient
from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.bodies import deeper
from tidemill.services.gateway.commands import Command
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.publisher import EventTooLargeError
from tidemill.services.gateway.rate_limit import RateLimit
from tidemill.services.gateway.server import server
from tidemill.services.gateway.settings import DoorSettings, TokenSettings
from tidemill.services.gateway.tokens import TokenBook, TokensError, read_tokens
from tidemill.shared.application.planning import load_plan
from tidemill.shared.online_store.memory_store import MemoryOnlineStore
from tidemill.shared.online_store.rows import FeatureRows

PLAN = load_plan(Path(__file__).parents[4] / "examples" / "flights")
TOKENS = {
    "web": TokenSettings(token=SecretStr("read-read-read-read"), roles=("read",)),
    "shop": TokenSettings(token=SecretStr("publish-publish-publish"), roles=("publish",)),
    "ops": TokenSettings(token=SecretStr("operate-operate-operate"), roles=("operate",)),
}
EVENT = b'{"flight_id": "UA1"}'


class Desk:
    def __init__(self) -> None:
        self.issued: list[tuple[str, ...]] = []

    async def issue(self, command: Command) -> tuple[str, int, int]:
        self.issued.append((command.model, command.command, command.version, command.serving, command.operator))
        return command.command_id or "made", 0, 7


class SlowPublisher:
    """Takes as long as it is told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        await self.gate.wait()
        return 0, 0


class Publisher:
    def __init__(self, refuses: bool = False) -> None:
        self.published: list[tuple[bytes, bytes]] = []
        self.refuses = refuses

    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        if self.refuses:
            raise EventTooLargeError("too large")
        self.published.append((key, value))
        return 0, 0


def app(settings: DoorSettings | None = None, tokens: dict[str, TokenSettings] | None = None, **given: object) -> FastAPI:
    door = Door(settings or DoorSettings(), TokenBook(TOKENS if tokens is None else tokens), given.pop("ask", lambda topics: {}))  # type: ignore[arg-type]  # doubles of the ports
    publisher = given.pop("publisher", None) or Publisher()
    desk = given.pop("desk", None) or Desk()
    return build_app(PLAN, ThreadedReader(MemoryOnlineStore(PLAN)), publisher, CollectorRegistry(), door, desk)  # type: ignore[arg-type]  # doubles of the ports


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name].token.get_secret_value()}"}


@pytest.mark.parametrize(
    ("method", "path", "body", "role"),
    [
        ("GET", "/v1/features/origin/JFK", None, "web"), ("POST", "/v1/features/origin", b'{"keys": []}', "web"), ("GET", "/metrics", None, "web"),
        ("GET", "/openapi.json", None, "web"), ("GET", "/docs", None, "web"), ("GET", "/nothing", None, "web"),
        ("POST", "/v1/events/departures", EVENT, "shop"), ("POST", "/v1/models/late_arrival/commands", b'{"command": "pause", "reason": "x"}', "ops"),
        ("POST", "/v1/streams/nothing/resume", b'{"reason": "x"}', "ops"),
    ],
)  # fmt: skip
def test_each_request_needs_a_token_with_its_role(method: str, path: str, body: bytes | None, role: str) -> None:
    client = TestClient(app())
    headers = {"content-type": "application/json"}
    wrong = [{}, {"authorization": "Bearer nonsense-nonsense"}, {"authorization": "Basic cmVhZDpyZWFk"}, {"authorization": "Bearer"}]
    for header in wrong:
        answer = client.request(method, path, content=body, headers={**headers, **header})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for name in TOKENS:
        status = client.request(method, path, content=body, headers={**headers, **bearer(name)}).status_code
        assert (status in (200, 202, 404)) == (name == role) and (status == 403) == (name != role)
    assert client.get("/live").status_code == client.get("/ready").status_code == 200, "probes need no token"


def test_a_path_cannot_be_written_so_that_another_role_is_enough() -> None:
    client = TestClient(app())
    for path in ("/v1//events/departures", "/v1/events%2Fdepartures", "/V1/events/departures", "/v1/./events/departures", "//v1/events/departures"):
        assert client.post(path, content=EVENT, headers=bearer("web")).status_code in (401, 403, 404, 405, 422), path
    publisher = Publisher()
    TestClient(app(publisher=publisher)).post("/v1/events%2fdepartures", content=EVENT, headers=bearer("web"))
    assert not publisher.published


def test_a_stream_that_can_be_paused_is_resumed_by_a_command_to_it() -> None:
    stream = replace(PLAN.streams["departures"], pauses_on_flood=True)
    plan = replace(PLAN, streams={**PLAN.streams, "departures": stream})
    door = Door(DoorSettings(), TokenBook(TOKENS), lambda topics: {})
    client = TestClient(build_app(plan, ThreadedReader(MemoryOnlineStore(plan)), Publisher(), CollectorRegistry(), door, Desk()))
    answers = [
        client.post(f"/v1/streams/{name}/resume", json={"reason": "mended"}, headers=bearer("ops")) for name in ("departures", "arrivals", "x")
    ]
    assert [answer.status_code for answer in answers] == [202, 409, 404]
    assert answers[0].json()["topic"] == plan.topics.commands
    assert client.post("/v1/streams/departures/resume", json={"reason": ""}, headers=bearer("ops")).status_code == 422


def test_a_command_carries_its_version_and_the_name_of_whoever_holds_the_token() -> None:
    desk = Desk()
    client, path = TestClient(app(desk=desk)), "/v1/models/late_arrival/commands"
    question = {"command": "roll_back", "reason": "complaints", "version": "v1", "serving": "v3"}
    assert client.post(path, json=question, headers=bearer("ops")).status_code == 202
    assert client.post(path, json={"command": "unpin", "reason": "over"}, headers=bearer("ops")).status_code == 202
    assert desk.issued == [("late_arrival", "roll_back", "v1", "v3", "ops"), ("late_arrival", "unpin", "", "", "ops")]


@pytest.mark.parametrize(
    ("question", "what"),
    [
        ({"command": "retrain", "version": "v1"}, "expected a version with roll_back, promote, step_back, ab and pin only"),
        ({"command": "pause", "serving": "v1"}, "expected serving with roll_back, promote, step_back, ab, pin and unpin only"),
        ({"command": "ab"}, "expected the version that is compared with what serves (version), got none"),
        ({"command": "ab", "version": "v1", "share": 1.5}, "less than 1"),
        ({"command": "promote", "share": 0.5}, "expected a share with ab only, got one with promote"),
        ({"command": "roll_back", "version": "v 1"}, "pattern"),
        ({"command": "roll_back", "operator": "somebody else"}, "Extra inputs"),
    ],
)
def test_a_command_that_does_not_fit_is_not_written(question: dict[str, Any], what: str) -> None:
    desk = Desk()
    answer = TestClient(app(desk=desk)).post("/v1/models/late_arrival/commands", json={"reason": "x", **question}, headers=bearer("ops"))
    assert answer.status_code == 422 and what in answer.text and not desk.issued


def test_without_tokens_the_gateway_binds_to_loopback_only() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert DoorSettings(host=host).on_loopback
    for host in ("0.0.0.0", "::", "10.0.0.1", "gateway.example.org"):
        with pytest.raises(ValidationError, match="TIDEMILL_GATEWAY__TOKENS"):
            DoorSettings(host=host)
        assert not DoorSettings(host=host, tokens=TOKENS).on_loopback


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, 202), ({"host": "localhost"}, 202), ({"host": "[::1]:80"}, 202), ({"host": "evil.example.org"}, 403),
        ({"host": "localhost", "origin": "http://localhost:3000"}, 202), ({"host": "localhost", "origin": "https://evil.example.org"}, 403),
        ({"host": "localhost", "origin": "null"}, 403), ({"host": "[::1"}, 403),
    ],
)  # fmt: skip
def test_an_open_gateway_takes_no_request_that_a_stranger_s_page_makes_in_a_browser(headers: dict[str, str], status: int) -> None:
    assert TestClient(app(tokens={})).post("/v1/events/departures", content=EVENT, headers=headers).status_code == status


def test_a_file_of_tokens_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = DoorSettings(host="0.0.0.0", tokens_file=tmp_path / "made" / "tokens.json", tokens=TOKENS)
    first, second = read_tokens(settings), read_tokens(settings)
    assert first == second and set(first) == {"reader", "publisher", "operator", *TOKENS}
    assert stat.S_IMODE((tmp_path / "made" / "tokens.json").stat().st_mode) == 0o600
    written = json.loads((tmp_path / "made" / "tokens.json").read_text())
    assert len({one["token"] for one in written.values()}) == 3 and all(len(one["token"]) >= 40 for one in written.values())
    book = TokenBook(first)
    holder = book.holder(written["reader"]["token"])
    assert holder is not None and holder.name == "reader" and sorted(holder.roles) == ["read"]
    assert not any(one["token"] in repr(first) for one in written.values())


@pytest.mark.parametrize("text", ["", "[]", '{"a": "S3cretS3cretS3cret"}', '{"a": {"token": "S3cret", "roles": ["read"]}}', '{"web": ' + json.dumps(
    {"token": "S3cretS3cretS3cret", "roles": ["read"]}) + "}", "S3cretS3cretS3cret"])  # fmt: skip
def test_a_file_of_tokens_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(TokensError, match=str(file)) as caught:
        read_tokens(DoorSettings(tokens_file=file, tokens=TOKENS))
    assert "S3cret" not in str(caught.value) and caught.value.__cause__ is None


def test_a_client_that_asks_too_much_waits_and_nobody_else_does() -> None:
    client = TestClient(app(DoorSettings(requests_per_s=0.001, burst=3)))
    codes = [client.get("/v1/features/origin/JFK", headers=bearer("web")).status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    answer = client.get("/v1/features/origin/JFK", headers=bearer("web"))
    assert int(answer.headers["retry-after"]) > 100
    assert client.post("/v1/events/departures", content=EVENT, headers=bearer("shop")).status_code == 202
    assert [client.get("/metrics").status_code for _ in range(4)] == [401, 401, 401, 429], "guesses are counted by address"
    assert client.post("/v1/events/departures", content=EVENT, headers=bearer("shop")).status_code == 202, "of which a right token knows nothing"


def test_a_bucket_fills_again_and_only_so_many_clients_are_remembered() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 2, lambda: now[0])
    assert [limit.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert limit.wait_s("a") == 0.0 and limit.wait_s("a") == 0.5
    for i in range(20_000):
        limit.wait_s(str(i))
    assert len(limit._clients) == 10_000


@contextmanager
def serving(application: FastAPI, settings: DoorSettings) -> Iterator[tuple[tuple[str, int], Server]]:
    """Run the real server on a socket of this process."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        running = server(application, settings)
        thread = threading.Thread(target=running.run, args=([door],), daemon=True)
        thread.start()
        deadline = time.monotonic() + patient(10)
        while not running.started and time.monotonic() < deadline:
            time.sleep(0.005)
        yield door.getsockname(), running
        running.should_exit = True
        thread.join(patient(10))
        assert not thread.is_alive()


def told(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    content = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return content
        if not part:
            return content
        content += part


def test_a_body_is_refused_while_it_is_read() -> None:
    limits = {"flights-departures": 10_000, "flights-arrivals": 5_000}
    settings = DoorSettings(max_request_bytes=2_000)
    application = app(settings, tokens={}, ask=lambda topics: limits)
    with serving(application, settings) as (place, _):
        for path, declared, most in (("events/departures", True, 9_488), ("events/departures", False, 9_488), ("features/origin", False, 2_000)):
            with socket.create_connection(place, 5) as connection:
                length = b"content-length: 900000000000" if declared else b"transfer-encoding: chunked"
                connection.sendall(b"POST /v1/" + path.encode() + b" HTTP/1.1\r\nhost: localhost\r\n" + length + b"\r\n\r\n")
                sent = 0
                try:
                    while not declared and sent < 50_000_000:
                        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                        sent += 65536
                except (BrokenPipeError, ConnectionResetError):
                    pass
                answer = told(connection) if declared else b"413"
                assert b"413" in answer and (not declared or str(most).encode() in answer)
                assert sent < 20_000_000, "the server stops reading"


@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_too_much_is_told(chunked: bool) -> None:
    """The connection was reset while the client still wrote: an ordinary one saw no 413 but a broken pipe."""
    settings = DoorSettings(max_request_bytes=2_000)
    application = app(settings, tokens={}, ask=lambda topics: {"flights-departures": 10_000})
    with serving(application, settings) as (place, _):
        client = http.client.HTTPConnection(*place, timeout=30)
        for size in (4_000_000, 9_489):
            body = (b"x" * (size // 3) for _ in range(4)) if chunked else b"x" * size
            client.request("POST", "/v1/events/departures", body, {"content-type": "application/json"}, encode_chunked=chunked)
            answer = client.getresponse()
            assert answer.status == 413 and b"expected at most 9488 bytes" in answer.read()


def test_a_client_that_is_slow_with_its_request_or_with_the_answer_is_left() -> None:
    settings = DoorSettings(head_timeout_s=0.2, body_timeout_s=0.2, answer_timeout_s=0.2)
    application = app(settings, tokens={})

    @application.get("/large")
    async def large() -> dict[str, str]:
        return {"text": "x" * 50_000_000}

    with serving(application, settings) as (place, running):
        with socket.create_connection(place, 5) as silent, socket.create_connection(place, 5) as head, socket.create_connection(place, 5) as body:
            head.sendall(b"GET /live HTTP/1.1\r\nhost: lo")
            body.sendall(b"POST /v1/events/departures HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30\r\n\r\n{")
            assert told(silent) == told(head) == b""
            assert b"408" in told(body)
        with socket.create_connection(place, 5) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert reader.recv(100)
            deadline = time.monotonic() + patient(10)
            while running.server_state.connections and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not running.server_state.connections, "a client that does not read holds nothing"
        ordinary = http.client.HTTPConnection(*place)
        for _ in range(2):
            ordinary.request("GET", "/live")
            assert ordinary.getresponse().read() == b'{"status":"live"}'
        ordinary.close()


@pytest.mark.parametrize("body", [b'{"flight_id":' + b"[" * 200_000, b"[" * 33 + b"]" * 33, b'{"a":' * 40 + b"1" + b"}" * 40])
@pytest.mark.parametrize("path", ["/v1/events/departures", "/v1/features/origin", "/v1/models/late_arrival/commands"])
def test_json_nested_too_deep_is_refused_before_it_is_parsed(path: str, body: bytes) -> None:
    answer = TestClient(app(tokens={})).post(path, content=body, headers={"content-type": "application/json", "host": "localhost"})
    assert answer.status_code == 422 and "32 deep" in answer.text


def test_depth_is_counted_outside_of_strings() -> None:
    assert not deeper(b'{"a": "' + b"[" * 100 + b'"}', 32) and not deeper(b'{"a": "\\"' + b"[" * 100 + b'"}', 32)
    assert deeper(b'{"a": "\\\\", "b": ' + b"[" * 100, 32) and not deeper(b"[" + b"[]," * 1_000 + b"1]", 2)
    for text in (b"\\" * 1_000_000, b'\\"' * 500_000, b'\\"' * 500_000 + b"\\"):
        assert not deeper(b"[]" * 33 + b'"' + text, 32), "linear in the body, also where a string has no end"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xef\xbb\xbf " + EVENT + b"\n", 202), (EVENT.decode().encode("utf-16"), 422), (b"{" + b'"flight_id": "\\ud800"}', 422),
        (b'{"flight_id": true}', 422), (b'{"flight_id": ""}', 422), (b'{"flight_id": ' + b"1" * 5_000 + b"}", 422), (b'{"flight_id": NaN}', 422),
        (b"", 422), (b"\x00\x00\x00\x00\x01abc", 422), (b'{"flight_id": "a"} {}', 422), (b'{"flight_id": "\xff"}', 422),
    ],
)  # fmt: skip
def test_what_ingestion_could_not_place_is_the_caller_s_mistake(body: bytes, status: int) -> None:
    publisher = Publisher()
    client = TestClient(app(tokens={}, publisher=publisher), headers={"host": "localhost"})
    assert client.post("/v1/events/departures", content=body).status_code == status
    assert publisher.published == ([(b"UA1", EVENT)] if status == 202 else [])


def test_an_event_that_the_broker_does_not_take_for_its_size_is_413() -> None:
    client = TestClient(app(tokens={}, publisher=Publisher(refuses=True)), headers={"host": "localhost"})
    assert client.post("/v1/events/departures", content=EVENT).status_code == 413
    encoded = client.post("/v1/events/departures", content=EVENT, headers={"content-encoding": "gzip"})
    assert encoded.status_code == 415


def test_nobody_waits_for_a_slow_broker_or_a_slow_store() -> None:
    class SlowReader(ThreadedReader):
        async def read_features(self, entity: str, keys: Sequence[str]) -> FeatureRows:
            await publisher.gate.wait()
            return await super().read_features(entity, keys)

    async def play() -> None:
        application = build_app(PLAN, SlowReader(MemoryOnlineStore(PLAN)), publisher)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application), base_url="http://localhost") as client:
            slow = [
                asyncio.create_task(client.post("/v1/events/departures", content=EVENT)),
                asyncio.create_task(client.get("/v1/features/origin/JFK")),
            ]
            await asyncio.sleep(0)
            assert (await client.get("/live")).status_code == 200 and not any(task.done() for task in slow)
            publisher.gate.set()
            assert [answer.status_code for answer in await asyncio.gather(*slow)] == [202, 200]

    publisher = SlowPublisher()
    asyncio.run(play())


def test_a_large_event_is_parsed_beside_the_event_loop() -> None:
    door = Door(ask_limits=lambda topics: dict.fromkeys(topics, 20_000_000))
    application = build_app(PLAN, ThreadedReader(MemoryOnlineStore(PLAN)), Publisher(), door=door)

    async def play() -> None:
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(app=application)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                deadline = asyncio.get_running_loop().time() + 5
                while (await client.post("/v1/events/departures", content=b" " * 2_000_000)).status_code == 413:
                    assert asyncio.get_running_loop().time() < deadline, "the limit is asked of the broker"
                    await asyncio.sleep(0.01)
                body = b'{"flight_id": "UA1", "x": [' + b"[], " * 300_000 + b"1]}"
                large = asyncio.create_task(client.post("/v1/events/departures", content=body))
                answered = 0
                while not large.done():
                    assert (await client.get("/live")).status_code == 200
                    answered += 1
                    await asyncio.sleep(0)
                assert large.result().status_code == 202 and answered >= 3

    asyncio.run(play())
