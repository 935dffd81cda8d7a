"""The changed application beside the running one: both over the same archived journal, in this process, each trained and judged by its own rules."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError

from tidemill.backtest.in_process import InProcess
from tidemill.backtest.public_log import PublicLog
from tidemill.backtest.slices import usual_slice_ms
from tidemill.backtest.stages import StageWorld, archive_runner, control_runner, drift_runner, outcomes_runner, path_runner, retraining_runner
from tidemill.backtest.trainings import KeptRegistrar, TimedTrainer
from tidemill.backtest.virtual_time import VirtualClock
from tidemill.planning.archived_feed import ArchivedFeed
from tidemill.planning.running_application import RunningApplication
from tidemill.planning.trial_figures import compared
from tidemill.runs.topics import create_topics
from tidemill.services.retraining.processes.trainer import ProcessTrainer, Trainer
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.lake.journal import ArchivedJournal, UnfitArchiveError
from tidemill.shared.lake.names import OUTCOMES, journal_table
from tidemill.shared.lake.tables import Lake, milliseconds
from tidemill.shared.log.records import Emission
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner.progress import Progress

_NEVER_MS = 1 << 53
_COLUMNS = (
    "model", "journal_partition", "request_journal_offset", "request_journal_time", "score", "predicted", "deployment_sequence", "status", "label",
    "revision", "scores", "label_class",
)  # fmt: skip


class TrialRefusedError(RuntimeError):
    """The archive does not do for a backtest of both; says why. Nothing else of the plan depends on it."""


def try_changes(
    running: RunningApplication,
    application: Path,
    progress: Callable[[int, int], None],
    trainer: Callable[[Path], Trainer] = ProcessTrainer,
) -> Mapping[str, Any]:
    """Run both applications over the archived journal, and compare what they would have served, by model.

    Returns
    -------
    By model: ``rows`` (labelled requests that a trained model of both answered; 0: ``why`` there are none), ``metric`` with ``running`` and
    ``changed``, ``gap`` (changed minus running) with its 95 % interval over day blocks, ``loss`` (mean loss, likewise), and ``slices``, the
    one that loses most first.

    Parameters
    ----------
    progress
        Called with journal records given so far, and all that are to be given.
    trainer
        Where trainings run, by folder.

    Raises
    ------
    TrialRefusedError
        There is no archive, or it does not hold what the changed application reads.
    """
    new = load_plan(application)
    if not running.lake or not Path(running.lake).is_dir():
        raise TrialRefusedError("the run has archived nothing yet")
    with tempfile.TemporaryDirectory(prefix="tidemill-plan-", ignore_cleanup_errors=True) as folder:
        outcomes = []
        for number, (plan, place) in enumerate(((running.plan, running.folder), (new, application))):
            own = Path(folder) / str(number)
            own.mkdir()
            archive = Lake(running.lake, plan.application.app)
            outcomes.append(_outcomes(plan, place, archive, own, _half(progress, number), trainer))
        return {
            name: compared(model, running.plan.models.get(name), outcomes[0], outcomes[1], Lake(running.lake, new.application.app))
            for name, model in new.models.items()
        }


def _half(progress: Callable[[int, int], None], number: int) -> Callable[[int, int], None]:
    """Return what tells how far one of two runs of the same length has come, of both."""
    return lambda given, total: progress(number * total + given, 2 * total)


def _outcomes(
    plan: Plan, application: Path, archive: Lake, folder: Path, progress: Callable[[int, int], None], trainer: Callable[[Path], Trainer]
) -> pa.Table:
    """Run one application over the archive, and return its outcomes."""
    clock, registry = VirtualClock(), MemorySchemaRegistry()
    broker = MemoryBroker(clock.now_ms, 0.0, hands_on=True)
    create_topics(plan, broker)
    try:
        feed = ArchivedFeed(ArchivedJournal(archive, plan), plan, registry)
    except (UnfitArchiveError, DeltaError) as problem:
        raise TrialRefusedError(str(problem)) from problem
    world = StageWorld(plan, application, folder, broker, registry, clock, str((folder / "artifacts").absolute()))
    with closing(trainer(folder / "trainings")) as learner:
        timed = TimedTrainer(learner, clock, 0)
        runners = {
            "features": path_runner(world, raw=False),
            "outcomes": outcomes_runner(world),
            "drift": drift_runner(world),
            "control": control_runner(world),
            "archive": archive_runner(world),
            "retraining": retraining_runner(world, timed, KeptRegistrar()),
        }
        stages = InProcess(plan.application.app, broker, runners, PublicLog(plan, broker, registry, lambda _: None), lambda: timed.is_due)
        _end_ingestion(plan, broker, registry)
        given, slice_ms = 0, usual_slice_ms(_span_ms(archive, plan, feed.begin_ms))
        while (begin := feed.next_ms) is not None:
            end = begin - begin % slice_ms + slice_ms
            given += feed.give_until(end, broker.copy)
            clock.reach(end)
            stages.poll()
            progress(given, feed.total)
        stages.write_out()
        stages.close()
    lake = Lake(world.lake, plan.application.app)
    if not lake.exists(OUTCOMES):
        return pa.table({name: pa.array([], pa.string() if name in ("model", "status") else pa.int64()) for name in _COLUMNS})
    return milliseconds(lake.dataset(OUTCOMES).to_table(columns=list(_COLUMNS)))


def _end_ingestion(plan: Plan, broker: MemoryBroker, registry: MemorySchemaRegistry) -> None:
    """Say that no ingestion has more to tell: drift waits for its changes of schemas, and the archive has none."""
    topic = plan.topics.progress("ingestion")
    codec = message_codec(registry, topic, "progress")
    for partition in range(plan.application.partitions):
        ended = Progress("ingestion", partition, covered_time=_NEVER_MS).encode(codec)
        broker.append(Emission(topic, partition, [str(partition).encode()], [ended]), None)


def _span_ms(archive: Lake, plan: Plan, begin_ms: int) -> int:
    last = begin_ms
    for name in plan.streams:
        if archive.exists(journal_table(name)):
            times = milliseconds(archive.dataset(journal_table(name)).to_table(columns=["_journal_time"])).column(0)
            last = max(last, *(chunk.to_numpy().max() for chunk in times.chunks if len(chunk)), last)
    return max(1, last - begin_ms)
