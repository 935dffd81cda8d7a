"""`tidemill topics` makes every topic an application needs, once, and says what is in its way."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.topics import catalogue_topics

ROOT = Path(__file__).parents[2]
STREAMS = ("departures", "arrivals", "weather")


@pytest.fixture
def application(tmp_path: Path, application_name: str) -> Path:
    folder = Path(shutil.copytree(ROOT / "examples" / "flights", tmp_path / "application"))
    text = (folder / "app.yaml").read_text().replace("app: flights", f"app: {application_name}")
    for stream in STREAMS:
        text = text.replace(f"topic: flights-{stream}", f"topic: {application_name}-{stream}")
    (folder / "app.yaml").write_text(text)
    return folder


def topics(application: Path, bootstrap_servers: str, **settings: str) -> Result:
    return CliRunner().invoke(app, ["topics", str(application)], env={"TIDEMILL_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers, **settings})


def test_every_topic_is_made_and_a_second_time_nothing_changes(application: Path, application_name: str, infrastructure: Infrastructure) -> None:
    for _ in range(2):
        done = topics(application, infrastructure.bootstrap_servers)
        assert done.exit_code == 0, done.stderr
    broker = KafkaBroker(infrastructure.bootstrap_servers)
    for topic in [*load_plan(application).topics.raw, *(spec.name for spec in catalogue_topics(application_name, 1))]:
        assert broker.partitions(topic) == 1, topic


def test_a_topic_with_another_number_of_partitions_is_named(application: Path, application_name: str, infrastructure: Infrastructure) -> None:
    KafkaBroker(infrastructure.bootstrap_servers).create_topics([TopicSpec(f"{application_name}-arrivals", 3)])
    done = topics(application, infrastructure.bootstrap_servers)
    assert done.exit_code == 2
    assert f"topic {application_name}-arrivals: expected 1 partitions, found 3" in " ".join(done.stderr.split())


def test_a_silent_broker_is_named(application: Path) -> None:
    done = topics(application, "127.0.0.1:1", TIDEMILL_KAFKA__DEADLINE_S="2")
    assert done.exit_code == 1
    assert "Kafka at 127.0.0.1:1 does not answer" in " ".join(done.stderr.split())
