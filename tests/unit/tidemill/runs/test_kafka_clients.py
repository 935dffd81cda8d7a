"""What the environment says of Kafka reaches the commands' clients as it reaches the services'."""

import json

import pytest

from tidemill.runs.kafka_clients import client_settings, connect
from tidemill.runs.pipeline import stage_spec
from tidemill.runs.settings import read_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA__OPTIONS", '{"security.protocol": "SASL_SSL", "fetch.min.bytes": "7"}')
    monkeypatch.setenv("TIDEMILL_KAFKA__PASSWORD", "secret")


def test_a_client_has_the_options_and_the_password_and_its_own_settings_win() -> None:
    kafka = read_settings().kafka_at("broker:1")
    assert client_settings(kafka, {"group.id": "g", "fetch.min.bytes": 1}) == {
        "bootstrap.servers": "broker:1", "security.protocol": "SASL_SSL", "sasl.password": "secret", "group.id": "g", "fetch.min.bytes": 1,
    }  # fmt: skip


def test_the_broker_has_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr("tidemill.runs.kafka_clients.KafkaBroker", lambda *given, deadline_s, topics: made.append((*given, deadline_s)))
    connect(read_settings().kafka_at("broker:1"))
    assert made == [("broker:1", {"security.protocol": "SASL_SSL", "fetch.min.bytes": "7", "sasl.password": "secret"}, 30.0)]


def test_a_stage_that_fetches_less_often_keeps_the_options_given() -> None:
    given = json.dumps(read_settings().kafka.options)
    spec = stage_spec("outcomes", {"TIDEMILL_INGESTION__CLOCK": "live", "TIDEMILL_KAFKA__OPTIONS": given})
    assert json.loads(spec.environment["TIDEMILL_KAFKA__OPTIONS"]) == {"security.protocol": "SASL_SSL", "fetch.min.bytes": "7"}
