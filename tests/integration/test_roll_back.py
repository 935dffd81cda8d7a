"""An operator's roll-back, end to end on real Kafka: command, decision, lifecycle log, predictions, model registry."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from mlflow import MlflowClient
from typer.testing import CliRunner

from tests import forked
from tests.integration.meters import write_application
from tests.models import artifact
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.command_channel import command_key
from tidemill.runs.pipeline import pipeline_environment
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.runs.topics import create_topics
from tidemill.runs.watch import record_codec
from tidemill.services.cli.__main__ import app
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.commands.signing import signed_command
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.partitioning import murmur2_partition
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.assignment import fractions
from tidemill.shared.models.registry import ModelRegistry
from tidemill.shared.models.signature import Column

pytestmark = [pytest.mark.timeout(300), pytest.mark.lasts(40)]
ROOT = Path(__file__).parents[2]
SERVICES = ("ingestion", "features", "scoring", "explanations", "control", "retraining")
COLUMNS = tuple(Column(name=name, type="double") for name in ("kwh", "use__count_6h"))
DEADLINE_S = patient(120.0)


def test_a_roll_back_by_command_reaches_predictions_and_registry_once(infrastructure: Infrastructure, application_name: str, tmp_path: Path) -> None:
    folder = write_application(tmp_path / "application", application_name)
    (folder / "app.yaml").write_text((folder / "app.yaml").read_text() + "    explain: {top: 1}\n")
    plan = load_plan(folder)
    broker, registry = KafkaBroker(infrastructure.bootstrap_servers), ConfluentSchemaRegistry(infrastructure.registry_url)
    create_topics(plan, broker)
    environment = pipeline_environment(tmp_path / "application", infrastructure, tmp_path, "live", read_settings())
    store = ArtifactStore(environment["TIDEMILL_ARTIFACTS__URI"])
    models = ModelRegistry(environment["TIDEMILL_TRACKING__URI"])
    topics = plan.topics
    codecs = {
        topic: record_codec(registry, topic, name)
        for topic, name in ((topics.deployments, "Deployment"), (topics.commands, "Command"), (topics.decisions, "Decision"))
    }
    addresses: dict[str, str] = {}
    producer, reader = Producer({"bootstrap.servers": infrastructure.bootstrap_servers}), broker.reader()
    deployed = (("registered", "v3", "logistic_regression"), ("promoted", "v1", "logistic_regression"), ("promoted", "v2", "lightgbm"))
    for sequence, (what, version, family) in enumerate(deployed):
        address = addresses[version] = store.put(artifact(family, COLUMNS, version, model="faulty")[0].to_bytes())
        models.record(application_name, "faulty", version, store.uri_of(address), {"decision_id": version}, {}, {})
        event = {
            "sequence": sequence, "parent": sequence - 1, "decision_id": version, "model": "faulty", "event": what, "version": version,
            "journal_partition": 0, "journal_offset": 0, "journal_time": 1_000 * sequence, "artifact_sha256": address, "artifact_uri": "",
            "share": 1.0, "threshold": 0.5, "figures": {}, "details": {}, "reason": "",
        }  # fmt: skip
        producer.produce(topics.deployments, codecs[topics.deployments].encode(event), b"faulty")
    assert producer.flush(patient(30)) == 0
    supervisor = Supervisor(tmp_path / "logs", environment, server=forked.server())
    client = MlflowClient(environment["TIDEMILL_TRACKING__URI"], environment["TIDEMILL_TRACKING__URI"])

    def until(condition: Callable[[], bool], what: str, look_s: float = 0.1) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            supervisor.check()
            logs = "\n".join(f"== {name}\n{supervisor.log_tail(name)}" for name in SERVICES) if time.monotonic() > end else ""
            assert not logs, f"not within {DEADLINE_S:.0f} s: {what}\n{logs}"
            time.sleep(look_s)

    def values(topic: str, partitions: int = 1) -> list[bytes]:
        parts = [records for p in range(partitions) for records in reader.read(TopicPartition(topic, p), 0)]
        return [value for records in parts for value in records.values if value is not None]

    def ask(identity: str) -> dict[str, Any]:
        """Publish a reading and return its prediction."""
        partition = murmur2_partition(b"1", 2)
        value = json.dumps({"reading_id": identity, "meter": "1", "read_at": int(time.time() * 1e3), "kwh": 1.0}).encode()
        producer.produce(plan.streams["readings"].topic, value, b"1", partition)
        assert producer.flush(patient(30)) == 0
        answers: list[dict[str, Any]] = []

        def look() -> bool:
            decoded = ColumnDecoder(registry, (ROOT / "schemas" / "prediction.avsc").read_text()).decode(values(topics.predictions, 2))
            answers.extend(row for row in decoded.batch.to_pylist() if row["request_id"] == identity)
            return bool(answers)

        until(look, f"the prediction of {identity}")
        return answers[0]

    def champion() -> str:
        try:
            return str(client.get_model_version_by_alias(f"{application_name}.faulty", "champion").tags["version"])
        except Exception:  # MLflow's own, as long as there is no alias
            return ""

    supervisor.start([ServiceSpec(name, f"tidemill.services.{name}") for name in SERVICES])
    try:
        before = ask("before")
        assert (before["model_version"], before["variant"], before["reason"]) == ("v2", "champion", None)
        until(lambda: champion() == "v2", "the registry knows who serves", 0.5)
        key = command_key(None, tmp_path)
        command = signed_command(key, "faulty", "roll_back", "complaints", "back", serving="v2", operator="ann")
        for _ in range(3):  # a client that repeats itself
            producer.produce(topics.commands, codecs[topics.commands].encode(command), b"faulty")
        # A second operator, who saw the same version serve.
        late = signed_command(key, "faulty", "roll_back", "complaints", "late", serving="v2", operator="bob")
        producer.produce(topics.commands, codecs[topics.commands].encode(late), b"faulty")
        stranger = signed_command(key, "stranger", "roll_back", "complaints", "other")
        producer.produce(topics.commands, codecs[topics.commands].encode(stranger), b"stranger")
        assert producer.flush(patient(30)) == 0
        until(lambda: len(values(topics.decisions)) >= 5, "requested, twice refused, requested by another, and a stranger's answer")
        until(lambda: len(values(topics.deployments)) >= 5, "rolled back, and the second operator's command refused")
        log = [codecs[topics.deployments].decode(value) for value in values(topics.deployments)]
        assert [(event["event"], event["version"], event["parent"]) for event in log] == [
            ("registered", "v3", -1), ("promoted", "v1", 0), ("promoted", "v2", 1), ("rolled_back", "v1", 2), ("command_refused", "v1", 3),
        ]  # fmt: skip
        assert [(event["operator"], event["command_id"], event["issued_at"]) for event in log[3:]] == [
            ("ann", "back", command["issued_at"]), ("bob", "late", late["issued_at"]),
        ]  # fmt: skip
        assert "complaints" in log[3]["reason"] and "expected v2 to serve, as when the command was given, found v1" in log[4]["reason"]
        said = [codecs[topics.decisions].decode(value) for value in values(topics.decisions)]
        own = [record for record in said if record["cause"] == "back"]
        assert [record["verdict"] for record in own] == ["requested", "refused", "refused"]
        assert len({record["decision_id"] for record in own}) == 1
        assert [record["verdict"] for record in said if record["model"] == "stranger"] == ["refused"]
        assert not values(topics.retraining), "a roll-back is no training"

        tries = iter(range(1_000))
        until(lambda: ask(f"after{next(tries)}")["model_version"] == "v1", "predictions by the champion before")
        after = ask("last")
        assert (after["model_version"], after["variant"], after["deployment_sequence"], after["reason"]) == ("v1", "champion", 3, None)
        until(lambda: champion() == "v1", "the registry follows", 0.5)
        tags = {one.tags["version"]: one.tags for one in client.search_model_versions(f"name = '{application_name}.faulty'")}
        assert {"promoted_at", "retired_at", "restored_at"} <= set(tags["v1"]) and {"promoted_at", "rolled_back_at"} <= set(tags["v2"])

        # Two operators begin an A/B test at once: one is followed. The meter answers with the version that has its draw.
        drawn = float(fractions([b"1"], addresses["v3"])[0])
        for name, share in (("ann", drawn + 1e-9), ("bob", 0.5)):
            ab = signed_command(key, "faulty", "ab", "worth it?", f"ab-{name}", version="v3", serving="v1", operator=name, share=share)
            producer.produce(topics.commands, codecs[topics.commands].encode(ab), b"faulty")
        assert producer.flush(patient(30)) == 0
        until(lambda: len(values(topics.deployments)) >= 7, "a test begins, and the second operator's command is refused")
        first, second = (codecs[topics.deployments].decode(value) for value in values(topics.deployments)[5:])
        assert (first["event"], first["version"], first["share"], first["operator"]) == ("ab", "v3", drawn + 1e-9, "ann")
        assert second["event"] == "command_refused" and "expected no A/B test that runs, found that of v3" in second["reason"]
        until(lambda: ask(f"compared{next(tries)}")["model_version"] == "v3", "predictions by the version that is compared")
        compared = ask("compared")
        assert (compared["variant"], compared["deployment_sequence"], compared["reason"]) == ("canary", 5, None)
        scores = ColumnDecoder(registry, (ROOT / "schemas" / "shadow-score.avsc").read_text()).decode(values(topics.shadow_scores, 2)).batch
        pair = next(row for row in scores.to_pylist() if row["request_id"] == "compared")
        assert (pair["stage"], pair["draw"], pair["share"], pair["champion_version"]) == ("ab", drawn, drawn + 1e-9, "v1")

        # Each answer is explained by the version that gave it, in a transaction of another stage.
        until(lambda: len(values(topics.explanations, 2)) == len(values(topics.predictions, 2)), "an explanation of each prediction")
        codec = record_codec(registry, topics.explanations, "Explanation")
        explained = [codec.decode(value) for value in values(topics.explanations, 2)]
        methods = {(one["model_version"], one["variant"], one["method"]) for one in explained}
        assert methods == {("v2", "champion", "tree"), ("v1", "champion", "linear"), ("v3", "canary", "linear")}
        for one in explained:
            total = one["base"] + one["contributions"][0]["contribution"] + one["rest"]
            assert total == pytest.approx(math.log(one["score"] / (1 - one["score"])), abs=1e-6)

        def tidemill(*arguments: str) -> tuple[int, str]:
            given = [*arguments, "--application", str(tmp_path / "application"), "--operator", "eve"]
            result = CliRunner().invoke(app, given, env=dict(environment))
            return result.exit_code, " ".join(result.output.split())

        assert tidemill("pin", "faulty", "--reason", "the holidays") == (0, "faulty is pinned to v1.")
        refused = "pin: expected a model that is not pinned, found v1 pinned by eve (the holidays); unpin it first"
        assert tidemill("pin", "faulty", "--reason", "again") == (2, refused)
        assert tidemill("unpin", "faulty", "--reason", "over") == (0, "faulty is not pinned any more to v1.")
        assert tidemill("rollback", "faulty", "--reason", "x") == (2, "roll_back: there is no earlier champion to roll back to")
    finally:
        supervisor.stop()
        reader.close()
