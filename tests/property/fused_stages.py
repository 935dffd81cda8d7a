"""Ingestion, features and scoring of the flights application on a broker in memory, one by one or fused, and what they wrote."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from tidemill.services.features.task import FeaturesTask
from tidemill.services.features.task import task_inputs as features_inputs
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.ingestion.task import task_inputs as ingestion_inputs
from tidemill.services.scoring.task import ScoringTask
from tidemill.services.scoring.task import task_inputs as scoring_inputs
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import Broker, TopicSpec
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import Stage
from tidemill.shared.service.stage import FUSIBLE, chain_runner

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "flights"
PLAN = load_plan(FOLDER)
NOON = 1_358_424_000_000
STREAMS = ("departures", "arrivals", "weather")
OUTPUTS = (PLAN.topics.journal, PLAN.topics.vectors, PLAN.topics.predictions, PLAN.topics.rejected, PLAN.topics.duplicates, PLAN.topics.late)


def departure(i: int, **changes: object) -> bytes:
    event = {
        "flight_id": f"f{i}", "scheduled_departure": NOON + i * 1_000, "carrier": "UA", "flight": i, "tailnum": f"N{i % 5}", "origin": "EWR",
        "dest": f"D{i % 3}", "distance": 1400.0, "sched_block_min": 240.0, "local_minute": 315, "weekday": 1, "plane_year": None, "seats": 149.0,
        **changes,
    }  # fmt: skip
    return json.dumps(event).encode()


def arrival(i: int) -> bytes:
    event = {
        "flight_id": f"f{i}",
        "actual_arrival": NOON + i * 1_500,
        "carrier": "UA",
        "origin": "EWR",
        "dest": f"D{i % 3}",
        "arr_delay": float(i % 40),
    }
    return json.dumps(event).encode()


class System:
    """A broker in memory with the application's topics and `count` departures, some of them bad, twice or answered by an arrival."""

    def __init__(self, folder: Path, count: int, crash: str = "") -> None:
        self.broker = MemoryBroker()
        self.registry = MemorySchemaRegistry()
        self._folder = folder
        self._store = ArtifactStore(str(folder / "artifacts"))
        self._crash = crash
        self.broker.create_topics([*catalogue_topics("flights", 1), *(TopicSpec(topic) for topic in PLAN.topics.raw)])
        sink = self.broker.sink()
        for i in range(count):
            at = NOON + i * 1_000
            value = b"garbage" if i % 11 == 5 else departure(i - 1 if i % 13 == 7 else i)
            sink.publish(PLAN.streams["departures"].topic, f"f{i}".encode(), value, at, 0)
            if i % 2:
                sink.publish(PLAN.streams["arrivals"].topic, f"f{i}".encode(), arrival(i), at + 500, 0)
        for stream in STREAMS:
            sink.publish(PLAN.streams[stream].topic, HEARTBEAT_KEY, None, NOON + count * 1_000, 0)

    def runner(self, stages: tuple[str, ...], broker: Broker | None = None, instance: str = "0", **changes: Any) -> Runner:
        """Make the runner of some stages."""
        tasks = {
            "ingestion": Stage("ingestion", ingestion_inputs(PLAN), lambda p: IngestionTask(PLAN, self.registry, p, "replay")),
            "features": Stage("features", features_inputs(PLAN), self._features),
            "scoring": Stage("scoring", scoring_inputs(PLAN), lambda p: ScoringTask(PLAN, self.registry, self._store, p)),
        }
        quick: dict[str, Any] = {
            "commit_interval_ms": 1,
            "idle_interval_ms": 1,
            "checkpoint_interval_ms": 0,
            "checkpoint_bytes": 2_000,
            "max_batch": 7,
        }
        settings = ServiceSettings(
            application=FOLDER,
            instance=instance,
            runner=RunnerSettings(**{**quick, "backoff_initial_ms": 0, "state_folder": self._folder / "state", **changes}),
        )
        return chain_runner([tasks[stage] for stage in stages], PLAN, settings, broker or self.broker, self.registry)

    def _features(self, partition: int) -> FeaturesTask:
        task = FeaturesTask(PLAN, self.registry, partition)
        if self._crash:
            process = task.process

            def process_or_crash(inputs: Any, context: Any) -> Any:
                for records in inputs:
                    if self._crash.encode() in records.keys:
                        raise ZeroDivisionError("poison")
                return process(inputs, context)

            task.process = process_or_crash  # type: ignore[method-assign]  # the fault is planted here
        return task

    def finish(self, *runners: Runner) -> None:
        """Step until the last stage has covered the heartbeat."""
        for _ in range(3_000):
            for runner in runners:
                runner.step()
            if self.covered() >= self._end():
                return
        raise AssertionError(f"not finished: scoring has covered {self.covered()} of {self._end()}")

    def _end(self) -> int:
        return self.broker.log(TopicPartition(PLAN.streams["departures"].topic, 0)).entries[-1].timestamp_ms - 1

    def covered(self) -> int:
        return min(one.covered_time if one else -1 for one in map(self.progress, FUSIBLE))

    def progress(self, stage: str) -> Progress | None:
        """Return the last progress record of a stage."""
        records = self.read(PLAN.topics.progress(stage))
        values = [value for value in records.values if value is not None]
        return Progress.decode(values[-1], self._progress_codec) if values else None

    @cached_property
    def _progress_codec(self) -> RecordCodec:
        return RecordCodec(self.registry, "p", (ROOT / "schemas" / "progress.avsc").read_text())

    def read(self, topic: str) -> Records:
        """Everything committed."""
        log = self.broker.log(TopicPartition(topic, 0))
        return log.read(0, log.end, 10**9)[0]

    def written(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        """Keys and values."""
        records = self.read(topic)
        return list(zip(records.keys, records.values, strict=True))

    def rows(self, topic: str, schema: str) -> list[dict[str, Any]]:
        """Decoded records of one schema."""
        rows: list[dict[str, Any]] = ColumnDecoder(self.registry, schema).decode(self.read(topic).values).batch.to_pylist()
        return rows
