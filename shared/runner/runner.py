"""The only Kafka loop: consume, let the tasks make a step, commit outputs, state, progress and offsets in one transaction."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tidemill.shared.kafka.bounded_calls import CallHangsError
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import Broker, BrokerUnreachableError, FencedError, Reader
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.log.flood import FloodLimits, Throttle
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.chain import Chain, Link, TaskCrashedError, Work
from tidemill.shared.runner.crash_log import CrashLog
from tidemill.shared.runner.culprit_walk import CulpritWalk, Survives
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.death_note import DeathNote
from tidemill.shared.runner.flood_report import FloodReport
from tidemill.shared.runner.guarded_restore import GuardedRestore
from tidemill.shared.runner.host_clocks import steady_ms, steady_of, wall_ms
from tidemill.shared.runner.isolation import CrashVerdicts, Verdict
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.ownership import Precedence
from tidemill.shared.runner.progress import RecordCodecPort
from tidemill.shared.runner.rehearsal import Rehearsal, Told, perform
from tidemill.shared.runner.restore import Restore, SupersededError
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.shares import Share, first_records
from tidemill.shared.runner.stage_child import MakeStage, StageChild
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.step_transaction import StepTransaction
from tidemill.shared.runner.take_over import Rival, TakeOver
from tidemill.shared.runner.task import Stage, StepContext
from tidemill.shared.runner.topic_identity import TopicIdentities
from tidemill.shared.runner.trials import Trials

log = logging.getLogger(__name__)
_CLOSING_S = 10.0
_WRITE_OUT_S = 3.0
_WAITS = "waiting for a server"
_DOUBLINGS = 30
# A step is written while it goes on if the one before took less: far less than the broker lets a transaction stand open.
_SHORT_S = 0.5
# A process that was started again after a crash does not end over another one so soon: what crashes in it is not its age.
_FRESH_S = 300.0


class Runner:
    """Runs the tasks of one stage that the consumer group assigns to this instance.

    Exactly once: outputs, a share of the state, the progress record and the group's offsets are one transaction, and after any
    failure the tasks are rebuilt from what is committed. Error fates: TransientError aborts, waits, rebuilds and retries
    (`retries` times, and for as long as it takes where a server beside Kafka is away: ServerAwayError);
    anything else leaves the process, nothing of the step committed. In a process that was started after a crash (and is younger
    than five minutes) tasks that crash are rebuilt in place. After `crash_limit` crashes at one place (two, where the process died
    without an exception) the culprit is looked for in ever smaller steps and quarantined as a dead letter, a verdict that the
    checkpoint topic keeps and replays obey; the other tasks go on meanwhile. A task that crashes whatever it is given is set aside and
    tried again after growing pauses.

    Parameters
    ----------
    app, instance
        Names: group ``<app>-<first stage>``, transactional id ``<app>-<name>-<instance>``.
    stages
        A stage, and those that read what it writes: they run in the same process and the same transaction (`tidemill.shared.runner.chain`).
    partitions
        Number of tasks of each stage (1 when gathered).
    name
        Of the chain, for its transactional id, logs and metrics; by default the first stage.
    rivals
        Processes of the other topology under this instance's name.
    precedence
        Makes, of a reader, whom the tasks give way to; None when there is nobody.
    codec
        Makes, of a stage's name, the codec of its progress records.
    dead_letters
        Makes, of a stage's name, where its quarantined records go.
    clock_ms
        Processing time, handed to the tasks; by default the host's, with a steady clock beside it that shows when the host's is set.
    timer
        Steady seconds, for the cadence of commits and for metrics; a simulation passes its own, which is then the steady clock beside `clock_ms`.
    """

    def __init__(
        self,
        *,
        app: str,
        stages: Sequence[Stage],
        instance: str,
        broker: Broker,
        partitions: int,
        codec: Callable[[str], RecordCodecPort],
        dead_letters: Callable[[str], DeadLetters],
        name: str | None = None,
        rivals: Sequence[Rival] = (),
        precedence: Callable[[Reader], Precedence] | None = None,
        settings: RunnerSettings | None = None,
        metrics: Metrics | None = None,
        health: ProcessHealth | None = None,
        clock_ms: Callable[[], int] | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings or RunnerSettings()
        lead = stages[0].name
        self._metrics = metrics or Metrics(lead)
        self._health = health or ProcessHealth()
        self._clock_ms = clock_ms or wall_ms
        self._steady_ms = steady_of(timer) if timer is not None else steady_ms if clock_ms is None else None
        self._timer = timer or time.monotonic
        topics = [StageTopics.of(app, stage.name, stage.inputs, partitions, broker, lead if k else None) for k, stage in enumerate(stages)]
        self._name = name or lead
        self._topics = topics[0]
        # Both topologies have processes in the leading stage's group: under one name they would end each other again and again.
        self._source = broker.source(self._topics.group, instance if name is None else f"{name}-{instance}")
        self._writer = f"{app}-{self._name}-{instance}"
        self._sink = broker.transactional_sink(self._writer)
        self._reader = broker.reader()
        gives_way = precedence(self._reader) if precedence is not None else None
        self._ownership = TakeOver(broker, self._source, self._sink, self._writer, topics, rivals, gives_way, self._timer)
        limits = self._settings
        self._identities = TopicIdentities(
            broker,
            [name for each in topics for name in (*each.identified, each.progress)],
            limits.topic_check_ms / 1000,
            self._timer,
            limits.accept_topics,
        )
        self._throttle = Throttle()
        letters = {stage.name: dead_letters(stage.name) for stage in stages}
        self._floods = FloodReport(letters[lead].topic, self._metrics, self._health)
        self._note = DeathNote(limits.state_folder / f"{app}-{self._name}-{instance}.note")
        self._links = [self._link(number, stage, topics, codec(stage.name), letters[stage.name], instance) for number, stage in enumerate(stages)]
        crashed_before = self._note.death is not None or any(link.verdicts.any for link in self._links)
        self._fresh_until = self._timer() + _FRESH_S if crashed_before else 0.0
        self._restores = GuardedRestore(
            self._links,
            self._topics.group,
            self._note,
            self._timer,
            self._fresh_until,
            FloodLimits(limits.dead_letter_share, limits.dead_letter_window, limits.dead_letter_run),
            self._floods,
            self._metrics,
            self._health,
        )
        self._chain = Chain(self._links, self._reader, limits.max_batch, self._note)
        self._lender = Lender(broker, self._reader, self._source)
        self._children = limits.state_folder / f"{app}-{self._name}-{instance}.child"
        self._walk: CulpritWalk | None = None
        self._backlog: Iterator[tuple[int, int, Records]] | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._unacknowledged: list[RunningTask] = []
        self._epoch: int | None = None
        self._sink_opened = self._opened = False
        # What an abort that failed has left open: nothing is begun before it is dropped.
        self._unaborted = False
        self._failures = 0
        self._last_step = 0.0
        self._took_s = math.inf
        self._stop = threading.Event()
        self._stopping = False

    def _link(self, number: int, stage: Stage, chain: Sequence[StageTopics], codec: RecordCodecPort, letters: DeadLetters, instance: str) -> Link:
        limits, topics = self._settings, chain[number]
        # No group holds offsets of the stages behind the first: without this, a progress topic made anew would look like a stage that never ran.
        identified = [*topics.identified, *(each.progress for each in chain[1:] if number == 0)]
        restore = Restore(
            topics,
            self._source,
            self._reader,
            codec,
            letters,
            instance,
            self._writer,
            stage.task,
            self._keep_alive,
            self._identities,
            identified,
            limits.accept_torn,
        )
        crash_log = CrashLog(limits.state_folder / f"{topics.app}-{stage.name}-{instance}.crash.json", self._note.advanced)
        verdicts = CrashVerdicts(crash_log, limits.crash_limit, self._timer)
        return Link(topics, restore, verdicts, Trials(number, restore, verdicts, limits.max_batch, self._clock_ms))

    def use_children(self, make: MakeStage) -> None:
        """Have child processes try what has ended this one without an exception, instead of dying of it again and again.

        Parameters
        ----------
        make
            Makes a runner like this one in the child. Its tasks must do nothing outside of Kafka while they process.
        """
        limits = self._settings
        child = StageChild(make, self._children, limits.trial_timeout_s, limits.trial_memory_bytes)
        self._walk = CulpritWalk(child, self._lender, self._keep_alive, limits.max_batch, self._clock_ms)
        for link in self._links:
            link.verdicts.use_children()
            link.trials.use_children(self._walk.go)

    def note_faults(self) -> None:
        """Have native faults (SIGSEGV and the like) written down for the next process: it need not die once more to know that it was no kill."""
        self._note.watch_faults()

    def note_hang(self) -> None:
        """Write down that the process is ended because it hangs."""
        self._note.hangs()

    def rehearse(self, rehearsal: Rehearsal, told: Told) -> None:
        """Go through steps that are never committed, in a child process: see `use_children`."""
        self._epoch = self._source.assignment.epoch
        perform(self._links[rehearsal.stage].restore, rehearsal, told)

    @property
    def tasks(self) -> dict[int, RunningTask]:
        """Tasks of the (first) stage at work, by partition."""
        return {partition: chain[0] for partition, chain in self._chain.tasks.items()}

    def run(self, stop: threading.Event) -> None:
        """Make steps until `stop` is set; whatever a step raises ends the run."""
        self._stop = stop
        try:
            while not stop.is_set():
                self.step()
            self.write_out()
        except BaseException as problem:
            # Said before closing: a client with a fatal error may never come back from it, and then nobody would learn why.
            log.error("ends", extra={"error": f"{type(problem).__name__}: {problem}"})
            closing = threading.Thread(target=self._close_after, args=(problem,), name="closing", daemon=True)
            closing.start()
            closing.join(_CLOSING_S)
            if closing.is_alive():
                problem.add_note(f"the clients did not close within {_CLOSING_S:.0f} s")
            raise
        self.leave()

    def step(self) -> bool:
        """Make one step; True when a transaction was committed."""
        try:
            if self._unaborted:
                self._abort()
            self._open()
            if not self._acknowledge():
                return False
            due = self._restores.retry_at is not None and self._timer() >= self._restores.retry_at
            if self._epoch != self._source.assignment.epoch or due or self._ownership.has_come():
                self._take_over()
            self._identities.watch()
            committed = self._consume_and_commit() if self._backlog is None else self._catch_up()
        except SupersededError:
            return False
        except TransientError as problem:
            self._start_over(problem)
            return False
        self._failures = 0
        self._health.report(_WAITS, None)
        self._health.advanced()
        return committed

    def write_out(self) -> None:
        """Let tasks that buffer read on to the end and write what they hold, for a bounded time: a run that was short is whole in the lake."""
        buffering = [running.task for chain in self._chain.tasks.values() for running in chain if running.task.buffered is not None]
        if not buffering or self._backlog is not None:
            return
        self._stopping = True
        deadline = self._timer() + _WRITE_OUT_S
        while self._epoch == self._source.assignment.epoch and self._timer() < deadline:
            self.step()
            if set(self._positions) <= set(self._source.caught_up) and not any(task.buffered for task in buffering):
                return
        log.warning("stops with records that are not written yet; the next start goes on with them")

    def leave(self) -> None:
        """End in good order: what is open is aborted, then the other instances have the partitions."""
        self._let_go()
        if self._opened:
            self._source.leave()
        self._disconnect()

    def close(self) -> None:
        """Abort what is open and stop; the group keeps the partitions for an instance of this name, which is to start again."""
        self._let_go()
        self._disconnect()

    def _let_go(self) -> None:
        self._health.set_ready(False)
        self._chain.drop()
        try:
            self._sink.close()
        except TransientError as problem:
            log.warning("a transaction is left open: who comes next aborts it, or the broker when its time is over", extra={"error": str(problem)})

    def _disconnect(self) -> None:
        self._source.close()
        self._reader.close()

    def _close_after(self, problem: BaseException) -> None:
        try:
            self.close()
        except Exception as second:
            problem.add_note(f"closing failed as well: {second}")

    def _open(self) -> None:
        if not self._sink_opened:
            self._sink.open()
            self._sink_opened = True
        if not self._opened:
            self._source.subscribe(self._topics.inputs.partitioned)
            self._epoch = self._source.assignment.epoch
            self._opened = True

    def _consume_and_commit(self) -> bool:
        self._try_ticks()
        since_step = self._timer() - self._last_step
        linger_s = max(0.0, self._settings.commit_interval_ms / 1000 - since_step)
        flooded = any(running.progress.flooded for running in self.tasks.values())
        limit = self._throttle.limit(self._settings.max_batch) if flooded else self._settings.max_batch
        inputs = self._source.consume(limit, self._settings.idle_interval_ms / 1000, linger_s)
        if self._source.assignment.epoch != self._epoch or not self._chain.tasks:
            return False
        for records in inputs:
            self._metrics.count_read(records.topic, len(records))
        shares = self._chain.shares(inputs)
        verdicts = self._links[0].verdicts
        # Who looks for a culprit makes small steps, each by itself; the others go on as ever.
        searching = [partition for partition in self._chain.tasks if verdicts.searching(partition)]
        calm = [Share(partition, 0, shares[partition]) for partition in self._chain.tasks if partition not in searching]
        committed = self._step_of(calm) if calm else False
        for partition in searching:
            rest = shares[partition]
            if not self._survives(partition, 0, rest, reading=True):
                break
            while partition in self._chain.tasks:
                piece, rest = first_records(rest, verdicts.limit(partition, self._settings.max_batch))
                committed |= self._step_of([Share(partition, 0, piece)])
                if not rest:
                    break
        return committed

    def _catch_up(self) -> bool:
        """Let a later stage read on in the log; once none is behind, read what is new."""
        assert self._backlog is not None  # noqa: S101 - the caller's branch
        self._keep_alive()
        behind = next(self._backlog, None)
        if behind is None:
            self._backlog = None
            self._source.assign(self._positions)
            self._become_ready()
            return False
        partition, stage, records = behind
        committed, rest = False, {stage: [records]}
        if self._survives(partition, stage, rest, reading=False):
            verdicts = self._links[stage].verdicts
            while rest and partition in self._chain.tasks:
                piece, rest = first_records(rest, verdicts.limit(partition, self._settings.max_batch))
                committed |= self._step_of([Share(partition, stage, piece)])
        return committed

    def _survives(self, partition: int, stage: int, share: Mapping[int, Sequence[Records]], reading: bool) -> bool:
        """Let children try what a task is to be given next, if such has ended the process; False when its tasks are to be restored instead.

        Parameters
        ----------
        reading
            Whether the source reads: it does not while children are at work, since whoever stays in the group meanwhile would lose what comes.
        """
        verdicts, records = self._links[stage].verdicts, list(share.get(stage, ()))
        if self._walk is None or not any(map(len, records)) or not verdicts.tries_in_children(partition):
            return True
        running = self._chain.tasks[partition][stage]
        if reading:
            self._source.assign({})
        finding = self._walk.find(stage, running, records)
        if isinstance(finding, Survives):
            verdicts.survives(partition, finding.size)
            if reading:
                self._read_on()
            return True
        verdicts.found(partition, finding)
        self._restore_again()
        return False

    def _try_ticks(self) -> None:
        """Let children try steps without input of tasks that have ended the process in one, once it is time."""
        if self._walk is None:
            return
        for stage, link in enumerate(self._links):
            if not link.verdicts.any:
                continue
            for partition, chain in self._chain.tasks.items():
                if stage >= len(chain) or not link.verdicts.tick_is_due(partition):
                    continue
                self._source.assign({})
                given = chain[stage].given_before()
                ending = self._walk.go(Rehearsal(stage, partition, self._clock_ms(), self._settings.max_batch, chain[stage].owed, held=given))
                if ending.survived:
                    link.verdicts.tick_survived(partition)
                else:
                    link.verdicts.mute(partition)
                self._read_on()

    def _step_of(self, given: Sequence[Share]) -> bool:
        """Let tasks make a step, each partition from some stage on, and commit what has changed."""
        steady_ms = self._steady_ms() if self._steady_ms else None
        context = StepContext(self._clock_ms(), self._source.caught_up, steady_ms, self._chain.output_ends, self._stopping)
        limits = self._settings
        begun = self._timer()
        works: list[Work] = []
        transaction = StepTransaction(self._sink, self._source.membership, len(given), self._known_offset, self._is_short(given))
        try:
            for share in given:
                steps = self._chain.advance(
                    share.partition, share.first, share.records, context, limits.checkpoint_interval_ms, limits.checkpoint_bytes
                )
                for work in steps:
                    works.append(work)
                    transaction.add(work, work.stage == share.first)
        except TaskCrashedError as crash:
            self._judge(crash)
            return False
        except Exception as problem:  # of tasks and clients: `_refused` raises it again unless a record of the step is at fault
            self._refused(problem, works[-1:], given)
            return False
        took_s = self._timer() - begun
        if len({work.stage for work in works if work.inputs}) == len(self._links):
            # One in which every stage had something to do, and has compiled its kernels.
            self._took_s = took_s
            self._health.set_warm(True)
        self._metrics.observe_process(took_s)
        self._throttle.observe(sum(work.outcome.read for work in works if work.stage == 0), took_s)
        changed = transaction.changed
        if changed:
            # From one begin to the next, so that what a step takes is part of the interval and does not come on top of it.
            self._last_step = begun
            try:
                ends = self._commit(transaction)
            except Exception as problem:  # as above
                self._refused(problem, works, given)
                return False
            paused = [work.running.progress.paused for work in changed]
            self._committed(changed, ends)
            if self._chain.committed(ends):
                self._read_log()
            elif self._backlog is None and paused != [work.running.progress.paused for work in changed]:
                self._positions = self._chain.reading()
                self._source.assign(self._positions)
        done = {(work.stage, work.running.partition) for work in changed}
        for work in works:
            place = work.stage, work.running.partition
            self._links[work.stage].verdicts.passed(work.running, work.inputs, place in done)
        return bool(changed)

    def _judge(self, crash: TaskCrashedError) -> None:
        """Count a task's crash; what it leads to follows with the next restore, unless the process must end."""
        if isinstance(crash.cause, (TransientError, KeyboardInterrupt, SystemExit)):
            raise crash.cause from crash
        verdict = self._links[crash.stage].verdicts.judge(crash.running, crash.inputs, crash.cause, crash.follows)
        if verdict is Verdict.END and self._timer() >= self._fresh_until:
            raise crash.cause
        self._restore_again()

    def _refused(self, problem: Exception, works: Sequence[Work], given: Sequence[Share]) -> None:
        """Count a step whose outputs could not be written, if they are at fault and not the connection or a successor."""
        outside = isinstance(problem, (TransientError, FencedError, BrokerUnreachableError, CallHangsError, KafkaFailureError))
        first = {share.partition: share.first for share in given}
        # Of several stages the last: what is left out of the next step shows whether it was one before.
        suspects = {work.running.partition: work for work in works if any(map(len, work.inputs))}
        if outside or not suspects:
            raise problem
        verdicts = [
            self._links[work.stage].verdicts.refused(work.running, work.inputs, problem, work.stage > first[partition], len(suspects) == 1)
            for partition, work in suspects.items()
        ]
        if Verdict.END in verdicts and self._timer() >= self._fresh_until:
            raise problem
        self._restore_again()

    def _restore_again(self) -> None:
        """Undo the step and have the tasks rebuilt from the log, in this process."""
        self._metrics.count_abort("isolation")
        self._drop()
        self._epoch = None
        self._abort()

    def _is_short(self, given: Sequence[Share]) -> bool:
        """Say whether a step is known to take no time to speak of: the one before did not, and nothing but data came (no model to load)."""
        special = (
            records.topic in self._links[stage].topics.inputs.broadcast
            for share in given
            for stage, runs in share.records.items()
            for records in runs
        )
        return self._took_s < _SHORT_S and not any(special)

    def _commit(self, transaction: StepTransaction) -> Mapping[TopicPartition, int]:
        begun = self._timer()
        ends = transaction.commit()
        self._metrics.count_commit(self._timer() - begun)
        self._note.advanced()
        return ends

    def _committed(self, changed: Sequence[Work], ends: Mapping[TopicPartition, int]) -> None:
        for work in changed:
            running, outcome = work.running, work.outcome
            self._floods.tell(running.partition, running.progress, outcome.progress)
            for culprit, _ in running.owed:
                self._metrics.count_quarantined(culprit.topic)
            for place in running.recovered:
                self._health.report(f"offset of {place.topic}:{place.partition}", None)
            running.accept(outcome, ends)
            self._unacknowledged.append(running)
            self._metrics.observe_coverage(running.partition, outcome.progress.covered_time)
            self._metrics.count_dead_letters(outcome.refused)
            self._metrics.count_flagged(outcome.flagged)
            self._metrics.count_checkpoint(outcome.checkpoint_bytes)
            for emission in outcome.emissions:
                self._metrics.count_written(emission.topic, len(emission))

    def _known_offset(self, changed: Sequence[Work]) -> dict[TopicPartition, int]:
        lead = self._chain.tasks[changed[0].running.partition][0]
        offsets = lead.progress.input_offsets
        return {partition: offsets[partition] for partition in self._topics.grouped(lead.partition) if partition in offsets}

    def _acknowledge(self) -> bool:
        while self._unacknowledged:
            try:
                self._unacknowledged[0].task.committed()
            except TransientError as problem:
                self._wait_after(problem)
                return False
            self._unacknowledged.pop(0)
        return True

    def _take_over(self) -> None:
        """Drop the tasks and restore those the group assigns."""
        self._drop()
        assignment = self._source.assignment
        self._epoch = assignment.epoch
        self._metrics.count_rebalance()
        self._source.assign({})
        self._restores.retry_at = None
        tasks: dict[int, list[RunningTask]] = {}
        owned = self._ownership.free(self._topics.owned(assignment))
        self._keep_alive()
        self._ownership.claim(owned)
        self._identities.look()
        for partition in owned:
            begun = self._timer()
            chain: list[RunningTask] = []
            for stage in range(len(self._links)):
                running = self._restores.restore(stage, partition)
                if running is None:
                    # Set aside, and with it what reads what it writes.
                    break
                chain.append(running)
            if chain:
                tasks[partition] = chain
            self._metrics.observe_restore(partition, self._timer() - begun)
        self._keep_alive()
        self._chain.take_up(tasks)
        self._chain.find_ends()
        self._positions = self._chain.reading()
        if len(self._links) > 1 and tasks:
            self._backlog = self._chain.backlog()
        else:
            self._source.assign(self._positions)
            self._become_ready()
        log.info("assigned", extra={"tasks": sorted(tasks), "epoch": assignment.epoch})

    def _become_ready(self) -> None:
        self._health.set_ready(bool(self._chain.tasks))
        self._metrics.observe_readiness(bool(self._chain.tasks))

    def _read_log(self) -> None:
        """Stop reading what is new until the stages that were left out have caught up in the log."""
        self._positions = self._chain.reading()
        self._source.assign({})
        self._backlog = self._chain.backlog()

    def _read_on(self) -> None:
        self._positions = self._chain.reading()
        self._source.assign(self._positions)

    def _keep_alive(self) -> None:
        self._health.advanced()
        self._source.consume(1, 0.0)
        if self._source.assignment.epoch != self._epoch or self._stop.is_set():
            raise SupersededError

    def _drop(self) -> None:
        self._chain.drop()
        self._took_s = math.inf
        self._health.set_warm(False)
        self._backlog = None
        self._unacknowledged = []
        self._health.set_ready(False)
        self._metrics.observe_readiness(False)

    def _start_over(self, problem: TransientError) -> None:
        self._metrics.count_abort("transient")
        self._drop()
        self._epoch = None
        try:
            self._abort()
        except TransientError as second:
            log.warning("the transaction cannot be aborted now: once more before the next step", extra={"error": str(second)})
        self._wait_after(problem)

    def _abort(self) -> None:
        """Drop the open transaction; one that cannot be dropped now is dropped before the next step."""
        self._unaborted = True
        self._sink.abort()
        self._unaborted = False

    def _wait_after(self, problem: TransientError) -> None:
        self._failures += 1
        if isinstance(problem, ServerAwayError):
            # No process is helped by being another one: it waits, live and not ready, for as long as it takes.
            self._health.report(_WAITS, str(problem))
            self._health.advanced()
        elif self._failures > self._settings.retries:
            raise RuntimeError(f"stage {self._name}: still failing after {self._settings.retries} retries: {problem}") from problem
        wait_ms = min(self._settings.backoff_max_ms, self._settings.backoff_initial_ms * 2 ** min(self._failures - 1, _DOUBLINGS))
        log.warning("transient error, trying again", extra={"wait_ms": wait_ms, "failures": self._failures, "error": str(problem)})
        self._stop.wait(wait_ms / 1000)
