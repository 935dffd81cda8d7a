"""A run in one process whose application can be changed: the live stages on the broker in memory, each new application on what the last one left."""

import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.meters import record
from tests.linear_models import linear_artifact
from tidemill.audit.audit_run import RunAudit, audit_topics
from tidemill.backtest.in_process import InProcess
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.stages import (
    StageWorld,
    archive_runner,
    control_runner,
    drift_runner,
    outcomes_runner,
    path_runner,
    retraining_runner,
)
from tidemill.backtest.trainings import KeptRegistrar
from tidemill.backtest.virtual_time import TimedSink, VirtualClock
from tidemill.runs.topics import create_topics
from tidemill.services.explanations.service import stage as explanations_stage
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult, version_name
from tidemill.services.retraining.processes.trainer import Trainer as TrainerPort
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import Artifact, ArtifactStore

START, STEP_MS = 1_700_000_000_000, 600_000
# The stages run after so many rows: each time costs them much more than a row does.
_ROWS_BETWEEN = 80
_STAMP = {"type": "long", "logicalType": "timestamp-millis"}
APP = """
app: meters
owner: meters@example.org
partition_by: meter
streams:
  readings: {topic: meters-readings, schema: reading.avsc, event_id: reading_id, event_time: at}
  truths: {topic: meters-truths, schema: truth.avsc, event_id: reading_id, event_time: at}
entities:
  meter: {from: {readings: meter}}
views:
  use: {entity: meter, source: readings, value: f0, aggregate: [count, sum], windows: [6h]}
models:
  faulty:
    ask: readings
    features: [f0, f1, use.*]
    label: {stream: truths, join: reading_id, value: truth, max_delay: 4h, on_timeout: negative}
    fallback: {default: 0.1}
    retraining: {bootstrap_labels: 40, cool_down: 1d, schedule: 4d, budget_per_30d: 10}
    training: {holdout_days: 2, min_rows: 100, trials: 2}
"""
SECOND = """  heat:
    kind: regression
    ask: readings
    features: [f0, f1]
    label: {stream: truths, join: reading_id, value: truth, max_delay: 2h}
    fallback: {default: 0.0}
    retraining: {bootstrap_labels: 40, cool_down: 1d}
"""
COUNTED = ("use: {entity: meter, source: readings, value: f0,", 'use: {entity: meter, source: readings, where: "f0 > 0", value: f0,')


def write(folder: Path, text: str = APP) -> Path:
    """Write the application."""
    folder.mkdir(parents=True)
    fields: list[tuple[str, Any]] = [("reading_id", "string"), ("meter", "string"), ("at", _STAMP)]
    (folder / "reading.avsc").write_text(record("Reading", [*fields, ("f0", "double"), ("f1", "double")]))
    (folder / "truth.avsc").write_text(record("Truth", [*fields, ("truth", "double")]))
    (folder / "app.yaml").write_text(text)
    return folder


class RememberingBroker(MemoryBroker):
    """Forgets nothing, as a run's topics do."""

    def forget(self) -> None:
        """Keep everything."""


class Trainer(TrainerPort):
    """Every candidate passes; the models are of f0 and f1."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._request: JobRequest | None = None

    def start(self, request: JobRequest) -> None:
        """Begin one."""
        self._request = request

    def poll(self) -> JobResult:
        """Return its result."""
        if self._request is None:
            raise RuntimeError("expected a training, none was started")
        model, version = self._request.retraining["model"], version_name(self._request.retraining)
        address = self._artifacts.put(self.made(model, version).to_bytes())
        return JobResult(
            finished=True, reason="because", version=version, passed=True,
            artifact_sha256=address, artifact_uri=self._artifacts.uri_of(address), details={"family": "linear"}
        )  # fmt: skip

    def made(self, model: str, version: str) -> Artifact:
        """Return a version."""
        kind = "regression" if model == "heat" else "binary"
        changes = {"interval_lower": -1.0, "interval_upper": 1.0} if kind == "regression" else {}
        return linear_artifact(kind, np.array([[1.0], [-1.0]]), version, (), model=model, **changes)


class OneProcess:
    """The run.

    Attributes
    ----------
    trainer
        Makes its models.
    """

    trainer: type[Trainer] = Trainer

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.registry = folder, VirtualClock(), MemorySchemaRegistry()
        self.broker = RememberingBroker(self.clock.now_ms, 0.0)
        self.artifacts = str(folder / "artifacts")
        self.had: dict[str, Plan] = {}
        self._rows = 0
        self._truths: list[float] = []
        self._random = np.random.default_rng(5)

    def start(self, application: Path) -> None:
        """Run an application on what there is."""
        self.plan = load_plan(application)
        self.had[self.plan.application_hash] = self.plan
        create_topics(self.plan, self.broker)
        world = StageWorld(self.plan, application, self.folder, self.broker, self.registry, self.clock, self.artifacts)
        runners = {
            "ingestion": path_runner(world, raw=True),
            "outcomes": outcomes_runner(world),
            **(
                {"explanations": world.runner("explanations", explanations_stage(world.settings(), self.plan, self.registry))}
                if "explanations" in self.plan.application.stages
                else {}
            ),
            "drift": drift_runner(world),
            "control": control_runner(world),
            "archive": archive_runner(world),
            "retraining": retraining_runner(world, self.trainer(ArtifactStore(self.artifacts)), KeptRegistrar()),
        }
        log = PublicLog(self.plan, self.broker, self.registry, lambda _: None)
        self.stages = InProcess(self.plan.application.app, self.broker, runners, log, lambda: False)
        for runner in runners.values():
            # A chain first catches up with what its lead has written; it reads nothing meanwhile, so nobody sees that it is behind.
            for _ in range(5):
                runner.step()
        self.stages.poll()

    def stop(self) -> None:
        """End every stage; what is left of it must not be taken for a reader."""
        self.stages.close()
        del self.stages
        gc.collect()

    def publish(self, rows: int) -> None:
        """Publish readings ten minutes apart, the truth of four of five an hour later, and let every stage deal with them."""
        sink = TimedSink(self.broker.sink(), self.clock)
        for i in range(self._rows, self._rows + rows):
            at, meter = START + i * STEP_MS, f"m{i % 3}"
            f0, f1 = self._random.normal(size=2).tolist()
            self._send(sink, "meters-readings", {"reading_id": f"r{i}", "meter": meter, "at": at, "f0": f0, "f1": f1})
            self._truths.append(float(f0 > f1))
            if i >= 6 and i % 5:
                truth = self._truths[i - 6]
                self._send(sink, "meters-truths", {"reading_id": f"r{i - 6}", "meter": f"m{(i - 6) % 3}", "at": at, "truth": truth})
            for topic in self.plan.topics.raw:
                sink.publish(topic, HEARTBEAT_KEY, None, at + 1)
            if (i + 1) % _ROWS_BETWEEN == 0:
                self.stages.poll()
        self._rows += rows
        self.stages.poll()

    def _send(self, sink: TimedSink, topic: str, row: Mapping[str, Any]) -> None:
        sink.publish(topic, str(row["meter"]).encode(), json.dumps(row).encode(), int(row["at"]))

    def records(self, topic: str, schema: str) -> list[dict[str, Any]]:
        """Read a topic of messages."""
        codec = message_codec(self.registry, topic, schema)
        return [codec.decode(value) for value in self.values(topic)]

    def values(self, topic: str) -> list[bytes]:
        """Read a topic's values."""
        runs = self.broker.reader().read(TopicPartition(topic, 0), 0)
        return [value for run in runs for value in run.values if value is not None]

    def audit(self) -> RunAudit:
        """Recompute everything, each application for what it answered."""
        return audit_topics(self.plan, self.broker, self.registry, ArtifactStore(self.artifacts), self.had)
