"""Probes, logs and settings as an operator meets them."""

import io
import json
import logging
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.patience import patient
from tidemill.shared.observability.health import HealthServer, ProcessHealth
from tidemill.shared.observability.logging import configure_logging
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=patient(5)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_follow_progress_and_readiness() -> None:
    now = [0.0]
    health = ProcessHealth(stalled_after_s=10, clock=lambda: now[0])
    metrics = Metrics("scoring")
    metrics.count_read("t", 7)
    with HealthServer(health, metrics.registry) as server:
        assert (get(server.port, "/live")[0], get(server.port, "/ready")[0]) == (200, 503)
        health.set_ready(True)
        assert get(server.port, "/ready")[0] == 200
        now[0] = 11.0
        assert (get(server.port, "/live")[0], get(server.port, "/ready")[0]) == (503, 503)
        health.advanced()
        assert get(server.port, "/live")[0] == 200
        assert 'tidemill_records_in_total{stage="scoring",topic="t"} 7.0' in get(server.port, "/metrics")[1]
        assert get(server.port, "/elsewhere")[0] == 404


def test_two_processes_can_hold_metrics_side_by_side() -> None:
    Metrics("a").count_commit(0.1)
    Metrics("a").count_commit(0.1)


def test_a_log_message_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging("features", "3", stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"offset": 5, "where": Path("a")})
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert {"stage": "features", "instance": "3", "level": "error", "message": "failed", "offset": 5, "where": "a"}.items() <= parsed.items()
    assert "two\nlines" in parsed["error"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_APPLICATION", "examples/flights")
    monkeypatch.setenv("TIDEMILL_KAFKA__BOOTSTRAP_SERVERS", "kafka:1")
    monkeypatch.setenv("TIDEMILL_KAFKA__PASSWORD", "hunter2")
    monkeypatch.setenv("TIDEMILL_RUNNER__COMMIT_INTERVAL_MS", "25")
    settings = ServiceSettings()
    assert (settings.kafka.bootstrap_servers, settings.runner.commit_interval_ms) == ("kafka:1", 25)
    assert settings.kafka.client_options() == {"sasl.password": "hunter2"}
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.instance = "9"  # type: ignore[misc]  # frozen: the assignment must fail


@pytest.mark.parametrize("name, value", [("COMMIT_INTERVAL_MS", "0"), ("DEAD_LETTER_SHARE", "1.5"), ("NO_SUCH_THING", "1"), ("MAX_BATCH", "many")])
def test_bad_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TIDEMILL_APPLICATION", "x")
    monkeypatch.setenv(f"TIDEMILL_RUNNER__{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        ServiceSettings()


def test_runner_settings_have_bounds() -> None:
    with pytest.raises(ValidationError):
        RunnerSettings(crash_limit=0)
