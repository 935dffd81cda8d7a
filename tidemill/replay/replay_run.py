"""A data set through a run: one that is there already, or one made for it."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tidemill.audit.run_log import TopicLog
from tidemill.deploy.embedded.infrastructure import VARIABLES
from tidemill.replay.data_set_spans import refuse_before_1970, remarks
from tidemill.replay.feed import Feed, StreamTable, feeds_of
from tidemill.replay.open_loop import Pace, publish_live
from tidemill.replay.replay import ReplayRefused, refuse_a_journal_that_is_past, replay
from tidemill.runs.coverage import wait_until_covered
from tidemill.runs.instance import Instance, InstanceError, find_instance
from tidemill.runs.kafka_clients import connect
from tidemill.runs.run_servers import RunServers
from tidemill.runs.running import running_application
from tidemill.runs.screen import Screen
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.verdict import RunProblem, findings
from tidemill.runs.watch import RunState, Watch, read_out
from tidemill.services.ingestion.domain.core import FARTHEST_AHEAD_MS
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.observability.settings import KafkaSettings
from tidemill.shared.runner.letter_size import ROOM_BYTES


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay.

    Attributes
    ----------
    data
        What is replayed, as the screen names it.
    read
        Reads the rows of every stream; raises DataSetError.
    pace
        Open loop, live; None for slices.
    slice_ms
        Availability time that is published at once.
    up
        Whether to run the application for it.
    folder
        The run's folder; None for the one of `tidemill up`, or with `up` for a new one.
    allow_rejected
        Records that may be refused for other reasons than the application's own expectations.
    servers
        With `up`: those to run it on, which go on afterwards; None: of its own.
    """

    data: str
    read: Callable[[Plan], Mapping[str, StreamTable]]
    pace: Pace | None = None
    slice_ms: int = 86_400_000
    up: bool = False
    folder: Path | None = None
    allow_rejected: int = 0
    servers: RunServers | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of it.

    Attributes
    ----------
    answered
        Predictions that the run has made altogether.
    behind_s
        An open loop's worst delay.
    findings
        What went wrong.
    """

    published: int
    seconds: float
    answered: int
    promotions: int
    folder: Path | None
    behind_s: float = 0.0
    findings: Sequence[RunProblem] = ()


def replay_run(application: Path, options: ReplayOptions, environment: Mapping[str, str], console: Console) -> ReplayResult:
    """Replay a data set and wait until every stage has dealt with it.

    Raises
    ------
    ApplicationError, SettingsError, DataSetError, InstanceError, ReplayRefused, CoverageTimeout, ServiceFailed
        What is wrong, and what to do.
    """
    plan, settings = load_plan(application), read_settings()
    console.print(f"Reading the data set {options.data} ...")
    tables = options.read(plan)
    clock = "replay" if options.pace is None else "live"
    if options.pace is None:
        refuse_before_1970(tables)
        for remark in remarks(tables, _farthest_ms()):
            console.print(f"[yellow]Note:[/yellow] {escape(remark)}", highlight=False, soft_wrap=True)
    if not options.up:
        folder = options.folder or Path(".tidemill/up") / plan.application.app
        instance = find_instance(folder, environment)
        _check_instance(plan, instance, clock, folder)
        kafka = settings.kafka_at(instance.addresses[VARIABLES[0]])
        broker = connect(kafka)
        if missing := [topic for topic in (*plan.topics.raw, plan.topics.journal) if not broker.partitions(topic)]:
            raise InstanceError(f"expected the topic {missing[0]} at {kafka.bootstrap_servers}, found none: is {plan.application.app} running?")
        registry = ConfluentSchemaRegistry(instance.addresses[VARIABLES[1]])
        return _publish(plan, kafka, registry, feeds_of(plan, registry, tables, most_bytes(plan, broker)), options, None, console)
    folder = options.folder or Path(".tidemill/replay") / f"{plan.application.app}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    console.print("Starting servers and services ...")
    with running_application(application, plan, folder, clock, servers=options.servers) as run:
        registry = ConfluentSchemaRegistry(run.infrastructure.registry_url)
        kafka = settings.kafka_at(run.infrastructure.bootstrap_servers)
        feeds = feeds_of(plan, registry, tables, most_bytes(plan, connect(kafka)))
        return _publish(plan, kafka, registry, feeds, options, run.supervisor, console, folder)


def most_bytes(plan: Plan, broker: Broker) -> int:
    """Return what a record may weigh with its key on every raw topic."""
    return min(broker.max_message_bytes(topic) for topic in plan.topics.raw) - ROOM_BYTES


def _farthest_ms() -> int:
    """Return the instant beyond which ingestion takes no record of a replay."""
    return time.time_ns() // 1_000_000 + FARTHEST_AHEAD_MS


def _check_instance(plan: Plan, instance: Instance, clock: str, folder: Path) -> None:
    if instance.application and not instance.runs:
        raise InstanceError(f"{folder}: its run has ended; start it again with `tidemill up`, or replay with --up")
    if instance.clock and instance.clock != clock:
        advice = "start it with `tidemill up --clock replay`, publish live with --rate, or replay with --up" if clock == "replay" else "use slices"
        raise ReplayRefused(f"expected a run on the {clock} clock, the one in {folder} is on the {instance.clock} clock: {advice}")
    if instance.application and load_plan(instance.reads).application_hash != plan.application_hash:
        raise ReplayRefused(f"{folder}: expected a run of this application, found one of {instance.application} that says something else")


def _publish(
    plan: Plan,
    kafka: KafkaSettings,
    registry: SchemaRegistry,
    feeds: Sequence[Feed],
    options: ReplayOptions,
    supervisor: Supervisor | None,
    console: Console,
    folder: Path | None = None,
) -> ReplayResult:
    total = sum(len(feed.available_ms) for feed in feeds)
    started, behind = time.monotonic(), 0.0
    broker = connect(kafka)
    with closing(Watch(plan, kafka, registry)) as watch, Screen(total, console) as screen:

        def show(instant: int, published: int, seen: RunState) -> None:
            if supervisor is not None:
                supervisor.check()
            screen.update(instant, published, seen)

        if options.pace is None:
            log = TopicLog(plan, broker, registry)
            stands = [log.progress("ingestion", partition) for partition in range(plan.application.partitions)]
            refuse_a_journal_that_is_past(max(progress.covered_time if progress else -1 for progress in stands), feeds)
            replay(plan, broker.sink(), feeds, watch, options.slice_ms, show, _farthest_ms(), until_ms=time.time_ns() // 1_000_000)
        else:
            done = publish_live(broker.sink(), feeds, options.pace, lambda instant, count: show(instant, count, watch.poll(0.0)))
            behind = done.behind_s
            now = time.time_ns() // 1_000_000
            wait_until_covered(plan, watch, now, partial(show, now, total))
        seen = read_out(watch)
    asking = {plan.streams[model.ask].topic for model in plan.models.values()}
    requests = sum(len(feed.available_ms) for feed in feeds if feed.topic in asking)
    answered, promotions = seen.produced("scoring", plan.topics.predictions), seen.count(seen.deployments, "promoted")
    wrong = findings(plan, seen, requests=requests, allowed=options.allow_rejected)
    return ReplayResult(total, time.monotonic() - started, answered, promotions, folder, behind, wrong)
