"""Real processes that start while the schema registry does not answer wait for it: none ends, and the supervisor starts none again."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.meters import write_application
from tests.late_registry import LateRegistry
from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec

DEADLINE_S = 60.0
SERVICES = ("control", "alerts")


def until(condition: Callable[[], bool], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        supervisor.check()
        assert time.monotonic() < deadline, [supervisor.log_tail(name, 5) for name in SERVICES]
        time.sleep(0.05)


def probe(port: int, what: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return problem.code, json.loads(problem.read())
    except OSError:
        return 0, {}


@pytest.mark.lasts(15)
@pytest.mark.timeout(180)
def test_services_that_start_without_a_registry_wait_for_it(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> None:
    folder = write_application(tmp_path / "app", application_name)
    KafkaBroker(infrastructure.bootstrap_servers).create_topics([TopicSpec(f"{application_name}-readings", 2)])
    ports = {name: free_port() for name in SERVICES}
    with LateRegistry() as registry:
        environment = {
            "TIDEMILL_APPLICATION": str(folder),
            "TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": infrastructure.bootstrap_servers,
            "TIDEMILL_REGISTRY__URL": registry.url,
            "TIDEMILL_RUNNER__STATE_FOLDER": str(tmp_path / "state"),
        }
        supervisor = Supervisor(tmp_path / "logs", environment, crash_limit=1)
        specs = [ServiceSpec(name, f"tidemill.services.{name}", {"TIDEMILL_HEALTH__PORT": str(port)}) for name, port in ports.items()]
        try:
            supervisor.start(specs)
            until(lambda: all("starting" in probe(port, "ready")[1].get("troubles", {}) for port in ports.values()), supervisor)
            assert all(probe(port, "live")[0] == 200 and probe(port, "ready")[0] == 503 for port in ports.values())
            registry.answers.set()
            until(lambda: all(probe(port, "ready")[0] == 200 for port in ports.values()), supervisor)
            assert supervisor.restarts() == dict.fromkeys(SERVICES, 0)
            assert all("waiting for a server" in supervisor.log_tail(name, 200) for name in SERVICES)
        finally:
            supervisor.stop()
