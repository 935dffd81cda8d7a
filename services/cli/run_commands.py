"""The commands that make a run, feed it and recompute it: up, replay, audit."""

import os
import signal
import threading
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tidemill.runs.last_run import UP
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, checked, console, errors, failures, read_plan, tell

if TYPE_CHECKING:
    from tidemill.runs.run_servers import RunServers
    from tidemill.runs.running import Running
    from tidemill.shared.application.plan import Plan


class Clock(StrEnum):
    """What time is to a run."""

    live = "live"
    replay = "replay"


def up(
    application: ApplicationFolder,
    folder: Annotated[Path, typer.Option(help="Where logs, lake, models and embedded servers' data lie.")] = UP,
    clock: Annotated[
        Clock, typer.Option(help="`replay`: time is what `tidemill replay` publishes, for data of the past. `live`: time is now.")
    ] = Clock.live,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="A new run reads this data of the past before it goes live, as `tidemill replay` does: it starts with a model."
        ),
    ] = None,
) -> None:
    """Run an application until Ctrl-C: Kafka, registry and Redis (embedded unless given by address) and every service.

      tidemill up examples/payments
    With what happened before, so that it starts with a model (`init` writes such data):
      tidemill up my-app --history my-app/data

    A run that was stopped goes on where it was. `tidemill replay` feeds it, `tidemill audit` recomputes it, `tidemill apply` changes its
    application while it goes on: it has a copy of its own, so that an edit of the folder changes nothing.
    Records that are rejected or set aside, trainings that fail, processes that end and stages that stand still are named as they come, and
    summed up at the end. Exits with 3 when, since it was started, records were set aside because they crash a stage, every training
    of a model failed, or a stage stood still or a stream was paused at the end; with 1 when a service or server cannot be kept running,
    with 2 when the application or the settings are wrong.
    """
    from tidemill.runs.run_servers import RunServers

    plan = read_plan(application)
    place, began = folder / plan.application.app, time.monotonic()
    with RunServers(place) as servers:
        if history is not None:
            _feed(application, plan, history, servers, clock)
        _serve(application, plan, servers, clock, began)


def _serve(application: Path, plan: "Plan", servers: "RunServers", clock: Clock, began: float) -> None:
    """Run until Ctrl-C, and say what comes."""
    from tidemill.planning.apply import follow_changes
    from tidemill.runs.announcer import Announcer
    from tidemill.runs.change_desk import ChangeDesk
    from tidemill.runs.first_prediction import FirstPrediction
    from tidemill.runs.gateway_ready import wait_for_gateway
    from tidemill.runs.kafka_clients import connect
    from tidemill.runs.run_watch import watching
    from tidemill.runs.running import running_application
    from tidemill.runs.settings import read_settings
    from tidemill.shared.avro.registry import ConfluentSchemaRegistry

    place, stop = servers.folder, threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    started = time.monotonic()

    def say(line: str) -> None:
        errors.print(f"[yellow]{time.strftime('%H:%M:%S')}[/yellow] {escape(line)}", soft_wrap=True, highlight=False)

    def goes_on() -> bool:
        run.infrastructure.check()
        run.supervisor.check()
        return not stop.is_set()

    announcer = Announcer(plan, say)
    begun = running_application(application, plan, place, clock.value, lambda: not stop.is_set(), servers)
    with failures(), begun as run, watching(plan, run.infrastructure, say) as watch:
        console.print(f"{plan.application.app} runs after {time.monotonic() - started:.1f} s; logs in {place / 'logs'}; Ctrl-C stops it.")
        broker = connect(read_settings().kafka_at(run.infrastructure.bootstrap_servers))
        # Before anybody is told where to send events: the answer to the first of them counts.
        first = FirstPrediction(plan, broker, ConfluentSchemaRegistry(run.infrastructure.registry_url), began, console, only_new=True)
        _show_addresses(plan, run)
        wait_for_gateway(run.gateway, goes_on)
        _show_first_steps(application, plan, run, place)
        with ChangeDesk(place).opened() as desk:
            while not stop.wait(0.5) and goes_on():
                follow_changes(desk, place, run, goes_on, say)
                seen = watch.poll()
                first.look(seen)
                announcer.look(seen, run.supervisor.restarts())
        seen = watch.poll()
        announcer.look(seen, run.supervisor.restarts())
    tell(announcer.summary(seen), "The run")


def _show_addresses(plan: "Plan", run: "Running") -> None:
    from tidemill.shared.observability.redaction import redacted

    for name, value in run.infrastructure.environment.items():
        console.print(f"  {name}={redacted(value)}", highlight=False)
    for topic in plan.topics.raw:
        console.print(f"  publish to {topic}", highlight=False)
    console.print(f"  gateway    {run.gateway}", highlight=False)
    console.print(f"  read from  {plan.topics.predictions}", highlight=False)


def _show_first_steps(application: Path, plan: "Plan", run: "Running", place: Path) -> None:
    from tidemill.services.cli.first_steps import first_steps

    console.print("In another terminal (stop this one before the last):")
    for line in first_steps(application, plan, run.infrastructure.environment, run.gateway, time.time_ns() // 1_000_000, place):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _feed(application: Path, plan: "Plan", data: str, servers: "RunServers", clock: Clock) -> None:
    """Let a new run read data of the past."""
    from tidemill.replay.history import feed_history
    from tidemill.services.cli.backtest_data import DataChoice

    if clock is Clock.replay:
        raise typer.BadParameter("expected the live clock: on the replay clock, time is what `tidemill replay` publishes", param_hint="--history")
    with failures():
        choice = DataChoice([data], end_ms=time.time_ns() // 1_000_000)
        result = feed_history(application, plan, data, choice.read, servers, os.environ, console)
    if result is None:
        console.print(f"The run in {servers.folder} has been live already and goes on where it was; {data} is not read again.", highlight=False)
        return
    console.print(
        f"{result.published:,} records of the past in {result.seconds:.1f} s, {result.promotions} promotions; now live ...", highlight=False
    )
    for finding in result.findings:
        errors.print(f"[yellow]note[/] {escape(finding.text)}", soft_wrap=True, highlight=False)


def replay(
    application: ApplicationFolder,
    data: Annotated[str, typer.Argument(metavar="DATA", help="`flights`, `payments`, or a folder with one file (or folder of files) per stream.")],
    slice_: Annotated[str, typer.Option("--slice", help="Availability time published at once, e.g. 6h.")] = "1d",
    rate: Annotated[float | None, typer.Option(help="Publish live instead: so many records a second, whatever the system does.")] = None,
    speed: Annotated[float | None, typer.Option(help="Publish live instead: so many times as fast as the records became available.")] = None,
    up: Annotated[bool, typer.Option("--up", help="Run the application for this replay, on servers of its own.")] = False,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run. (default: the last one of the application in .tidemill, with --up a new one)")
    ] = None,
    allow_rejected: Annotated[int, typer.Option(min=0, help="So many records may be rejected for reasons the application does not declare.")] = 0,
    available: Annotated[str, typer.Option(help="Files: column that says when a row became known; without it, the event time.")] = "_available",
    available_format: Annotated[
        str | None,
        typer.Option(help="How that column is written: seconds, '%Y%m%d', ... (default: milliseconds or ISO 8601)"),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="flights: only the first days of the year.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="payments: how many. (default: 60000)")] = None,
    interval: Annotated[str | None, typer.Option(help="payments: mean distance in time, e.g. 10ms. (default: 2m)")] = None,
    seed: Annotated[int | None, typer.Option(help="payments: which ones. (default: 7)")] = None,
) -> None:
    """Publish a data set into an application's raw topics, in the order in which its records became known.

    In slices (the default) each slice ends with a heartbeat, and the next one waits until every stage
    has dealt with it: the result does not depend on the machine's speed. That needs a run on the replay
    clock. With --rate or --speed records are published live, as of now, and nobody is waited for.

    Try it, on servers of its own:
      tidemill replay examples/payments payments --up --count 3000
    Or into a running system, in another terminal:
      tidemill up examples/payments --clock replay
      tidemill replay examples/payments payments --count 20000

    Your own data: a folder with payments.parquet, chargebacks.csv, ... (Parquet, CSV or JSON lines;
    columns as in the stream's Avro schema). Nothing in them is guessed: `NA` is a text unless the stream's
    `nulls` declare it, and times are milliseconds or ISO 8601 unless its `times` say otherwise.

    Exits with 1 when a stage fails or stands still, with 2 when application, data or run do not fit, and with 3 when the run went
    through but records were rejected (other than by the application's own `expect`, and more than --allow-rejected) or set aside
    because they crash a stage, no request was answered, or every training of a model failed; each is named.
    """
    from tidemill.replay.open_loop import Pace
    from tidemill.replay.replay_run import ReplayOptions, replay_run
    from tidemill.services.cli.dataset import DataSetOptions, load_data_set
    from tidemill.shared.application.values import parse_duration
    from tidemill.shared.avro.times import parse_time_format

    if rate is not None and speed is not None:
        raise typer.BadParameter("give --rate or --speed, not both")
    pace = None if rate is None and speed is None else checked("--rate, --speed", lambda: Pace(rate, speed))
    interval_ms = None if interval is None else float(checked("--interval", lambda: parse_duration(interval)))
    if available_format is not None:
        checked("--available-format", lambda: parse_time_format(available_format))
    slice_ms = checked("--slice", lambda: parse_duration(slice_))
    data_set = DataSetOptions(days, count, interval_ms, seed, available, available_format)
    options = ReplayOptions(data, lambda plan: load_data_set(plan, data, data_set), pace, slice_ms, up, run, allow_rejected)
    plan = read_plan(application)
    if not up:
        options = replace(options, folder=run_folder(plan.application.app, run, os.environ))
    with failures():
        result = replay_run(application, options, os.environ, console)
    table = Table(show_header=False, box=None)
    table.add_row("published", f"{result.published:,} records in {result.seconds:.1f} s")
    table.add_row("predictions", f"{result.answered:,} by this run altogether")
    table.add_row("promotions", f"{result.promotions}")
    if pace is not None:
        table.add_row("worst delay", f"{result.behind_s * 1e3:,.0f} ms behind the pace")
    console.print(table)
    if result.folder is not None:
        console.print(f"The run lies in {result.folder}; recompute it with: tidemill audit {application} --run {result.folder}", soft_wrap=True)
    tell(result.findings, "The replay")


def audit(
    application: ApplicationFolder,
    run: RunFolder = None,
    artifacts: Annotated[str | None, typer.Option(help="Where the models are. (default: as the run says)")] = None,
) -> None:
    """Recompute every vector, prediction and shadow score of a run from its journal, and compare bit for bit.

      tidemill audit examples/payments

    Addresses in the environment come first, then the run's folder; the servers of a run that has ended
    are started for the audit. Exits with 1 when anything differs, is missing or is not explained by the
    journal, or when there was nothing to compare.
    """
    from tidemill.audit.audit_run import audit_run

    plan = read_plan(application)
    with failures(), console.status("Recomputing ..."):
        audited = audit_run(plan, run_folder(plan.application.app, run, os.environ), os.environ, artifacts)
    result = audited.result
    table = Table("", "compared", "differ", box=None)
    table.add_row("vectors", f"{result.vectors_compared:,}", f"{result.vector_mismatches:,}")
    table.add_row("predictions", f"{result.predictions_compared:,}", f"{result.prediction_mismatches:,}")
    table.add_row("shadow scores", f"{result.shadow_scores_compared:,}", f"{result.shadow_score_mismatches:,}")
    table.add_row("switches of models", "", f"{result.switches_back:,} backwards")
    console.print(table)
    console.print(
        f"Audited the journal up to offset {audited.covered:,} of {audited.journal:,}; {audited.quarantined:,} records are quarantined.",
        highlight=False,
    )
    for reason, count in result.degraded.items():
        console.print(f"{count:,} requests were answered without a model that can be loaded ({reason}).", highlight=False)
    for example in result.examples:
        errors.print(f"  {example}", markup=False)
    if not result.clean:
        errors.print("Nothing to compare." if not result.vectors_compared else "The run is not what its journal says.")
        raise typer.Exit(1)
    console.print("[green]Every vector and every prediction is what the journal says.[/green]")
