"""The gateway, fuzzed from its own description (schemathesis) and with raw bodies: no request of a client is a server error."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

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
from tidemill.services.gateway.commands import WITH_VERSION, Command, CommandQuestion
from tidemill.services.gateway.features import ThreadedReader
from tidemill.services.gateway.settings import DoorSettings
from tidemill.services.gateway.tokens import TokenBook
from tidemill.shared.application.planning import load_plan
from tidemill.shared.commands.signing import RESUME_STREAM
from tidemill.shared.dead_letters.letters import Letter, Selection
from tidemill.shared.dead_letters.replaying import LetterReplayResult
from tidemill.shared.online_store.memory_store import MemoryOnlineStore

PLAN = load_plan(Path(__file__).parents[2] / "examples" / "payments")
UNLIMITED = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


REACHED: Counter[str] = Counter()
"""What came through the door, by where it went."""


class Publisher:
    async def publish(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        assert key and value.startswith(b"{")
        REACHED[topic] += 1
        return 0, 0


class Desk:
    async def issue(self, command: Command) -> tuple[str, int, int]:
        REACHED[command.command] += 1
        return command.command_id.encode().decode() or "made", 0, len(command.reason.encode())


class Letters:
    def newest(self, selection: Selection, limit: int) -> list[Letter]:
        return []

    def replay(self, selection: Selection) -> LetterReplayResult:
        return LetterReplayResult()


EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
INCIDENT = json.loads((EXAMPLES / "incident.json").read_text())[0]
EXPLANATION = json.loads((EXAMPLES / "explanation.json").read_text())[0]


class Drift:
    def incidents(self) -> list[dict[str, Any]]:
        return [INCIDENT]

    def findings(self) -> list[dict[str, Any]]:
        return []


class Explanations:
    def of_request(self, request_id: str) -> list[dict[str, Any]]:
        return [{**EXPLANATION, "request_id": request_id, "score": float("nan")}] if len(request_id) % 2 else []


def gateway(door: Door | None) -> FastAPI:
    desks: dict[str, Any] = {"desk": Desk(), "letters": Letters(), "drift": Drift(), "explanations": Explanations()}
    return build_app(PLAN, ThreadedReader(MemoryOnlineStore(PLAN)), Publisher(), door=door, **desks)


APP = gateway(Door(DoorSettings(requests_per_s=1e9, burst=10**9), TokenBook({})))
DESCRIBED = gateway(None)
# Not `from_asgi`, which asks for the description in a thread that stays: workers that are forked from what was loaded have no such thread.
DESCRIPTION = json.loads(json.dumps(DESCRIBED.openapi()))
# Nothing says what an event holds and which incidents there are: one of each is what is varied.
DESCRIPTION["paths"]["/v1/events/{stream}"]["post"]["requestBody"]["content"]["application/json"]["example"] = {"account_id": "A"}
DESCRIPTION["paths"]["/v1/incidents/{incident_id}"]["get"]["parameters"][0]["example"] = INCIDENT["incident_id"]
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
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
    assert min(answered) < 300, "some request of each operation comes through the door"


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
KINDS = get_args(CommandQuestion.model_fields["command"].annotation)
ORDERS = st.builds(
    lambda kind, reason, identity: {"command": kind, "reason": reason, **identity, **({"version": "v1"} if kind in WITH_VERSION else {})},
    st.sampled_from(KINDS),
    TEXTS,
    st.fixed_dictionaries({}, optional={"command_id": st.text("aZ09._-", max_size=100)}),
)
COMMANDS = st.one_of(
    ORDERS,
    TEXTS.map(lambda reason: {"reason": reason}),
    st.builds(lambda order, more: {**order, **more}, ORDERS, st.dictionaries(st.sampled_from(["version", "serving", "share", "command", "x"]), JSON)),
).map(lambda order: json.dumps(order).encode())
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


def sent(path: str, body: bytes, headers: dict[str, str], method: str) -> None:
    given = {"host": "localhost", "content-type": "application/json", **headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    assert TestClient(APP).request(method, path, content=body, headers=encoded).status_code < 500


@settings(UNLIMITED, max_examples=examples(400))
@given(PATHS, BODIES, HEADERS, st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"]))
def test_no_body_and_no_header_is_a_server_error(path: str, body: bytes, headers: dict[str, str], method: str) -> None:
    sent(path, body, headers, method)


def test_no_command_is_a_server_error() -> None:
    before = REACHED.copy()

    @settings(UNLIMITED, max_examples=examples(200))
    @given(st.sampled_from(["/v1/models/fraud/commands", "/v1/streams/payments/resume"]), COMMANDS)
    def holds(path: str, body: bytes) -> None:
        sent(path, body, {}, "POST")

    holds()
    reached = REACHED - before
    assert len(reached) >= len(KINDS) - 1 and RESUME_STREAM in reached, "commands of nearly all kinds come to the desk"


@settings(UNLIMITED, max_examples=examples(200))
@given(st.binary(max_size=40), st.sampled_from([*PLAN.application.entities, "x"]))
def test_no_key_is_a_server_error(key: bytes, entity: str) -> None:
    path = f"/v1/features/{entity}/" + "".join(f"%{byte:02x}" for byte in key)
    assert TestClient(APP).get(path, headers={"host": "localhost"}).status_code < 500
