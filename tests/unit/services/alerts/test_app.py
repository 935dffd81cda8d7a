"""Between Kafka's messages and the fold: what is decoded, what is skipped, and which credentials faust gets."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import faust
import pytest

from tidemill.services.alerts.app import AgentInput, credentials, decoded
from tidemill.services.alerts.domain.rows import fields_of
from tidemill.shared.application.alert_rules import COLUMNS
from tidemill.shared.application.alerts import AlertSource
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry

SCHEMAS = Path(__file__).parents[4] / "schemas"
SOURCES: dict[AlertSource, str] = {
    "drift": "drift", "health": "health", "decisions": "decision", "retraining": "retraining", "deployments": "deployment", "rejected": "rejected",
    "progress": "progress",
}  # fmt: skip


class Received(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def example(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((SCHEMAS / "examples" / f"{name}.json").read_text())[0]
    return record


@pytest.mark.parametrize("source", SOURCES)
def test_every_column_of_a_topic_is_made_of_its_records(source: AlertSource) -> None:
    time_ms, fields = fields_of(source, example(SOURCES[source]))
    assert time_ms == 1_358_424_000_000
    assert [*fields, "journal_time", "age_s"] == COLUMNS[source].names


def test_the_refused_share_and_the_paused_topics_are_those_of_the_progress_record() -> None:
    fields = fields_of("progress", example("progress"))[1]
    assert (fields["records_read"], fields["records_refused"]) == (22_000.0, 9_012.0)
    assert fields["refused_share"] == pytest.approx(9_012 / 22_000)
    assert fields["paused_topics"] == "flights-arrivals"


def test_of_a_compacted_topic_the_newest_of_each_key_counts_and_what_cannot_be_read_is_named(caplog: pytest.LogCaptureFixture) -> None:
    codec = RecordCodec(MemorySchemaRegistry(), "t", (SCHEMAS / "progress.avsc").read_text())
    messages = [
        Received("t", 0, i, key, value)
        for i, (key, value) in enumerate(
            [(b"0", codec.encode({**example("progress"), "sequence": 1})), (b"1", None), (b"0", codec.encode({**example("progress"), "sequence": 2}))]
        )
    ]
    newest = decoded(AgentInput("progress", {"t": codec}, newest_only=True), messages)
    assert [(record.offset, record.fields["sequence"]) for record in newest] == [(2, 2)]
    assert len(decoded(AgentInput("progress", {"t": codec}), messages)) == 2
    assert not decoded(AgentInput("progress", {"t": codec}), [Received("t", 0, 9, None, b"junk")])
    assert "skipped" in caplog.text


def test_faust_gets_the_credentials_that_librdkafka_has() -> None:
    assert credentials({"fetch.min.bytes": "1"}) is None
    options = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p"}
    secrets = credentials(options)
    assert isinstance(secrets, faust.SASLCredentials)
    assert (secrets.username, secrets.password, secrets.mechanism.value, secrets.protocol.value) == ("u", "p", "SCRAM-SHA-512", "SASL_SSL")
    assert isinstance(credentials({"security.protocol": "ssl"}), faust.SSLCredentials)
    with pytest.raises(ValueError, match="GSSAPI"):
        credentials({**options, "sasl.mechanisms": "GSSAPI"})
