"""CPU microseconds per event of every part of the prediction path, on records in memory and on real Kafka.

    python -m benchmarks.profile_stages                 # table on the screen
    python -m benchmarks.profile_stages --write         # and into docs/reference/budget.md
    python -m benchmarks.profile_stages --only memory --sizes 100 1000

The application and its events are those of W5 (`make bench`): string ids, 14 features of one entity, a LightGBM of 100 trees. Each stage runs by
itself, in this process, with at most so many records per step (and per transaction), then all three as one (fused). In memory a part's time is that
of all threads; on Kafka that of the main thread, with the rest (librdkafka's and polars' threads) in a part of its own. The broker's time is not
counted.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fraud_model import MODEL, promotion, train
from benchmarks.oracle import expected_vectors
from benchmarks.payment_stream import EncodedPayments, encode, generate
from benchmarks.stopwatch import Stopwatch
from benchmarks.suite import processor
from benchmarks.tidemill import copy_application
from benchmarks.tidemill_cells import FEATURES
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.features.online import OnlineWriter
from tidemill.services.features.service import build as build_features
from tidemill.services.features.task import FeaturesTask
from tidemill.services.fused.service import build as build_fused
from tidemill.services.ingestion.domain.core import IngestionCore
from tidemill.services.ingestion.outputs import IngestionOutputs
from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.services.ingestion.service import build as build_ingestion
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.ingestion.task import IngestionTask
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.service import build as build_scoring
from tidemill.services.scoring.task import ScoringTask
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, MemorySchemaRegistry, SchemaRegistry
from tidemill.shared.kafka import source as kafka_source
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.kafka.source import KafkaSource
from tidemill.shared.log.broker import Broker, TopicSpec
from tidemill.shared.log.records import Emission, Records, TopicPartition
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.merge.merge import Merge
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.observability.settings import KafkaSettings, RedisSettings, RegistrySettings, RunnerSettings
from tidemill.shared.runner.progress import Progress
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.task import StepContext
from tidemill.shared.service.service_process import tune_collector
from tidemill.shared.service.stage import FUSED

ROOT = Path(__file__).parents[1]
BUDGET = ROOT / "docs" / "reference" / "budget.md"
SIZES = (10, 100, 1_000, 5_000)
STAGES = ("ingestion", "features", "scoring")
_TRAINING_EVENTS = 20_000
_SETTLE_S = 2.0
Table = dict[str, dict[int, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", choices=("memory", "kafka"))
    parser.add_argument("--steps", type=int, default=40, help="steps measured per size")
    parser.add_argument("--write", action="store_true", help="rewrite docs/reference/budget.md")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    tables: dict[str, Table] = {}
    tune_collector()
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "kafka":
            tables |= in_memory(Path(folder), options.sizes, options.steps)
        if options.only != "memory":
            tables |= on_kafka(Path(folder), options.sizes, options.steps)
    text = report(tables, options.sizes)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    if options.write:
        head, _, _ = BUDGET.read_text(encoding="utf-8").partition("<!-- measured -->")
        BUDGET.write_text(f"{head}<!-- measured -->\n\n{text}", encoding="utf-8")


def wrap_parts(watch: Stopwatch) -> None:
    """Name the parts of the three stages."""
    watch.wrap(IngestionTask, "process", "ingestion: rest of the task")
    watch.wrap(RawDecoder, "decode", "ingestion: decode")
    watch.wrap(IngestionCore, "clean", "ingestion: derive, expect, keys")
    watch.wrap(IngestionCore, "add", "ingestion: merge, dedup, sequence")
    watch.wrap(IngestionCore, "release", "ingestion: merge, dedup, sequence")
    watch.wrap(IngestionOutputs, "emissions", "ingestion: encode")
    watch.wrap(FeaturesTask, "process", "features: rest of the task")
    watch.wrap(FeaturesTask, "checkpoint", "features: checkpoint")
    watch.wrap(FeaturesTask, "committed", "features: online store")
    watch.wrap(JournalDecoder, "decode", "features: decode")
    watch.wrap(FeaturesCore, "process", "features: engine")
    watch.wrap(OnlineWriter, "flush", "features: online store")
    watch.wrap(ScoringTask, "process", "scoring: rest of the task")
    watch.wrap(ScoringTask, "read", "scoring: decode, merge")
    watch.wrap(Merge, "release", "scoring: decode, merge")
    watch.wrap(ScoringCore, "process", "scoring: models")


def in_memory(folder: Path, sizes: Sequence[int], steps: int) -> dict[str, Table]:
    """Drive the three tasks with records in memory, one after the other, each step's outputs the next one's inputs."""
    registry = MemorySchemaRegistry()
    plan = load_plan(copy_application(folder / "memory", "W5", "budget-memory", "budget-memory-payments"))
    store = ArtifactStore(str(folder / "artifacts"))
    artifact = fraud_model(plan)
    watch = Stopwatch(time.process_time_ns)
    wrap_parts(watch)
    tables: dict[str, Table] = {f"{stage}, records in memory": {} for stage in STAGES}
    try:
        for size in sizes:
            chain = _Chain(plan, registry, store)
            chain.deploy(promotion(plan, artifact, store, registry))
            warm = max(3, 2_000 // size)
            events = encode(generate((warm + steps) * size), registry)
            for step in range(warm + steps):
                if step == warm:
                    watch.reset()
                span = slice(step * size, (step + 1) * size)
                chain.step(events.keys[span], events.values[span], np.array(events.timestamps_ms[span]), step * size)
            _collect(tables, watch, size, steps * size, "records in memory")
    finally:
        watch.unwrap()
    return tables


class _Chain:
    """The three tasks of one partition."""

    def __init__(self, plan: Plan, registry: SchemaRegistry, store: ArtifactStore) -> None:
        self._plan = plan
        self._ingestion = IngestionTask(plan, registry, 0, "live")
        self._features = FeaturesTask(plan, registry, 0)
        self._scoring = ScoringTask(plan, registry, store, 0)
        self._ends = {plan.topics.journal: 0, plan.topics.vectors: 0}
        topics = [stream.topic for stream in plan.streams.values()]
        self._caught_up = frozenset(TopicPartition(topic, 0) for topic in topics)

    def deploy(self, records: list[bytes]) -> None:
        n = len(records)
        log = Records(self._plan.topics.deployments, 0, np.arange(n), np.zeros(n, np.int64), [MODEL.encode()] * n, records)
        self._scoring.process([log], StepContext(0))

    def step(self, keys: list[bytes], values: list[bytes], times: Any, first: int) -> None:
        n = len(values)
        context = StepContext(int(times.max()), self._caught_up)
        raw = Records(self._plan.streams["payments"].topic, 0, np.arange(first, first + n), np.asarray(times), keys, values)
        journal = self._records(self._ingestion.process([raw], context).emissions)
        vectors = self._records(self._features.process(journal, context).emissions)
        answers = self._scoring.process(vectors, context)
        assert sum(map(len, answers.emissions)) == n

    def _records(self, emissions: Sequence[Emission]) -> list[Records]:
        records = []
        for emission in emissions:
            if emission.topic in self._ends:
                begin, n = self._ends[emission.topic], len(emission)
                times = emission.timestamps_ms if emission.timestamps_ms is not None else np.zeros(n, np.int64)
                records.append(Records(emission.topic, 0, np.arange(begin, begin + n), times, emission.keys, emission.values))
                self._ends[emission.topic] += n
        return records


def on_kafka(folder: Path, sizes: Sequence[int], steps: int) -> dict[str, Table]:
    """Run the three services on an embedded broker, one after the other, then the one that is all three."""
    tables: dict[str, Table] = {f"{stage}, Kafka": {} for stage in (*STAGES, FUSED)}
    with Infrastructure.from_environment() as servers:
        broker = KafkaBroker(servers.bootstrap_servers)
        registry = ConfluentSchemaRegistry(servers.registry_url)
        for size in sizes:
            warm = max(5, 2_000 // size)
            count = (warm + steps) * size
            events = encode(generate(count), registry)
            for stages in (STAGES, (FUSED,)):
                app = f"budget-{stages[-1]}-{size}"
                application = copy_application(folder / app, "W5", app, f"{app}-payments")
                plan = load_plan(application)
                broker.create_topics([*catalogue_topics(app, 1), *(TopicSpec(topic) for topic in plan.topics.raw)])
                _deploy(broker, registry, plan, ArtifactStore(str(folder / "artifacts")))
                settings = _settings(application, servers, folder, size)
                for stage in stages:
                    _run_stage(tables, stage, plan, settings, broker, registry, events if stage == stages[0] else None, warm * size, count, size)
    return tables


def fraud_model(plan: Plan) -> Artifact:
    """Train W5's model."""
    expected = expected_vectors(generate(_TRAINING_EVENTS))
    return train(plan, {name: expected[oracle] for name, oracle in FEATURES.items()})


def _settings(application: Path, servers: Infrastructure, folder: Path, size: int) -> IngestionSettings:
    return IngestionSettings(
        application=application,
        kafka=KafkaSettings(bootstrap_servers=servers.bootstrap_servers),
        registry=RegistrySettings(url=servers.registry_url),
        redis=RedisSettings(url=servers.redis_url),
        artifacts={"uri": str(folder / "artifacts")},
        runner=RunnerSettings(max_batch=size, state_folder=folder / "state"),
    )


def _deploy(broker: Broker, registry: SchemaRegistry, plan: Plan, store: ArtifactStore) -> None:
    sink = broker.sink()
    for record in promotion(plan, fraud_model(plan), store, registry):
        sink.publish(plan.topics.deployments, MODEL.encode(), record, 0, 0)
    sink.close()


def _run_stage(
    tables: dict[str, Table],
    stage: str,
    plan: Plan,
    settings: IngestionSettings,
    broker: Broker,
    registry: SchemaRegistry,
    events: EncodedPayments | None,
    warm: int,
    count: int,
    size: int,
) -> None:
    watch = Stopwatch(time.thread_time_ns)
    builds: dict[str, Callable[..., Runner]] = {
        "ingestion": build_ingestion, "features": build_features, "scoring": build_scoring, FUSED: build_fused
    }  # fmt: skip
    outputs = {"features": plan.topics.vectors, "scoring": plan.topics.predictions}
    wrap_parts(watch)
    watch.wrap(KafkaSource, "consume", "runner: consume")
    watch.wrap(kafka_source, "to_columns", "runner: messages to columns")
    watch.wrap(KafkaTransactionalSink, "begin", "runner: begin, offsets, commit")
    watch.wrap(KafkaTransactionalSink, "send_offsets", "runner: begin, offsets, commit")
    watch.wrap(KafkaTransactionalSink, "commit", "runner: begin, offsets, commit")
    watch.wrap(KafkaTransactionalSink, "produce", "runner: produce")
    watch.wrap(RunningTask, "process", "runner: rest of the step")
    watch.wrap(Progress, "encode", "runner: progress record")
    watch.wrap(Runner, "step", "runner: rest of the step")
    runner = builds[stage](settings, broker, registry)
    try:
        if events is not None:
            times = np.array(events.timestamps_ms)
            _publish_when_idle(runner, broker, Emission(plan.streams["payments"].topic, 0, events.keys, events.values, times))
        began = None
        deadline = time.monotonic() + 300
        done = 0
        while done < count:
            runner.step()
            assert time.monotonic() < deadline, f"{stage}: {done} of {count} after 300 s"
            done = runner.tasks[0].progress.outputs.get(outputs.get(stage, plan.topics.journal), 0) if runner.tasks else 0
            if began is None and done >= warm:
                began = (done, time.process_time_ns(), time.perf_counter_ns())
                watch.reset()
        assert began is not None
        counted = done - began[0]
        threads = time.process_time_ns() - began[1] - sum(watch.ns.values())
        watch.ns[f"{stage}: other threads (librdkafka, polars)"] = threads
        seconds = (time.perf_counter_ns() - began[2]) / 1e9
        _collect(tables, watch, size, counted, "Kafka", stage)
        tables[f"{stage}, Kafka"].setdefault("wall, events/s", {})[size] = counted / seconds
    finally:
        watch.unwrap()
        runner.close()


def _publish_when_idle(runner: Runner, broker: Broker, raw: Emission) -> None:
    """Ingestion holds records back until it knows that its other topics are at their end: only then do steps have the size that is asked for."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        runner.step()
    sink = broker.sink()
    sink.publish_run(raw)
    sink.close()


def _collect(tables: dict[str, Table], watch: Stopwatch, size: int, events: int, where: str, stage: str | None = None) -> None:
    for part, ns in watch.ns.items():
        owner, _, name = part.partition(": ")
        table = tables[f"{stage or owner}, {where}"]
        label = name if owner == stage or stage is None else part
        table.setdefault(label, {})[size] = ns / events / 1e3
    for name in [stage] if stage else STAGES:
        table = tables[f"{name}, {where}"]
        table.setdefault("all", {})[size] = sum(values.get(size, 0.0) for part, values in table.items() if part not in ("all", "wall, events/s"))


def report(tables: Mapping[str, Table], sizes: Sequence[int]) -> str:
    """Return the tables as markdown."""
    lines = [
        f"Measured on {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; load average {os.getloadavg()[0]:.1f}.",
        "",
    ]
    for title, table in tables.items():
        lines += [f"### {title[0].upper()}{title[1:]}", "", "CPU microseconds per event at records per step:", ""]
        lines += ["| part | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---|" + "---:|" * len(sizes)]
        parts = [part for part in table if part not in ("all", "wall, events/s")]
        parts.sort(key=lambda part: -table[part].get(max(sizes), 0.0))
        for part in [*parts, "all", "wall, events/s"]:
            if part in table:
                shape = "{:,.0f}" if part.startswith("wall") else "{:.2f}"
                lines.append(f"| {part} | " + " | ".join(shape.format(table[part].get(size, 0.0)) for size in sizes) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
