"""The demo: a year of flights through the whole system, judged and audited."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.markup import escape

from tidemill.audit.audit_process import auditing
from tidemill.audit.history import decoded, read_history
from tidemill.demo.figures import DemoRun, faults, figures_of, finite
from tidemill.demo.quality import measure
from tidemill.demo.report import write_report
from tidemill.demo.stretches import LOAD_RATE, measure_load
from tidemill.demo.summary import report_data
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.examples.flights.data import FlightsYear, encode_stream, load_year
from tidemill.examples.flights.oracle import FlightsOracle, SourceTable, compare
from tidemill.replay.feed import EncodedRecords
from tidemill.replay.replay import replay
from tidemill.runs.command_channel import CommandChannel, command_key
from tidemill.runs.first_prediction import FirstPrediction
from tidemill.runs.kafka_clients import connect
from tidemill.runs.pipeline import pipeline_environment, start_services
from tidemill.runs.screen import Screen
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.topics import create_topics
from tidemill.runs.verdict import findings
from tidemill.runs.watch import RunState, Watch, read_out
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.models.artifacts import ArtifactStore

_APPLICATION = Path(__file__).parents[1] / "examples" / "flights"
_MODEL = "late_arrival"
_MEMORY_EVERY_S = 5.0
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


@dataclass(slots=True)
class _Memory:
    """Largest resident memory of this process and its children together, sampled."""

    peak: int = 0
    looked: float = 0.0

    def look(self) -> None:
        now = time.monotonic()
        if now - self.looked < _MEMORY_EVERY_S:
            return
        self.looked, total = now, 0
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, total)


class _Laps:
    """Where the time went: seconds of each part, one after the other."""

    def __init__(self, started: float) -> None:
        self._last = started
        self.seconds: dict[str, float] = {}

    def end(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 1), now


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
    started, settings = time.monotonic(), read_settings()
    plan = load_plan(_APPLICATION)
    memory, killer, laps = _Memory(), _Killer(options.kill), _Laps(started)
    # Servers and services start in processes of their own, so the flights are read meanwhile.
    with ThreadPoolExecutor(max_workers=1) as reading, Infrastructure.from_environment() as infrastructure:
        console.print("Reading the flights of 2013 ...")
        flights = reading.submit(load_year, options.days)
        folder = (options.keep or Path(".tidemill") / "demo" / uuid.uuid4().hex[:8]).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        kafka = settings.kafka_at(infrastructure.bootstrap_servers)
        broker = connect(kafka)
        create_topics(plan, broker)
        registry = ConfluentSchemaRegistry(infrastructure.registry_url)
        laps.end("servers_s")
        console.print(
            "Starting the services. On the first run of a machine they compile their kernels: a minute, more where it is busy ...", soft_wrap=True
        )
        supervisor = start_services(folder, pipeline_environment(_APPLICATION, infrastructure, folder, "replay", settings))
        watch = Watch(plan, kafka, registry)
        first = FirstPrediction(plan, broker, registry, started, console)
        try:
            year = flights.result()
            streams = prepared(plan, registry, year)
            laps.end("reading_s")
            with Screen(year.events, console) as screen:

                def on_progress(instant: int, published: int, seen: RunState) -> None:
                    supervisor.check()
                    killer.strike(supervisor, instant, seen)
                    memory.look()
                    first.look(seen)
                    screen.update(instant, published, seen)

                replay(plan, broker.sink(), streams, watch, 86_400_000, on_progress)
            replayed = time.monotonic() - started
            laps.end("replay_s")
            console.print(f"The year is through after {replayed:.0f} s. Auditing ...")
            seen, restarts = read_out(watch), supervisor.restarts()
            supervisor.stop()
            streams.clear()
            artifacts = ArtifactStore(str(folder / "artifacts"))
            with auditing(_APPLICATION, kafka, infrastructure.registry_url, str(folder / "artifacts")) as audit:
                history = read_history(plan, broker, registry)
                vectors = decoded(registry, plan.vector_schema, history.vectors)
                model = plan.models[_MODEL]
                oracle = compare(FlightsOracle(_APPLICATION, _tables(year)), vectors.to_pandas(), 1_000)
                quality = measure(history, vectors, artifacts, _MODEL, model.kind, model.settings.gate.margins(model.kind.name)[0])
                memory.looked = 0.0
                memory.look()
                audited = audit.result()
            laps.end("audit_s")
            latency = burst = None
            if options.measure_load:
                console.print(f"Measuring at {LOAD_RATE:,} events/s, then at full speed ...")
                # The stretches jump from 2013 to today: no training of a day between.
                CommandChannel(plan.topics.commands, broker, registry, command_key(settings.commands, folder)).send(
                    _MODEL, "pause", "load measurement"
                )
                supervisor = start_services(folder, pipeline_environment(_APPLICATION, infrastructure, folder, "live", settings))
                latency, burst = measure_load(plan, registry, kafka, year, _MODEL)
                memory.looked = 0.0
                memory.look()
                laps.end("load_s")
        finally:
            watch.close()
            supervisor.stop()
    run = DemoRun(year, history, seen, audited, oracle, quality, latency, burst)
    figures = figures_of(plan, run)
    figures |= {
        "peak_rss_mb": round(memory.peak / 2**20),
        "wall_s": round(time.monotonic() - started, 1),
        "replay_s": round(replayed, 1),
        "first_prediction_s": None if first.after_s is None else round(first.after_s, 1),
        "laps": laps.seconds,
        "restarts": restarts,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "demo-report.json").write_text(json.dumps(finite(figures), indent=2) + "\n", encoding="utf-8")
    write_report(options.output, report_data(figures, run))
    problems = findings(plan, seen, requests=len(year.streams[plan.models[_MODEL].ask].raw), allowed=None)
    for finding in problems:
        console.print(f"[yellow]Note:[/yellow] {escape(finding.text)}", highlight=False, soft_wrap=True)
    if wrong := [*faults(figures, year, history), *(finding.text for finding in problems if finding.fails)]:
        raise DemoFailed("; ".join(wrong))
    return figures


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
