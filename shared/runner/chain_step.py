"""One step of the tasks of a chain, and its commit."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tidemill.shared.log.broker import Source, TransactionalSink
from tidemill.shared.log.flood import Throttle
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.chain import Chain, LinkedStage, TaskCrashedError, Work
from tidemill.shared.runner.commit_report import CommitReport
from tidemill.shared.runner.crash_search import CrashSearch
from tidemill.shared.runner.death_note import DeathNote
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.shares import Share
from tidemill.shared.runner.step_transaction import StepTransaction
from tidemill.shared.runner.task import StepContext

# Flush a step's records early only if the step before took less than this: far less than the 10 s for which the broker lets a transaction stand open.
_SHORT_S = 0.5


class StepEnd(Enum):
    """How a step ended."""

    UNDONE = "a task or its outputs failed: nothing is committed, the tasks are to be restored"
    UNCHANGED = "there was nothing to commit"
    COMMITTED = "committed"
    PAUSES_CHANGED = "committed, and from now on another set of inputs is paused"
    STAGE_LEFT_OUT = "committed without a stage that searches: it has to catch up in the log"


@dataclass(frozen=True, slots=True)
class StepClocks:
    """The clocks of a step.

    Attributes
    ----------
    now_ms
        Processing time, handed to the tasks.
    steady_ms
        Steady clock beside it, which shows when the host's is set; None: there is none.
    timer
        Steady seconds, for cadences and metrics.
    """

    now_ms: Callable[[], int]
    steady_ms: Callable[[], int] | None
    timer: Callable[[], float]


class ChainStep:
    """Lets tasks make a step, writes what came of it in one transaction, and tells the tasks once it is committed.

    Parameters
    ----------
    chain, links
        The tasks at work, and their stages.
    source, sink
        Whose offsets go with the transaction, and who writes it.
    search
        Judges what a task's crash or refused outputs lead to.
    note
        Is told of each commit.
    report
        Tells operators of each commit.
    """

    def __init__(
        self,
        chain: Chain,
        links: Sequence[LinkedStage],
        source: Source,
        sink: TransactionalSink,
        search: CrashSearch,
        note: DeathNote,
        report: CommitReport,
        settings: RunnerSettings,
        metrics: Metrics,
        health: ProcessHealth,
        clocks: StepClocks,
    ) -> None:
        self._chain = chain
        self._links = links
        self._source = source
        self._sink = sink
        self._search = search
        self._note = note
        self._report = report
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._clocks = clocks
        self._throttle = Throttle()
        self._unacknowledged: list[RunningTask] = []
        self._begun = 0.0
        self._took_s = math.inf
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let the tasks know that the process is about to stop: whoever buffers writes what it holds."""
        self._stopping.set()

    def drop(self) -> None:
        """Forget the tasks that were at work."""
        self._took_s = math.inf
        self._health.set_warm(False)
        self._unacknowledged = []

    @property
    def limit(self) -> int:
        """Records that the next step is to have at most: few while an input is a flood of refused ones."""
        flooded = any(chain[0].progress.flooded for chain in self._chain.tasks.values())
        return self._throttle.limit(self._settings.max_batch) if flooded else self._settings.max_batch

    @property
    def linger_s(self) -> float:
        """How long records may be gathered before the next step, so that commits keep their interval."""
        # From one begin to the next, so that what a step takes is part of the interval and does not come on top of it.
        return max(0.0, self._settings.commit_interval_ms / 1000 - (self._clocks.timer() - self._begun))

    def acknowledge(self) -> None:
        """Tell tasks that their last step is committed; those that could not be told are told before the next step.

        Raises
        ------
        TransientError
            A task could not make use of it now (retry).
        """
        while self._unacknowledged:
            self._unacknowledged[0].task.committed()
            self._unacknowledged.pop(0)

    def make(self, shares: Sequence[Share]) -> StepEnd:
        """Let tasks make a step, each partition from some stage on, and commit what has changed.

        Raises
        ------
        BaseException
            The process is to end, or something outside failed.
        """
        timer, limits = self._clocks.timer, self._settings
        steady_ms = self._clocks.steady_ms() if self._clocks.steady_ms else None
        context = StepContext(self._clocks.now_ms(), self._source.caught_up, steady_ms, self._chain.output_ends, self._stopping.is_set())
        begun = timer()
        works: list[Work] = []
        transaction = StepTransaction(self._sink, self._source.membership, len(shares), self._known_offset, self._is_short(shares))
        try:
            for share in shares:
                steps = self._chain.advance(
                    share.partition, share.first, share.records, context, limits.checkpoint_interval_ms, limits.checkpoint_bytes
                )
                for work in steps:
                    works.append(work)
                    transaction.add(work, work.stage == share.first)
        except TaskCrashedError as crash:
            self._search.judge(crash)
            return StepEnd.UNDONE
        except Exception as problem:  # of tasks and clients: `refused` raises it again unless a record of the step is at fault
            self._search.refused(problem, works[-1:], shares)
            return StepEnd.UNDONE
        self._measure(works, timer() - begun)
        changed = transaction.changed
        end = StepEnd.UNCHANGED
        if changed:
            self._begun = begun
            try:
                ends = self._commit(transaction)
            except Exception as problem:  # as above
                self._search.refused(problem, works, shares)
                return StepEnd.UNDONE
            end = self._accept(changed, ends)
        done = {(work.stage, work.running.partition) for work in changed}
        for work in works:
            place = work.stage, work.running.partition
            self._links[work.stage].verdicts.passed(work.running, work.inputs, place in done)
        return end

    def _measure(self, works: Sequence[Work], took_s: float) -> None:
        if len({work.stage for work in works if self._has_data(work)}) == len(self._links):
            # One in which every stage had something to do, and has compiled its kernels.
            self._took_s = took_s
            self._health.set_warm(True)
        self._metrics.observe_process(took_s)
        self._throttle.observe(sum(work.outcome.read for work in works if work.stage == 0), took_s)

    def _has_data(self, work: Work) -> bool:
        partitioned = self._links[work.stage].topics.inputs.partitioned
        return any(records.topic in partitioned for records in work.inputs)

    def _commit(self, transaction: StepTransaction) -> Mapping[TopicPartition, int]:
        begun = self._clocks.timer()
        ends = transaction.commit()
        self._metrics.count_commit(self._clocks.timer() - begun)
        self._note.advanced()
        return ends

    def _accept(self, changed: Sequence[Work], ends: Mapping[TopicPartition, int]) -> StepEnd:
        paused = [work.running.progress.paused for work in changed]
        for work in changed:
            self._report.tell(work)
            work.running.accept(work.outcome, ends)
            self._unacknowledged.append(work.running)
        if self._chain.committed(ends):
            return StepEnd.STAGE_LEFT_OUT
        return StepEnd.COMMITTED if paused == [work.running.progress.paused for work in changed] else StepEnd.PAUSES_CHANGED

    def _is_short(self, shares: Sequence[Share]) -> bool:
        """Say whether a step is known to take no time to speak of: the one before did not, and nothing but data came (no model to load)."""
        special = (
            records.topic in self._links[stage].topics.inputs.broadcast
            for share in shares
            for stage, runs in share.records.items()
            for records in runs
        )
        return self._took_s < _SHORT_S and not any(special)

    def _known_offset(self, changed: Sequence[Work]) -> dict[TopicPartition, int]:
        lead = self._chain.tasks[changed[0].running.partition][0]
        offsets = lead.progress.input_offsets
        grouped = self._links[0].topics.grouped(lead.partition)
        return {partition: offsets[partition] for partition in grouped if partition in offsets}
