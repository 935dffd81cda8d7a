"""The gateway, fuzzed from its own description (schemathesis) and with raw bodies: no request of a client is a server error."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source

from tests.long_forms import examples
from tidemill.services.gateway.app import Door, build_app
from tidemill.services.gateway.commands import Command
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.settings import DoorSettings
from tidemill.services.gateway.tokens import TokenBook
from tidemill.shared.application.planning import load_plan
from tidemill.shared.dead_letters.letters import Letter, Selection
from tidemill.shared.dead_letters.replaying import LetterReplayResult
from tidemill.shared.online_store.memory_store import MemoryOnlineStore

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "payments")
UNLIMITED = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


class Publisher:
    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        assert key and value.startswith(b"{")
        return 0, 0


class Desk:
    async def issue(self, command: Command) -> tuple[str, int, int]:
        return command.command_id.encode().decode() or "made", 0, len(command.reason.encode())


class Letters:
    def newest(self, selection: Selection, limit: int) -> list[Letter]:
        return []

    def replay(self, selection: Selection) -> LetterReplayResult:
        return LetterReplayResult()


class Drift:
    def incidents(self) -> list[dict[str, Any]]:
        return []

    def findings(self) -> list[dict[str, Any]]:
        return []


EXPLANATION = json.loads((Path(__file__).parents[2] / "schemas" / "examples" / "explanation.json").read_text())[0]


class Explanations:
    def of_request(self, request_id: str) -> list[dict[str, Any]]:
        return [{**EXPLANATION, "request_id": request_id, "score": float("nan")}] if len(request_id) % 2 else []


def gateway(door: Door | None) -> FastAPI:
    desks: dict[str, Any] = {"desk": Desk(), "letters": Letters(), "drift": Drift(), "explanations": Explanations()}
    return build_app(PLAN, ThreadedReader(MemoryOnlineStore(PLAN)), Publisher(), door=door, **desks)


APP = gateway(Door(DoorSettings(requests_per_s=1e9, burst=10**9), TokenBook({})))
DESCRIBED = gateway(None)
# Not `from_asgi`, which asks for the description in a thread that stays: workers that are forked from what was loaded have no such thread.
SCHEMA = schemathesis.openapi.from_dict(json.loads(json.dumps(DESCRIBED.openapi())))
SCHEMA.app, SCHEMA.location = DESCRIBED, "/openapi.json"
SCHEMA.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
OPERATIONS = [(path, method) for path, methods in SCHEMA.raw_schema["paths"].items() for method in methods]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_made_from_the_description_is_a_server_error(path: str, method: str) -> None:
    """What `SCHEMA.parametrize` would collect has one name for all operations, and its requests are made by every worker that collects it."""
    answered: list[int] = []

    @settings(UNLIMITED, max_examples=examples(60))
    def holds(case: Case[Any]) -> None:
        answer = case.call()
        answered.append(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and answer.status_code != 405:
            assert "detail" in answer.json(), "every refusal says why"

    operation, feedback = SCHEMA[path][method.upper()], FeedbackSources(constants_value_source=make_constants_value_source(SCHEMA))
    build_operation_test(config=SCHEMA.config, operation=operation, test_func=holds, given_kwargs={}, feedback=feedback)()
    assert answered


TEXTS = st.text(st.characters(exclude_categories=()))
NAMES = st.sampled_from(["account_id", "payment_id", "amount", "keys", "command", "reason", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["A", "EUR", "2013-01-01", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=12,
)
REPEATED = st.tuples(st.integers(0, 3_000), st.sampled_from([b"[", b'{"a":', b'{"account_id":[', b'"', b"\\", b"1", b"\xef\xbb\xbf"]))
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    REPEATED.map(lambda pair: pair[0] * pair[1]),
)
PATHS = st.sampled_from(
    [
        *(f"/v1/events/{name}" for name in [*PLAN.streams, "x"]),
        *(f"/v1/features/{name}" for name in [*PLAN.application.entities, "x"]),
        *(f"/v1/models/{name}/commands" for name in [*PLAN.models, "x"]),
        *(f"/v1/streams/{name}/resume" for name in [*PLAN.streams, "x"]),
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "origin", "host", "authorization", "accept", "range", "x-forwarded-for"]),
    st.sampled_from(["application/json", "text/plain", "gzip", "localhost", "null", "Bearer x", "multipart/form-data; boundary=x", "\xff", "*/*"]),
    max_size=3,
)


@settings(UNLIMITED, max_examples=examples(400))
@given(PATHS, BODIES, HEADERS, st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]))
def test_no_body_and_no_header_is_a_server_error(path: str, body: bytes, headers: dict[str, str], method: str) -> None:
    given = {"host": "localhost", "content-type": "application/json", **headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    assert TestClient(APP).request(method, path, content=body, headers=encoded).status_code < 500


@settings(UNLIMITED, max_examples=examples(200))
@given(st.binary(max_size=40), st.sampled_from([*PLAN.application.entities, "x"]))
def test_no_key_is_a_server_error(key: bytes, entity: str) -> None:
    path = f"/v1/features/{entity}/" + "".join(f"%{byte:02x}" for byte in key)
    assert TestClient(APP).get(path, headers={"host": "localhost"}).status_code < 500
