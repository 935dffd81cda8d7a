"""The demo: a year of flights through the whole system, judged and audited."""

import dataclasses
import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from confluent_kafka import Producer
from rich.console import Console

from deploy.embedded.infrastructure import Infrastructure
from services.cli.audit import AuditResult
from services.cli.audit_process import auditing
from services.cli.flights import FlightsYear, encode_stream, load_year
from services.cli.history import History, decoded, read_history
from services.cli.load import LoadResult, run_load, stamp_requests
from services.cli.oracle import FlightsOracle, OracleResult, SourceTable, compare
from services.cli.pipeline import create_topics, pipeline_environment, start_services
from services.cli.quality import WEEK_MS, Quality, measure
from services.cli.replay import Prepared, replay
from services.cli.report import Mark, ReportData, Table, write_report
from services.cli.screen import Screen
from services.cli.supervisor import Supervisor
from services.cli.watch import Seen, Watch, record_codec
from shared.application.plan import Plan
from shared.application.planning import load_plan
from shared.avro.columns import ColumnEncoder
from shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from shared.models.artifacts import ArtifactStore

_APPLICATION = Path(__file__).parents[2] / "examples" / "flights"
_MODEL = "late_arrival"
_LOAD_RATE, _LOAD_SECONDS = 1_000, 20
_BURST_RATE, _BURST_EVENTS = 30_000, 120_000
_WARM_UP = 3_000
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

    def strike(self, supervisor: Supervisor, instant: int, seen: Seen) -> None:
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


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run everything; returns what stands in ``demo-report.json``.

    Raises
    ------
    DemoFailed
        An answer was lost or came twice, a bad record is not accounted for, or the audit found a difference.
    """
    started = time.monotonic()
    plan = load_plan(_APPLICATION)
    console.print("Reading the flights of 2013 ...")
    year = load_year(options.days)
    memory, killer = _Memory(), _Killer(options.kill)
    with Infrastructure.from_environment() as infrastructure:
        folder = (options.keep or Path(".tidemill") / "demo" / uuid.uuid4().hex[:8]).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        broker = create_topics(plan, infrastructure)
        registry = ConfluentSchemaRegistry(infrastructure.registry_url)
        streams = prepared(plan, registry, year)
        supervisor = start_services(folder, pipeline_environment(_APPLICATION, infrastructure, folder, "replay"))
        watch = Watch(plan, infrastructure.bootstrap_servers, registry)
        try:
            with Screen(year.events, console) as screen:

                def on_progress(instant: int, published: int, seen: Seen) -> None:
                    supervisor.check()
                    killer.strike(supervisor, instant, seen)
                    memory.look()
                    screen.update(instant, published, seen)

                replay(plan, infrastructure.bootstrap_servers, streams, watch, 86_400_000, on_progress)
            replayed = time.monotonic() - started
            console.print(f"The year is through after {replayed:.0f} s. Auditing ...")
            seen, restarts = watch.poll(), supervisor.restarts()
            supervisor.stop()
            streams.clear()
            artifacts = ArtifactStore(str(folder / "artifacts"))
            with auditing(_APPLICATION, infrastructure.bootstrap_servers, infrastructure.registry_url, str(folder / "artifacts")) as audit:
                history = read_history(plan, broker, registry)
                vectors = decoded(registry, plan.vector_schema, history.vectors)
                oracle = compare(FlightsOracle(_APPLICATION, _tables(year)), vectors.to_pandas(), 1_000)
                quality = measure(history, vectors, artifacts, _MODEL)
                memory.looked = 0.0
                memory.look()
                audited = audit.result()
            latency = burst = None
            if options.measure_load:
                console.print(f"Measuring at {_LOAD_RATE:,} events/s, then at full speed ...")
                _pause(plan, registry, infrastructure.bootstrap_servers)
                supervisor = start_services(folder, pipeline_environment(_APPLICATION, infrastructure, folder, "live"))
                latency, burst = _stretches(plan, registry, infrastructure, year)
                memory.looked = 0.0
                memory.look()
        finally:
            watch.close()
            supervisor.stop()
    figures = _figures(plan, year, history, seen, audited, oracle, quality, latency, burst)
    figures |= {
        "peak_rss_mb": round(memory.peak / 2**20),
        "wall_s": round(time.monotonic() - started, 1),
        "replay_s": round(replayed, 1),
        "restarts": restarts,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "demo-report.json").write_text(json.dumps(_finite(figures), indent=2) + "\n", encoding="utf-8")
    write_report(options.output, _report(plan, figures, history, seen, quality, latency, year))
    _check(figures, year, history)
    return figures


def prepared(plan: Plan, registry: SchemaRegistry, year: FlightsYear) -> list[Prepared]:
    """Encode what is published."""
    found = []
    for name, published in year.streams.items():
        stream = plan.streams[name]
        keys = [str(key).encode() for key in published.frame[stream.key if stream.is_reference else plan.application.partition_by]]
        found.append(Prepared(stream.topic, keys, encode_stream(plan, registry, name, published), published.available_ms))
    return found


def _tables(year: FlightsYear) -> dict[str, SourceTable]:
    """Return what was published and can be read: for the oracle."""
    tables = {}
    for name, published in year.streams.items():
        whole = np.array([raw is None for raw in published.raw])
        tables[name] = SourceTable(published.frame[whole].reset_index(drop=True), published.available_ms[whole])
    return tables


def _pause(plan: Plan, registry: SchemaRegistry, bootstrap_servers: str) -> None:
    """Ask control to start no training: the stretches jump from 2013 to today."""
    codec = record_codec(registry, plan.topics.commands, "Command")
    command = {"command_id": uuid.uuid4().hex, "model": _MODEL, "command": "pause", "reason": "load measurement", "issued_at": int(time.time() * 1e3)}
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(plan.topics.commands, codec.encode(command), _MODEL.encode())
    if producer.flush(30):
        raise TimeoutError("the broker did not take the command within 30 s")


def _stretches(plan: Plan, registry: SchemaRegistry, infrastructure: Infrastructure, year: FlightsYear) -> tuple[LoadResult, LoadResult]:
    stream = plan.streams[plan.models[_MODEL].ask]
    published = year.streams[stream.name]
    rows = published.frame[[raw is None for raw in published.raw]]
    rows = rows[(rows["distance"] > 0) & rows["carrier"].notna()].tail(20_000)
    record = json.loads(stream.user_schema)
    encoder = ColumnEncoder(registry, f"{stream.topic}-{record['namespace']}.{record['name']}", stream.user_schema)

    def stretch(name: str, count: int, rate: float) -> LoadResult:
        chosen = rows.iloc[np.arange(count) % len(rows)]
        arrays = [
            pa.array(chosen[field.name].to_numpy(np.int64)).cast(field.type)
            if pa.types.is_timestamp(field.type)
            else pa.Array.from_pandas(chosen[field.name], type=field.type)
            for field in stream.user_arrow
        ]
        batch = stamp_requests(
            pa.RecordBatch.from_arrays(arrays, schema=stream.user_arrow), name, str(stream.event_id), stream.event_time, int(time.time() * 1e3)
        )
        keys = [key.encode() for key in batch.column(str(stream.event_id)).to_pylist()]
        topics, partitions = plan.topics, plan.application.partitions
        return run_load(infrastructure.bootstrap_servers, stream.topic, topics.predictions, partitions, keys, encoder.encode(batch), rate)

    unique = uuid.uuid4().hex[:6]
    stretch(f"warm-{unique}", _WARM_UP, _LOAD_RATE)
    latency = stretch(f"steady-{unique}", _LOAD_RATE * _LOAD_SECONDS, _LOAD_RATE)
    return latency, stretch(f"burst-{unique}", _BURST_EVENTS, _BURST_RATE)


def _figures(
    plan: Plan,
    year: FlightsYear,
    history: History,
    seen: Seen,
    audited: AuditResult,
    oracle: OracleResult,
    quality: Quality | None,
    latency: LoadResult | None,
    burst: LoadResult | None,
) -> dict[str, Any]:
    vectors = sum(len(records) for runs in history.vectors.values() for records in runs)
    answers = Counter(key for runs in history.predictions.values() for records in runs for key in records.keys)
    statuses = Counter(history.outcomes.column("status").to_pylist())
    absent = {"auc": None, "kappa": None, "log_loss": None, "accuracy": None}
    return {
        "events_in": history.raw,
        "accepted": history.accepted,
        "rejected": sum(history.rejected.values()),
        "rejected_by_reason": dict(history.rejected),
        "duplicates_dropped": history.duplicates,
        "late": history.late,
        "planted": dict(year.planted),
        "predictions": sum(answers.values()),
        "predictions_lost": vectors - len(answers),
        "predictions_duplicated": sum(answers.values()) - len(answers),
        "outcomes": sum(statuses.values()),
        "timeouts": statuses.get("timeout", 0),
        "drift_events": len(seen.drift),
        "retrains": seen.count(seen.retraining, "started"),
        "promotions": seen.count(seen.deployments, "promoted"),
        "refusals": seen.count(seen.deployments, "gate_refused"),
        "rollbacks": seen.count(seen.deployments, "rolled_back"),
        "served": dict(quality.served) if quality else absent,
        "static": dict(quality.static) if quality else absent,
        "gap": {"auc": quality.gap.estimate, "low": quality.gap.low, "high": quality.gap.high} if quality else None,
        "judged_rows": quality.rows if quality else 0,
        "throughput_events_per_s": round(burst.events_per_s) if burst else None,
        "latency_ms": {"p50": round(latency.percentile(50), 1), "p99": round(latency.percentile(99), 1)} if latency else None,
        "audit": {
            **{name: value for name, value in dataclasses.asdict(audited).items() if name != "examples"},
            "future_records": oracle.future_records,
            "oracle_values": oracle.values,
            "oracle_mismatches": oracle.mismatches,
            "oracle_misplaced": oracle.misplaced,
            "oracle_sensitive_values": oracle.sensitive_values,
            "examples": [*audited.examples, *oracle.examples],
        },
        "application_hash": plan.application_hash,
    }


def _check(figures: Mapping[str, Any], year: FlightsYear, history: History) -> None:
    """Raise DemoFailed naming everything that must not be."""
    planted = year.planted
    wrong = [f"{name} is {figures[name]}" for name in ("predictions_lost", "predictions_duplicated") if figures[name]]
    checks = figures["audit"]
    zero = ("vector_mismatches", "prediction_mismatches", "switches_back", "future_records", "oracle_mismatches", "oracle_misplaced")
    wrong += [f"audit.{name} is {checks[name]}" for name in zero if checks[name]]
    if history.accepted + sum(history.rejected.values()) + history.duplicates != history.raw:
        wrong.append(f"accepted + rejected + duplicate is not raw: {history.accepted}, {history.rejected}, {history.duplicates}, {history.raw}")
    expected = {reason.removeprefix("rejected:"): count for reason, count in planted.items() if reason.startswith("rejected:")}
    if expected != dict(history.rejected):
        wrong.append(f"expected the dead letters {expected}, found {dict(history.rejected)}")
    if history.duplicates != planted["duplicate"] or history.late != planted["late"]:
        wrong.append(f"expected {planted['duplicate']} duplicates and {planted['late']} late, found {history.duplicates} and {history.late}")
    if wrong:
        raise DemoFailed("; ".join(wrong))


def _report(
    plan: Plan, figures: Mapping[str, Any], history: History, seen: Seen, quality: Quality | None, latency: LoadResult | None, year: FlightsYear
) -> ReportData:
    nothing = np.empty(0)
    kinds = {"promoted": "promotion", "gate_refused": "refusal", "rolled_back": "rollback"}
    marks = [Mark(e["journal_time"], kinds[e["event"]], f"{e['version']}: {e['reason']}") for e in seen.deployments if e["event"] in kinds]  # type: ignore[arg-type]
    marks += [Mark(e["journal_time"], "alarm", e["detail"]) for e in seen.drift if e["severity"] == "alarm" and e["kind"] != "bootstrap"]
    features, weeks, psi = _psi(seen)
    delays = history.outcomes.column("delay_ms").drop_null().to_numpy() / 60_000
    served, static, gap = figures["served"], figures["static"], figures["gap"]
    headline = "No model was promoted." if quality is None else (
        f"Retrained by itself, the system served AUC {served['auc']:.3f}; the first model, kept all year, would have had {static['auc']:.3f}"
        f" (difference {gap['auc']:+.3f}, 95 % interval {gap['low']:+.3f} to {gap['high']:+.3f}, {quality.rows:,} labelled requests)."
    )  # fmt: skip
    tiles = [
        ("AUC served", f"{served['auc']:.3f}" if quality else "-", f"static {static['auc']:.3f}" if quality else ""),
        ("Promotions", str(figures["promotions"]), f"{figures['refusals']} refused, {figures['rollbacks']} rolled back"),
        ("Events", f"{figures['events_in']:,}", f"{figures['rejected']} rejected, {figures['duplicates_dropped']} duplicates"),
        ("Predictions", f"{figures['predictions']:,}", f"{figures['predictions_lost']} lost, {figures['predictions_duplicated']} twice"),
        ("Latency p99", f"{figures['latency_ms']['p99']:.0f} ms" if latency else "-", f"at {_LOAD_RATE:,} events/s"),
        ("Throughput", f"{figures['throughput_events_per_s']:,}/s" if latency else "-", "requests answered, whole system running"),
    ]
    checks = figures["audit"]
    return ReportData(
        title="Tidemill: the flights of 2013",
        headline=headline,
        tiles=tiles,
        weeks_ms=quality.weeks_ms if quality else nothing,
        served_auc=quality.served_auc if quality else nothing,
        static_auc=quality.static_auc if quality else nothing,
        marks=marks,
        label_delay_min=delays,
        latency_ms=latency.latencies_ms if latency else nothing,
        features=features,
        psi_weeks_ms=weeks,
        psi=psi,
        models=_models(seen),
        bad_records=Table(("planted", "records", "found"), _bad_records(year, history)),
        summary=Table(("figure", "value"), [(k, f"{v:,}" if isinstance(v, int) else str(v)) for k, v in figures.items() if not isinstance(v, dict)]),
        audit=Table(("check", "value"), [(name, f"{value:,}") for name, value in checks.items() if isinstance(value, int)]),
    )


def _bad_records(year: FlightsYear, history: History) -> list[tuple[str, str, str]]:
    found = {"duplicate": history.duplicates, "late": history.late, **{f"rejected:{reason}": n for reason, n in history.rejected.items()}}
    return [(name.replace(":", ": "), str(count), str(found.get(name, 0))) for name, count in year.planted.items()]


def _models(seen: Seen) -> Table:
    words = {"gate_passed": "promoted", "gate_refused": "refused", "rolled_back": "rolled back to"}
    rows = []
    for event in seen.deployments:
        if event["event"] not in words:
            continue
        figures, details = event["figures"], event["details"]
        day = datetime.fromtimestamp(event["journal_time"] / 1e3, UTC).strftime("%Y-%m-%d")
        numbers = [f"{figures[name]:.4f}" if name in figures else "-" for name in ("log_loss", "champion_log_loss", "auc", "champion_auc", "p_value")]
        window = {"0": "all"}.get(details.get("window_days", "-"), f"{details.get('window_days', '-')} d")
        rows.append((day, event["version"], words[event["event"]], details.get("family", "-"), window, *numbers))
    return Table(("asked", "version", "verdict", "family", "window", "log loss", "champion's", "AUC", "champion's AUC", "p"), rows)


def _psi(seen: Seen) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the largest index of each feature in each week, the thirty features that moved most."""
    found: dict[str, dict[int, float]] = {}
    for record in seen.health:
        for name, value in record["metrics"].items():
            if name.startswith("psi__"):
                week = record["window_start"] // WEEK_MS
                own = found.setdefault(name.removeprefix("psi__"), {})
                own[week] = max(own.get(week, 0.0), value)
    weeks = sorted({week for own in found.values() for week in own})
    names = sorted(found, key=lambda name: -float(np.mean(list(found[name].values()))))[:30]
    values = np.array([[found[name].get(week, np.nan) for week in weeks] for name in names]).reshape(len(names), len(weeks))
    return names, np.array(weeks, np.float64) * WEEK_MS, values


def _finite(value: Any) -> Any:  # noqa: ANN401, RUF100
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
