"""The demo: a year of flights through the whole system, judged and audited."""

import json
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.markup import escape

from tidemill.audit.audit import AuditResult
from tidemill.audit.audit_process import auditing
from tidemill.audit.history import RunHistory, decoded, read_history
from tidemill.demo.figures import DemoRun, faults, figures_of, finite
from tidemill.demo.open_loop_load import LoadResult
from tidemill.demo.quality import Quality, measure
from tidemill.demo.report import write_report
from tidemill.demo.resources import Laps, Memory
from tidemill.demo.stretches import LOAD_RATE, measure_load
from tidemill.demo.summary import report_data
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.examples.flights.data import FlightsYear, encode_stream, load_year
from tidemill.examples.flights.oracle import FlightsOracle, OracleResult, SourceTable, compare
from tidemill.replay.feed import EncodedRecords
from tidemill.replay.replay import replay
from tidemill.runs.command_channel import CommandChannel, command_key
from tidemill.runs.first_prediction import FirstPrediction
from tidemill.runs.kafka_clients import connect
from tidemill.runs.pipeline import pipeline_environment, start_services
from tidemill.runs.screen import Screen
from tidemill.runs.settings import CommandSettings, read_settings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.topics import create_topics
from tidemill.runs.verdict import findings
from tidemill.runs.watch import RunState, Watch, read_out
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.observability.settings import KafkaSettings

_APPLICATION = Path(__file__).parents[1] / "examples" / "flights"
_MODEL = "late_arrival"
_KILL_EVERY_MS = 3 * 86_400_000


class DemoFailed(RuntimeError):
    """The run ended, but not as it must: says what is wrong."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to run.

    Attributes
    ----------
    days
        Of the year; None for all.
    measure_load
        Whether to measure the open-loop stretches.
    output, keep
        Where the reports go, and where logs, lake and models stay (by default a new folder in ``.tidemill/demo``).
    kill
        Services to end with SIGKILL, one every three days of event time; retraining in the middle of its first training (the supervisor
        starts each again).
    """

    days: int | None = None
    measure_load: bool = True
    output: Path = Path()
    keep: Path | None = None
    kill: tuple[str, ...] = ()


class _Killer:
    """Ends services in mid-run, for tests."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = [name for name in names if name != "retraining"]
        self._trainer = "retraining" in names
        self._next: int | None = None

    def strike(self, supervisor: Supervisor, instant: int, seen: RunState) -> None:
        if self._next is None:
            self._next = instant + _KILL_EVERY_MS
        if self._names and instant >= self._next:
            supervisor.kill(self._names.pop())
            self._next = instant + _KILL_EVERY_MS
        if self._trainer and seen.count(seen.retraining, "started") and not seen.deployments:
            supervisor.kill("retraining")
            self._trainer = False


@dataclass(frozen=True, slots=True)
class _Servers:
    """What a demo runs on: the servers, its folder, and clients."""

    plan: Plan
    infrastructure: Infrastructure
    settings: CommandSettings
    folder: Path
    kafka: KafkaSettings
    broker: Broker
    registry: SchemaRegistry

    @classmethod
    def of(cls, plan: Plan, infrastructure: Infrastructure, settings: CommandSettings, keep: Path | None) -> Self:
        """Make the folder and the topics."""
        folder = (keep or Path(".tidemill") / "demo" / uuid.uuid4().hex[:8]).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        kafka = settings.kafka_at(infrastructure.bootstrap_servers)
        broker = connect(kafka)
        create_topics(plan, broker)
        return cls(plan, infrastructure, settings, folder, kafka, broker, ConfluentSchemaRegistry(infrastructure.registry_url))

    @property
    def artifacts(self) -> str:
        """Where the models are."""
        return str(self.folder / "artifacts")

    def start(self, clock: str) -> Supervisor:
        """Start the services."""
        return start_services(self.folder, pipeline_environment(_APPLICATION, self.infrastructure, self.folder, clock, self.settings))


@dataclass(frozen=True, slots=True)
class _Replayed:
    """The year, and what was seen while it went through."""

    year: FlightsYear
    seen: RunState
    restarts: dict[str, int]
    seconds: float
    first_prediction_s: float | None


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run everything; returns what stands in ``demo-report.json``.

    Raises
    ------
    DemoFailed
        An answer was lost or came twice, a bad record is not accounted for or was set aside, every training failed, or the audit found a
        difference.
    SettingsError
        The environment asks for something that does not exist.
    """
    started, settings, plan = time.monotonic(), read_settings(), load_plan(_APPLICATION)
    memory, laps = Memory(), Laps(started)
    # Servers and services start in processes of their own, so the flights are read meanwhile.
    with ThreadPoolExecutor(max_workers=1) as reading, Infrastructure.from_environment() as infrastructure:
        console.print("Reading the flights of 2013 ...")
        flights = reading.submit(load_year, options.days)
        servers = _Servers.of(plan, infrastructure, settings, options.keep)
        laps.end("servers_s")
        replayed = _replay(servers, flights, _Killer(options.kill), memory, laps, console)
        history, audited, oracle, quality = _audit(servers, replayed.year, memory)
        laps.end("audit_s")
        latency = burst = None
        if options.measure_load:
            console.print(f"Measuring at {LOAD_RATE:,} events/s, then at full speed ...")
            latency, burst = _measure_load(servers, replayed.year, memory)
            laps.end("load_s")
    run = DemoRun(replayed.year, history, replayed.seen, audited, oracle, quality, latency, burst)
    figures = figures_of(plan, run) | {
        "peak_rss_mb": round(memory.peak / 2**20),
        "wall_s": round(time.monotonic() - started, 1),
        "replay_s": round(replayed.seconds, 1),
        "first_prediction_s": None if replayed.first_prediction_s is None else round(replayed.first_prediction_s, 1),
        "laps": laps.seconds,
        "restarts": replayed.restarts,
    }
    _write(options.output, figures, run)
    _judge(plan, figures, run, console)
    return figures


def _replay(servers: _Servers, flights: Future[FlightsYear], killer: _Killer, memory: Memory, laps: Laps, console: Console) -> _Replayed:
    """Start the services and give them the year."""
    console.print(
        "Starting the services. On the first run of a machine they compile their kernels: a minute, more where it is busy ...", soft_wrap=True
    )
    supervisor = servers.start("replay")
    watch = Watch(servers.plan, servers.kafka, servers.registry)
    first = FirstPrediction(servers.plan, servers.broker, servers.registry, laps.started, console)
    try:
        year = flights.result()
        streams = prepared(servers.plan, servers.registry, year)
        laps.end("reading_s")
        with Screen(year.events, console) as screen:

            def on_progress(instant: int, published: int, seen: RunState) -> None:
                supervisor.check()
                killer.strike(supervisor, instant, seen)
                memory.look()
                first.look(seen)
                screen.update(instant, published, seen)

            replay(servers.plan, servers.broker.sink(), streams, watch, 86_400_000, on_progress)
        seconds = time.monotonic() - laps.started
        laps.end("replay_s")
        console.print(f"The year is through after {seconds:.0f} s. Auditing ...")
        return _Replayed(year, read_out(watch), supervisor.restarts(), seconds, first.after_s)
    finally:
        watch.close()
        supervisor.stop()


def _audit(servers: _Servers, year: FlightsYear, memory: Memory) -> tuple[RunHistory, AuditResult, OracleResult, Quality | None]:
    """Hold the run against its own recomputation and against pandas, and measure its answers."""
    plan, registry, model = servers.plan, servers.registry, servers.plan.models[_MODEL]
    with auditing(_APPLICATION, servers.kafka, servers.infrastructure.registry_url, servers.artifacts) as audit:
        history = read_history(plan, servers.broker, registry)
        vectors = decoded(registry, plan.vector_schema, history.vectors)
        oracle = compare(FlightsOracle(_APPLICATION, _tables(year)), vectors.to_pandas(), 1_000)
        margin = model.settings.gate.margins(model.kind.name)[0]
        quality = measure(history, vectors, ArtifactStore(servers.artifacts), _MODEL, model.kind, margin)
        memory.look_now()
        return history, audit.result(), oracle, quality


def _measure_load(servers: _Servers, year: FlightsYear, memory: Memory) -> tuple[LoadResult, LoadResult]:
    """Start the services again, on the wall clock, and measure latency and throughput."""
    # The stretches jump from 2013 to today: no training of a day between.
    key = command_key(servers.settings.commands, servers.folder)
    CommandChannel(servers.plan.topics.commands, servers.broker, servers.registry, key).send(_MODEL, "pause", "load measurement")
    supervisor = servers.start("live")
    try:
        return measure_load(servers.plan, servers.registry, servers.kafka, year, _MODEL)
    finally:
        memory.look_now()
        supervisor.stop()


def _write(folder: Path, figures: dict[str, Any], run: DemoRun) -> None:
    """Write the figures as JSON and the report as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo-report.json").write_text(json.dumps(finite(figures), indent=2) + "\n", encoding="utf-8")
    write_report(folder, report_data(figures, run))


def _judge(plan: Plan, figures: dict[str, Any], run: DemoRun, console: Console) -> None:
    """Say what a reader should know of the run; raise DemoFailed where it did not end as it must."""
    problems = findings(plan, run.seen, requests=len(run.year.streams[plan.models[_MODEL].ask].raw), allowed=None)
    for finding in problems:
        console.print(f"[yellow]Note:[/yellow] {escape(finding.text)}", highlight=False, soft_wrap=True)
    if wrong := [*faults(figures, run.year, run.history), *(finding.text for finding in problems if finding.fails)]:
        raise DemoFailed("; ".join(wrong))


def prepared(plan: Plan, registry: SchemaRegistry, year: FlightsYear) -> list[EncodedRecords]:
    """Encode what is published."""
    feeds = []
    for name, published in year.streams.items():
        stream = plan.streams[name]
        keys = [str(key).encode() for key in published.frame[stream.key if stream.is_reference else plan.application.partition_by]]
        feeds.append(EncodedRecords(stream.topic, keys, encode_stream(plan, registry, name, published), published.available_ms))
    return feeds


def _tables(year: FlightsYear) -> dict[str, SourceTable]:
    """Return what was published and can be read: for the oracle."""
    tables = {}
    for name, published in year.streams.items():
        whole = np.array([raw is None for raw in published.raw])
        tables[name] = SourceTable(published.frame[whole].reset_index(drop=True), published.available_ms[whole])
    return tables
