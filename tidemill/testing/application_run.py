"""An application's stages over the events of a test: the real ones, in memory."""

import itertools
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.services.outcomes.task import task_inputs as outcomes_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.journal import JournalBatch, JournalDecoder
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.dated_rows import dated_rows
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import chain_runner
from tidemill.testing.manual_clock import ManualClock

_SCHEMAS = Path(__file__).parents[1] / "schemas"
_QUIET_ROUNDS = 3
Event = Mapping[str, Any] | bytes


@dataclass(frozen=True, slots=True)
class Results:
    """What the stages wrote so far, in the order of the topics' partitions.

    Attributes
    ----------
    vectors, predictions, outcomes
        As the topics have them: one dict a record, by the names of the Avro schemas; times are datetimes in UTC without a zone,
        those beyond the years 1 to 9999 the nearest one.
    rejected
        Dead letters: ``reason``, ``detail``, ``source_topic``, ``value`` (the original bytes) and so on.
    """

    vectors: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    rejected: list[dict[str, Any]]


class ApplicationRun:
    """Ingestion, features, scoring and outcomes of an application, from its files, on a log in memory.

    An event becomes known at the clock's time; nothing else has a clock. The stages, their runner, the transactions and the wire format are those
    of a real run; Kafka, registry, Redis and lake are not there, so that what only they can do wrong is not tested.

    Parameters
    ----------
    application
        Folder with ``app.yaml``.
    start
        Where the clock begins, ISO 8601.

    Raises
    ------
    ApplicationError
        The application is wrong: names file and line.
    """

    def __init__(self, application: Path | str, start: str = "2026-01-01") -> None:
        self.plan = load_plan(Path(application))
        self.clock = ManualClock(start)
        self.broker = MemoryBroker(self.clock.now_ms, stable_timeout_s=0.0)
        self.registry = MemorySchemaRegistry()
        partitions, topics = self.plan.application.partitions, self.plan.topics
        self.broker.create_topics([*catalogue_topics(self.plan.application.app, partitions), *(TopicSpec(topic, partitions) for topic in topics.raw)])
        self._folder = tempfile.TemporaryDirectory(prefix="tidemill-testing-")
        self._artifacts = ArtifactStore(str(Path(self._folder.name) / "artifacts"))
        self._sink = self.broker.sink()
        self._deployed = dict.fromkeys(self.plan.models, -1)
        self._runners = self._build(Path(application))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def publish(self, stream: str, event: Event, key: str | None = None) -> None:
        """Publish an event now.

        Parameters
        ----------
        event
            Fields by name, sent as JSON (datetimes as milliseconds), or bytes as they are.
        key
            The record's key; by default the event's partition key, of a reference stream its own key.

        Raises
        ------
        KeyError
            There is no such stream.
        """
        one = self.plan.streams[stream]
        if isinstance(event, bytes):
            value = event
        else:
            value = json.dumps(event, default=_json_time).encode()
            field = one.key if one.is_reference else self.plan.application.partition_by
            key = str(event.get(field)) if key is None and event.get(field) is not None else key
        self._sink.publish(one.topic, None if key is None else key.encode(), value, self.clock.now_ms())

    def deploy(self, model: str, artifact: Artifact) -> None:
        """Make an artifact the champion of a model, from the next event on."""
        topics, sequence = self.plan.topics, self._deployed[model] + 1
        signature = artifact.signature
        record = {
            "sequence": sequence, "parent": sequence - 1, "decision_id": f"test-{sequence}", "model": model, "event": "promoted",
            "version": signature.version, "journal_partition": 0, "journal_offset": 0, "journal_time": self.clock.now_ms(),
            "artifact_sha256": self._artifacts.put(artifact.to_bytes()), "artifact_uri": "", "share": 1.0, "threshold": signature.threshold,
            "figures": {}, "details": {}, "reason": "a test",
        }  # fmt: skip
        codec = RecordCodec(self.registry, f"{topics.deployments}-tidemill.Deployment", _schema("deployment"))
        self._sink.publish(topics.deployments, model.encode(), codec.encode(record), self.clock.now_ms(), 0)
        self._deployed[model] = sequence
        self._settle()

    def run(self) -> Results:
        """Take everything through all stages that has become known by now, and return what was written since the beginning.

        The clock is a millisecond later afterwards: what has the same time as an end may come before or behind it.
        """
        self.clock.advance("1ms")
        for stream in self.plan.streams.values():
            for partition in range(self.broker.partitions(stream.topic)):
                self._sink.publish(stream.topic, HEARTBEAT_KEY, None, self.clock.now_ms(), partition)
        self._settle()
        topics = self.plan.topics
        return Results(
            self._decoded(topics.vectors, self.plan.vector_schema),
            self._decoded(topics.predictions, _schema("prediction")),
            self._decoded(topics.outcomes, _schema("outcome")),
            self._decoded(topics.rejected, _schema("rejected")),
        )

    def journal(self, partition: int = 0) -> JournalBatch:
        """Return a partition of the journal as the cores read it."""
        log = self.broker.log(TopicPartition(self.plan.topics.journal, partition))
        return JournalDecoder(self.plan, self.registry).decode(log.read(0, log.end, 10**9)[0])

    def close(self) -> None:
        """Stop the stages and remove the temporary folder."""
        for runner in self._runners:
            runner.close()
        self._folder.cleanup()

    def _build(self, application: Path) -> list[Runner]:
        plan, registry, artifacts = self.plan, self.registry, self._artifacts
        references = {stream.topic: self.broker.partitions(stream.topic) for stream in plan.reference_streams}
        answer = [
            Stage("ingestion", ingestion_inputs(plan), lambda p: IngestionTask(plan, registry, p, "replay", 1_000, references)),
            Stage("features", features_inputs(plan), lambda p: FeaturesTask(plan, registry, p)),
            Stage("scoring", scoring_inputs(plan), lambda p: ScoringTask(plan, registry, artifacts, p, live=False)),
        ]
        labels = [Stage("outcomes", outcomes_inputs(plan), lambda p: OutcomesTask(plan, registry, p))]
        limits = RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, state_folder=Path(self._folder.name) / "state")
        settings = IngestionSettings(application=application).model_copy(update={"instance": "test", "runner": limits})
        moments = itertools.count()
        return [
            chain_runner(
                chain, plan, settings, self.broker, registry, Metrics(chain[0].name), clock_ms=self.clock.now_ms, timer=lambda: next(moments) / 1_000
            )
            for chain in (answer, labels)
        ]

    def _settle(self) -> None:
        """Step until nothing is committed any more."""
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            quiet = 0 if any([runner.step() for runner in self._runners]) else quiet + 1

    def _decoded(self, topic: str, schema: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for partition in range(self.broker.partitions(topic)):
            log = self.broker.log(TopicPartition(topic, partition))
            values = log.read(0, log.end, 10**9)[0].values
            rows += dated_rows(ColumnDecoder(self.registry, schema).decode(values).batch) if len(values) else []
        return rows


def build_journal(application: Path | str, events: Iterable[tuple[str, str, Event]], partition: int = 0) -> JournalBatch:
    """Return the journal that ingestion makes of events, for tests of a fold over it.

    Parameters
    ----------
    events
        (when it became known, stream, event), in the order of time.
    """
    listed = list(events)
    with ApplicationRun(application, listed[0][0] if listed else "2026-01-01") as made:
        for instant, stream, event in listed:
            made.clock.set(instant)
            made.publish(stream, event)
        made.run()
        return made.journal(partition)


def _schema(name: str) -> str:
    return (_SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")


def _json_time(value: object) -> int:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1_000)
    raise TypeError(f"expected what JSON has, or a datetime, got {type(value).__name__}")
