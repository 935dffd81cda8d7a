"""A backtest: data through every stage in this process, then its figures."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape

from tidemill.audit.run_log import TopicLog
from tidemill.backtest.figures import BacktestFigures, figures_of
from tidemill.backtest.in_process import InProcess
from tidemill.backtest.predictions_file import ExplanationsFile, PredictionsFile
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.recorded_run import recorded_switches
from tidemill.backtest.report import write_html
from tidemill.backtest.rerun import rerun, skipped_offsets
from tidemill.backtest.slices import cut_at, usual_slice_ms
from tidemill.backtest.stages import (
    StageWorld,
    archive_runner,
    control_runner,
    drift_runner,
    explanations_runner,
    outcomes_runner,
    path_runner,
    retraining_runner,
)
from tidemill.backtest.trainings import KeptRegistrar, TimedTrainer
from tidemill.backtest.virtual_time import TimedSink, VirtualClock
from tidemill.demo.figures import finite
from tidemill.replay.data_set_spans import refuse_before_1970, remarks
from tidemill.replay.feed import StreamTable, feeds_of
from tidemill.replay.replay import FARTHEST_MS, replay
from tidemill.runs.coverage import WAITED_FOR
from tidemill.runs.instance import InstanceError, find_instance, reachable
from tidemill.runs.kafka_clients import connect
from tidemill.runs.screen import Screen
from tidemill.runs.settings import read_settings
from tidemill.runs.topics import create_topics
from tidemill.runs.verdict import RunProblem, findings
from tidemill.runs.watch import RunState
from tidemill.services.retraining.processes.trainer import ProcessTrainer, Trainer
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, MemorySchemaRegistry
from tidemill.shared.lake.tables import Lake
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.models.artifacts import ArtifactStore


class DataSource(Protocol):
    """Data that a backtest is given."""

    @property
    def sources(self) -> Sequence[str]:
        """What is read, as the screen names it."""
        ...

    def read(self, plan: Plan) -> dict[str, StreamTable]:
        """Return the rows by stream; raises DataSetError."""
        ...


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What to do.

    Attributes
    ----------
    data
        What to read; nothing of a run's journal.
    slice_ms
        Availability time given at once; None: see `usual_slice_ms`.
    training_ms
        Event time that a training takes.
    report, predictions, html
        Files to write.
    explanations
        File for why predictions have their scores; the stage runs where it is asked for.
    folder
        Where lake, models, trainings and MLflow's store are kept; None: they are deleted at the end.
    allow_rejected
        Records that may be refused for other reasons than the application's own expectations.
    """

    data: DataSource
    slice_ms: int | None = None
    training_ms: int = 0
    report: Path | None = None
    predictions: Path | None = None
    html: Path | None = None
    folder: Path | None = None
    allow_rejected: int = 0
    explanations: Path | None = None


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What came of it.

    Attributes
    ----------
    events
        Records given.
    seconds, waited_s, cpu_s
        Wall time of the run and how much of it was waiting for trainings; CPU seconds of this process.
    """

    events: int
    seconds: float
    waited_s: float
    cpu_s: float
    predictions: int
    figures: BacktestFigures
    seen: RunState
    findings: list[RunProblem] = field(default_factory=list)


def backtest(application: Path, options: BacktestOptions, console: Console, trainer: Trainer | None = None) -> BacktestResult:
    """Run a backtest.

    Parameters
    ----------
    trainer
        Where trainings run; None: in the child process that `retraining` has.

    Raises
    ------
    ApplicationError, DataSetError, ReplayRefused, CoverageTimeout
        What is wrong, and what to do.
    """
    plan = load_plan(application)
    console.print(f"Reading {escape(', '.join(options.data.sources))} ...", highlight=False)
    tables = options.data.read(plan)
    refuse_before_1970(tables)
    for remark in remarks(tables, FARTHEST_MS):
        console.print(f"[yellow]Note:[/yellow] {escape(remark)}", highlight=False, soft_wrap=True)
    with (
        _kept(options.folder) as folder,
        PredictionsFile(options.predictions) as answers,
        ExplanationsFile(options.explanations) as reasons,
        closing(trainer or ProcessTrainer(folder / "trainings")) as learner,
    ):
        clock, registry = VirtualClock(), MemorySchemaRegistry()
        broker = MemoryBroker(clock.now_ms, 0.0, hands_on=True)
        create_topics(plan, broker)
        world = StageWorld(plan, application, folder, broker, registry, clock, str((folder / "artifacts").absolute()))
        feeds = feeds_of(plan, registry, tables)
        del tables
        timed = TimedTrainer(learner, clock, options.training_ms)
        registrar = KeptRegistrar()
        log = PublicLog(plan, broker, registry, answers.write, None if options.explanations is None else reasons.write)
        runners = {
            "ingestion": path_runner(world, raw=True),
            "outcomes": outcomes_runner(world),
            **({} if options.explanations is None else {"explanations": explanations_runner(world)}),
            "drift": drift_runner(world),
            "control": control_runner(world),
            "archive": archive_runner(world),
            "retraining": retraining_runner(world, timed, registrar),
        }
        stages = InProcess(plan.application.app, broker, runners, log, lambda: timed.is_due)
        filled = [feed.available_ms for feed in feeds if len(feed.available_ms)]
        span_ms = int(max(times[-1] for times in filled) - min(times[0] for times in filled)) + 1
        events = sum(map(len, filled))
        # A model under way is not waited for: time goes on until it is there.
        waited_for = WAITED_FOR if not options.training_ms else [stage for stage in WAITED_FOR if stage != "retraining"]
        begun, cpu = time.monotonic(), time.process_time()
        with Screen(events, console) as screen:
            slice_ms = options.slice_ms or usual_slice_ms(span_ms)
            replay(plan, TimedSink(broker.sink(), clock), feeds, stages, slice_ms, screen.update, stages=waited_for, cut=cut_at(lambda: timed.due_ms))
        stages.write_out()
        seconds, cpu_s = time.monotonic() - begun, time.process_time() - cpu
        stages.close()
        if options.folder is not None:
            registrar.write(plan.application.app, f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        figures = _figures(world, log, span_ms, events, answers)
    _write(plan, options, figures, log.seen)
    requests = sum(len(feed.available_ms) for feed in feeds if feed.topic in {plan.streams[name].topic for name in plan.asking_streams})
    wrong = findings(plan, log.seen, requests=requests, allowed=options.allow_rejected)
    return BacktestResult(events, seconds, timed.waited_s, cpu_s, answers.rows, figures, log.seen, wrong)


def backtest_of_run(application: Path, folder: Path, options: BacktestOptions, environment: Mapping[str, str], console: Console) -> BacktestResult:
    """Give a run's own journal to the stages, with the models it had where it had them; its servers are started for it when they do not run.

    Raises
    ------
    ApplicationError, InstanceError, SettingsError
        What is wrong, and what to do.
    """
    plan, settings, instance = load_plan(application), read_settings(), find_instance(folder, environment)
    with (
        reachable(instance) as infrastructure,
        _kept(options.folder) as kept,
        PredictionsFile(options.predictions) as answers,
        ExplanationsFile(options.explanations) as reasons,
    ):
        source = connect(settings.kafka_at(infrastructure.bootstrap_servers))
        if not source.partitions(plan.topics.journal):
            raise InstanceError(f"expected the topic {plan.topics.journal} at {infrastructure.bootstrap_servers}, found none: nothing ran there")
        clock, registry = VirtualClock(), ConfluentSchemaRegistry(infrastructure.registry_url)
        run = TopicLog(plan, source, registry)
        skipped, switches = skipped_offsets(plan, run), recorded_switches(plan, run, registry)
        events = sum(run.journal_end(partition) for partition in range(plan.application.partitions))
        broker = MemoryBroker(clock.now_ms, 0.0, hands_on=True)
        create_topics(plan, broker)
        world = StageWorld(plan, application, kept, broker, registry, clock, instance.artifacts)
        log = PublicLog(plan, broker, registry, answers.write, None if options.explanations is None else reasons.write)
        begun, cpu, first = time.monotonic(), time.process_time(), _first_time(plan, run)
        with Screen(events, console) as screen:
            rerun(world, broker, run, switches, log, screen.update, skipped, explains=options.explanations is not None)
        seconds, cpu_s = time.monotonic() - begun, time.process_time() - cpu
        figures = _figures(world, log, max(1, clock.now_ms() - first), events, answers)
    _write(plan, options, figures, log.seen)
    return BacktestResult(events, seconds, 0.0, cpu_s, answers.rows, figures, log.seen, findings(plan, log.seen, requests=None, allowed=None))


def _first_time(plan: Plan, run: TopicLog) -> int:
    heads = (next(run.journal(partition), None) for partition in range(plan.application.partitions))
    return min((int(records.timestamps_ms[0]) for records in heads if records is not None), default=0)


def _figures(world: StageWorld, log: PublicLog, span_ms: int, events: int, answers: PredictionsFile) -> BacktestFigures:
    counts = {"events_in": events, "predictions": answers.rows, "degraded": answers.degraded}
    return figures_of(world.plan, log, Lake(world.lake, world.plan.application.app), ArtifactStore(world.artifacts), span_ms, counts)


def _write(plan: Plan, options: BacktestOptions, figures: BacktestFigures, seen: RunState) -> None:
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(_json(figures.values), indent=2) + "\n", encoding="utf-8")
    if options.html is not None:
        write_html(options.html, plan.application.app, figures, seen)


def _json(value: Any) -> Any:  # figures of any shape
    return (
        [_json(item) for item in value]
        if isinstance(value, list)
        else finite({k: _json(v) for k, v in value.items()})
        if isinstance(value, dict)
        else value
    )


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    """Give a new folder: the one that is named, or one that is deleted at the end."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="tidemill-backtest-", ignore_cleanup_errors=True) as made:
            yield Path(made)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
