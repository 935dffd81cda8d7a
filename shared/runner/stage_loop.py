"""The loop of a stage: take over what the group assigns, consume, make steps, start over after what passes."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from tidemill.shared.log.broker import Source
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.backoff import Backoff
from tidemill.shared.runner.chain import Chain, LinkedStage
from tidemill.shared.runner.chain_step import ChainStep, StepEnd
from tidemill.shared.runner.crash_search import CrashSearch
from tidemill.shared.runner.guarded_restore import GuardedRestore
from tidemill.shared.runner.outage import Outage
from tidemill.shared.runner.restore import SupersededError
from tidemill.shared.runner.shares import Share, first_records
from tidemill.shared.runner.stage_clients import StageClients
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.take_over import TakeOver
from tidemill.shared.runner.tenure import Tenure
from tidemill.shared.runner.topic_growth import TopicGrowth
from tidemill.shared.runner.topic_identity import TopicIdentities

log = logging.getLogger(__name__)
_WRITE_OUT_S = 3.0


class StageLoop:
    """Goes round once with each `step`.

    Parameters
    ----------
    topics
        Of the first stage.
    source, clients
        Reads; opens, aborts and closes all three.
    tenure
        Says whether the assignment still holds.
    ownership
        Takes tasks over from other processes.
    identities, growth
        Tell topics that were deleted and made anew, and those that have more partitions.
    restores, chain, links
        Bring the tasks back, and let them make steps.
    steps, search
        Commit a step; decide what a crash in it leads to.
    backoff
        Waits after transient errors.
    timer
        Steady seconds.
    """

    def __init__(
        self,
        *,
        topics: StageTopics,
        source: Source,
        clients: StageClients,
        tenure: Tenure,
        ownership: TakeOver,
        identities: TopicIdentities,
        growth: TopicGrowth,
        restores: GuardedRestore,
        chain: Chain,
        links: Sequence[LinkedStage],
        steps: ChainStep,
        search: CrashSearch,
        backoff: Backoff,
        settings: RunnerSettings,
        metrics: Metrics,
        health: ProcessHealth,
        timer: Callable[[], float],
    ) -> None:
        self._topics = topics
        self._source = source
        self._clients = clients
        self._tenure = tenure
        self._ownership = ownership
        self._identities, self._growth = identities, growth
        self._restores = restores
        self._chain = chain
        self._links = links
        self._steps = steps
        self._search = search
        self._backoff = backoff
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._timer = timer
        self._backlog: Iterator[tuple[int, int, Records]] | None = None
        self._outage = Outage()

    def step(self) -> bool:
        """Make one step; True when a transaction was committed."""
        self._outage.begin_step()
        try:
            if self._clients.open():
                self._tenure.begin()
            if not self._acknowledge():
                return False
            due = self._restores.retry_at is not None and self._timer() >= self._restores.retry_at
            if self._tenure.is_over or due or self._ownership.has_come():
                self._take_over()
            self._identities.watch()
            self._growth.watch()
            committed = self._consume_and_commit() if self._backlog is None else self._catch_up()
        except SupersededError:
            return False
        except TransientError as problem:
            self._start_over(problem)
            return False
        waited = self._backoff.waits
        self._backoff.stepped(past=self._outage.is_over(self._chain.positions))
        if waited and not self._backoff.waits:
            self._metrics.observe_readiness(self._health.ready)
        self._health.advanced()
        return committed

    def write_out(self) -> None:
        """Let tasks that buffer read on to the end and write what they hold, for a bounded time: a run that was short is whole in the lake."""
        buffering = [running.task for chain in self._chain.tasks.values() for running in chain if running.task.buffered is not None]
        if not buffering or self._backlog is not None:
            return
        self._steps.stop()
        deadline = self._timer() + _WRITE_OUT_S
        while not self._tenure.is_over and self._timer() < deadline:
            self.step()
            if set(self._chain.reading()) <= set(self._source.caught_up) and not any(task.buffered for task in buffering):
                return
        log.warning("stops with records that are not written yet; the next start goes on with them")

    def forget_tasks(self) -> None:
        """Have no tasks any more: the process ends."""
        self._health.set_ready(False)
        self._chain.drop()

    def _consume_and_commit(self) -> bool:
        self._search.try_ticks()
        inputs = self._source.consume(self._steps.limit, self._settings.idle_interval_ms / 1000, self._steps.linger_s)
        if self._tenure.is_over or not self._chain.tasks:
            return False
        for records in inputs:
            self._metrics.count_read(records.topic, len(records))
        self._outage.give(inputs)
        shares = self._chain.shares(inputs)
        verdicts = self._links[0].verdicts
        # Who looks for a culprit makes small steps, each by itself; the others go on as ever.
        searching = [partition for partition in self._chain.tasks if verdicts.searching(partition)]
        calm = [Share(partition, 0, shares[partition]) for partition in self._chain.tasks if partition not in searching]
        committed = self._step_of(calm) if calm else False
        for partition in searching:
            if partition in self._chain.tasks:
                committed |= self._search_on(partition, 0, shares[partition], self._chain.reading())
        return committed

    def _catch_up(self) -> bool:
        """Let a later stage read on in the log; once none is behind, read what is new."""
        assert self._backlog is not None  # noqa: S101 - the caller's branch
        self._tenure.keep()
        behind = next(self._backlog, None)
        if behind is None:
            self._backlog = None
            self._source.assign(self._chain.reading())
            self._become_ready()
            return False
        partition, stage, records = behind
        self._outage.give([records])
        return self._search_on(partition, stage, {stage: [records]})

    def _search_on(
        self, partition: int, stage: int, share: Mapping[int, Sequence[Records]], reads_on: Mapping[TopicPartition, int] | None = None
    ) -> bool:
        """Give a task records in small steps if its search wants that, once children have tried them; True when a transaction was committed.

        Parameters
        ----------
        reads_on
            Where the source reads on; None: it does not read.
        """
        committed, rest = False, share
        while partition in self._chain.tasks:
            stretch, rest = self._search.stretch(partition, stage, rest)
            if not self._search.survives(partition, stage, stretch, reads_on):
                self._restore_again()
                break
            committed |= self._give(partition, stage, stretch)
            if not rest:
                break
        return committed

    def _give(self, partition: int, stage: int, share: Mapping[int, Sequence[Records]]) -> bool:
        committed, verdicts, rest = False, self._links[stage].verdicts, share
        while partition in self._chain.tasks:
            piece, rest = first_records(rest, verdicts.limit(partition, self._settings.max_batch))
            committed |= self._step_of([Share(partition, stage, piece)])
            if not rest:
                break
        return committed

    def _step_of(self, shares: Sequence[Share]) -> bool:
        """Let tasks make a step and go on as it ended; True when a transaction was committed."""
        end = self._steps.make(shares)
        if end is StepEnd.UNDONE:
            self._restore_again()
        elif end is StepEnd.STAGE_LEFT_OUT:
            # What is new waits until that stage has caught up in the log.
            self._source.assign({})
            self._backlog = self._chain.backlog()
        elif end is StepEnd.PAUSES_CHANGED and self._backlog is None:
            self._source.assign(self._chain.reading())
        return end not in (StepEnd.UNDONE, StepEnd.UNCHANGED)

    def _restore_again(self) -> None:
        """Undo the step and have the tasks rebuilt from the log, in this process."""
        self._metrics.count_abort("isolation")
        self._drop()
        self._tenure.end()
        self._clients.abort()

    def _acknowledge(self) -> bool:
        try:
            self._steps.acknowledge()
        except TransientError as problem:
            self._backoff.wait(problem, self._tenure.stop)
            self._metrics.observe_readiness(self._health.ready)
            return False
        return True

    def _take_over(self) -> None:
        """Drop the tasks and restore those the group assigns."""
        self._drop()
        assignment = self._tenure.begin()
        self._metrics.count_rebalance()
        self._source.assign({})
        self._restores.retry_at = None
        owned = self._ownership.free(self._topics.owned(assignment))
        self._tenure.keep()
        self._ownership.claim(owned)
        self._identities.look()
        tasks = self._restores.chains(owned)
        self._tenure.keep()
        self._chain.take_up(tasks)
        self._chain.find_ends()
        if self._chain.is_behind:
            self._backlog = self._chain.backlog()
        else:
            self._source.assign(self._chain.reading())
            self._become_ready()
        log.info("assigned", extra={"tasks": sorted(tasks), "epoch": assignment.epoch})

    def _become_ready(self) -> None:
        self._health.set_ready(bool(self._chain.tasks))
        self._metrics.observe_readiness(self._health.ready)

    def _drop(self) -> None:
        self._chain.drop()
        self._steps.drop()
        self._backlog = None
        self._health.set_ready(False)
        self._metrics.observe_readiness(False)

    def _start_over(self, problem: TransientError) -> None:
        self._metrics.count_abort("transient")
        if isinstance(problem, ServerAwayError):
            self._outage.undo_step()
        self._drop()
        self._tenure.end()
        try:
            self._clients.abort()
        except TransientError as second:
            log.warning("the transaction cannot be aborted now: once more before the next step", extra={"error": str(second)})
        self._backoff.wait(problem, self._tenure.stop)
