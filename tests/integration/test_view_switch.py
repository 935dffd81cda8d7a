"""A changed view on real Kafka: state is made again from the journal, and one mark says from where on vectors follow the new definition."""

import json
import signal
from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from tests.integration.flights_services import NOON, ROOT, STREAMS, application, departure, service, until
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.view_version import feature_versions, view_version
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.lake.names import VECTORS, VIEW_SWITCHES
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics

__all__ = ["application"]
SLICE, FILTERED = 700, 1_000
OLD = "origin_traffic: {entity: origin, source: departures, aggregate"
NEW = f"origin_traffic: {{entity: origin, source: departures, where: flight >= {FILTERED}, aggregate"


@pytest.mark.timeout(300)
@pytest.mark.lasts(73)
@pytest.mark.parametrize("path", [("fused",), ("ingestion", "features")], ids=["fused", "separate"])
def test_a_changed_view_is_switched_at_one_marked_offset_whenever_it_is_killed(
    path: tuple[str, ...], application: Path, application_name: str, infrastructure: Infrastructure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load_plan(application)
    broker, registry = KafkaBroker(infrastructure.bootstrap_servers), ConfluentSchemaRegistry(infrastructure.registry_url)
    broker.create_topics([*catalogue_topics(application_name, 1), *(TopicSpec(topic) for topic in old.topics.raw)])
    monkeypatch.setenv("TIDEMILL_LAKE__URI", str(tmp_path / "lake"))
    reader, topics = broker.reader(), old.topics
    codec = RecordCodec(registry, "test-switch", (ROOT / "schemas" / "view-switch.avsc").read_text())
    producer = Producer({"bootstrap.servers": infrastructure.bootstrap_servers})

    def values(topic: str) -> list[bytes]:
        return [value for records in reader.read(TopicPartition(topic, 0), 0) for value in records.values if value is not None]

    def publish(turn: int) -> None:
        for i in range(turn * SLICE, (turn + 1) * SLICE):
            producer.produce(topics.raw[0], departure(i), f"f{i}".encode(), timestamp=NOON + i * 1_000)
        for stream in STREAMS:
            producer.produce(old.streams[stream].topic, None, HEARTBEAT_KEY, timestamp=NOON + (turn + 1) * SLICE * 1_000)
        assert producer.flush(patient(30)) == 0

    log = tmp_path / f"{path[-1]}.log"
    with service(path[0], application, infrastructure, tmp_path) as lead, service(path[-1], application, infrastructure, tmp_path) as last:
        with service("archive", application, infrastructure, tmp_path) as archive:
            running = [lead(), *([last()] if len(path) > 1 else [])]
            publish(0)
            until(lambda: len(values(topics.vectors)) == SLICE, "vectors by the old view", tmp_path)
            for process in running:
                process.send_signal(signal.SIGKILL)
                process.wait()
            text = (application / "app.yaml").read_text()
            assert text.count(OLD) == 1
            (application / "app.yaml").write_text(text.replace(OLD, NEW))
            new = load_plan(application)
            publish(1)
            if len(path) > 1:
                lead()
            for said in ('"starting"', '"rebuilding: other versions"', ""):  # killed while it starts, makes the state again, has just switched
                before = log.read_text().count(said)
                process = last()
                if said:
                    until(lambda said=said, before=before: log.read_text().count(said) > before, said, tmp_path, poll_s=0.01)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                else:
                    until(lambda: len(values(topics.vectors)) > SLICE, "the first vectors by the new view", tmp_path)
                process.send_signal(signal.SIGKILL)
                process.wait()
            process = last()
            until(lambda: len(values(topics.vectors)) == 2 * SLICE, "vectors by the new view", tmp_path)
            process.terminate()
            process.wait(patient(30))
            process = last()  # with nothing changed
            publish(2)
            until(lambda: len(values(topics.vectors)) == 3 * SLICE, "vectors after a restart", tmp_path)
            archive()
            lake = Lake(str(tmp_path / "lake"), application_name)
            until(lambda: lake.exists(VIEW_SWITCHES) and archived(lake) == 3 * SLICE, "the archive", tmp_path)

    first, second = (codec.decode(value) for value in values(topics.view_switches))
    vectors = ColumnDecoder(registry, new.vector_schema).decode(values(topics.vectors)).batch
    offsets = vectors.column("_journal_offset").to_pylist()
    assert (first["journal_offset"], first["view_version"], first["previous"]) == (0, view_version(old), "")
    assert (second["view_version"], second["previous"]) == (view_version(new), view_version(old))
    assert offsets[SLICE - 1] < second["journal_offset"] <= offsets[SLICE]
    assert second["features"] == dict(feature_versions(new))
    hour = vectors.column("origin_traffic__count_1h").to_pylist()
    by_old, by_new = [i + 1.0 for i in range(SLICE)], [max(0.0, i + 1.0 - FILTERED) for i in range(SLICE, 3 * SLICE)]
    assert hour == by_old + by_new, "before the mark by the old definition, from it on by the new one, over the whole journal"
    reader.close()

    asked = ["skew", str(application), "--lake", str(tmp_path / "lake")]
    by_default = CliRunner().invoke(app, [*asked, "--json"])
    assert by_default.exit_code == 0, by_default.output
    report = json.loads(by_default.output)
    assert report["sampled"] == 2 * SLICE and report["begins"] == {"0": second["journal_offset"]}
    everything = CliRunner().invoke(app, [*asked, "--from", "2013-01-01", "--json"])
    differing = {row["feature"]: row["mismatches"] for row in json.loads(everything.output)["features"] if row["mismatches"]}
    assert everything.exit_code == 1 and set(differing) == {"origin_traffic__count_1h", "origin_traffic__count_3h"}
    listed = CliRunner().invoke(app, ["switches", str(application), "--lake", str(tmp_path / "lake")])
    assert listed.exit_code == 0 and {"~origin_traffic__count_1h", "~origin_traffic__count_3h"} <= set(listed.output.split()), listed.output


def archived(lake: Lake) -> int:
    return lake.dataset(VECTORS).count_rows() if lake.exists(VECTORS) else 0
