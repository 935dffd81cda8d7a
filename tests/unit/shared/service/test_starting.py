"""A service that is started while the registry is away, against a registry of its own protocol that is switched on later."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.patience import patient
from tidemill.services.scoring.service import build
from tidemill.services.scoring.settings import ScoringSettings
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service import starting
from tidemill.shared.service.starting import once_it_answers

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"


class Registry(BaseHTTPRequestHandler):
    """What a service asks of a registry when it starts."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"id": 7})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"compatibility": "BACKWARD_TRANSITIVE"})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def answering(port: int) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), Registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def make(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> partial[Runner]:
    monkeypatch.setenv("TIDEMILL_APPLICATION", str(PAYMENTS))
    monkeypatch.setenv("TIDEMILL_RUNNER__STATE_FOLDER", str(tmp_path))
    settings = ScoringSettings()  # type: ignore[call-arg, unused-ignore]  # from the environment
    plan, broker = load_plan(PAYMENTS), MemoryBroker()
    broker.create_topics(catalogue_topics(plan.application.app, plan.application.partitions))
    return partial(build, settings, broker, ConfluentSchemaRegistry(f"http://127.0.0.1:{port}"))


def test_a_start_waits_for_the_registry(port: int, make: partial[Runner], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_FIRST_PAUSE_S", 0.01)
    health, made = ProcessHealth(), list[Runner | None]()
    thread = threading.Thread(target=lambda: made.append(once_it_answers(make, threading.Event(), health)))
    thread.start()
    refused = threading.Event()
    while not health.troubles:
        assert not refused.wait(0.01) and thread.is_alive()
    assert "did not answer as expected" in health.troubles["starting"]
    assert health.live and not health.ready
    with answering(port):
        thread.join(patient(30.0))
        assert isinstance(made[0], Runner)
    assert not health.troubles


def test_a_signal_ends_the_wait(make: partial[Runner]) -> None:
    health, stop = ProcessHealth(), threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert once_it_answers(make, stop, health) is None
    assert health.troubles


def test_what_no_wait_mends_is_raised() -> None:
    def wrong() -> Runner:
        raise ValueError("expected 4 partitions")

    with pytest.raises(ValueError, match="4 partitions"):
        once_it_answers(wrong, threading.Event())
