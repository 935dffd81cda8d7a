"""The only Kafka loop: consume, let the tasks make a step, commit outputs, state, progress and offsets in one transaction."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from shared.observability.health import Health
from shared.observability.metrics import Metrics
from shared.observability.settings import RunnerSettings
from shared.streaming.broker import Broker
from shared.streaming.crash_log import CrashLog
from shared.streaming.dead_letters import DeadLetterLimit, DeadLetters
from shared.streaming.errors import TransientError
from shared.streaming.isolation import CrashVerdicts
from shared.streaming.layout import Layout
from shared.streaming.progress import RecordCodecPort
from shared.streaming.records import Records, TopicPartition
from shared.streaming.restore import Restore
from shared.streaming.running_task import Outcome, RunningTask, TaskFactory
from shared.streaming.task import StepContext, TaskInputs

log = logging.getLogger(__name__)
_CLOSING_S = 10.0


class _SupersededError(Exception):
    """The assignment changed, or the process was asked to stop, while state was being restored."""


class _TaskCrashedError(Exception):
    """A task raised; carries to the loop which one, on what, and why."""

    def __init__(self, running: RunningTask, inputs: Sequence[Records], cause: BaseException) -> None:
        super().__init__(running.partition)
        self.running = running
        self.inputs = inputs
        self.cause = cause


class Runner:
    """Runs the tasks of one stage that the consumer group assigns to this instance.

    Exactly once: outputs, a share of the state, the progress record and the group's offsets are one transaction, and after any
    failure the tasks are rebuilt from what is committed. Error fates: TransientError aborts, waits, rebuilds and retries;
    anything else leaves the process, nothing of the step committed. After `crash_limit` crashes at one place the batch is bisected
    and the culprit quarantined as a dead letter, a verdict that the progress record keeps and replays obey.

    Parameters
    ----------
    app, stage, instance
        Names: group ``<app>-<stage>``, transactional id ``<app>-<stage>-<instance>``.
    inputs, partitions
        What the tasks read; number of tasks (1 when gathered).
    task_factory
        Makes task p, empty.
    codec
        Of `tidemill.Progress`.
    dead_letters
        Where quarantined records go.
    clock_ms
        Processing time, handed to the tasks.
    """

    def __init__(
        self,
        *,
        app: str,
        stage: str,
        instance: str,
        broker: Broker,
        inputs: TaskInputs,
        partitions: int,
        task_factory: TaskFactory,
        codec: RecordCodecPort,
        dead_letters: DeadLetters,
        settings: RunnerSettings | None = None,
        metrics: Metrics | None = None,
        health: Health | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings or RunnerSettings()
        self._metrics = metrics or Metrics(stage)
        self._health = health or Health()
        self._clock_ms = clock_ms
        self._layout = Layout.of(app, stage, inputs, partitions, broker)
        self._source = broker.source(self._layout.group, instance)
        self._sink = broker.transactional_sink(f"{app}-{stage}-{instance}")
        self._reader = broker.reader()
        self._restore = Restore(self._layout, self._source, self._reader, codec, dead_letters, instance, task_factory, self._keep_alive)
        limits = self._settings
        self._limit = DeadLetterLimit(limits.dead_letter_share, limits.dead_letter_window, limits.dead_letter_run, dead_letters.topic)
        self._verdicts = CrashVerdicts(CrashLog(limits.state_folder / f"{app}-{stage}-{instance}.crash.json"), limits.crash_limit)
        self._tasks: dict[int, RunningTask] = {}
        self._unacknowledged: list[RunningTask] = []
        self._epoch: int | None = None
        self._opened = False
        self._failures = 0
        self._last_commit = 0.0
        self._stop = threading.Event()

    @property
    def tasks(self) -> dict[int, RunningTask]:
        """Tasks at work, by partition."""
        return self._tasks

    def run(self, stop: threading.Event) -> None:
        """Make steps until `stop` is set; whatever a step raises ends the run."""
        self._stop = stop
        try:
            while not stop.is_set():
                self.step()
        except BaseException as problem:
            # Said before closing: a client with a fatal error may never come back from it, and then nobody would learn why.
            log.error("ends", extra={"error": f"{type(problem).__name__}: {problem}"})
            closing = threading.Thread(target=self._close_after, args=(problem,), name="closing", daemon=True)
            closing.start()
            closing.join(_CLOSING_S)
            if closing.is_alive():
                problem.add_note(f"the clients did not close within {_CLOSING_S:.0f} s")
            raise
        self.close()

    def step(self) -> bool:
        """Make one step; True when a transaction was committed."""
        self._open()
        try:
            if not self._acknowledge():
                return False
            if self._epoch != self._source.assignment.epoch:
                self._take_over()
            committed = self._consume_and_commit()
        except _SupersededError:
            return False
        except TransientError as problem:
            self._start_over(problem)
            return False
        self._failures = 0
        self._health.advanced()
        return committed

    def close(self) -> None:
        """Abort what is open and leave."""
        self._health.set_ready(False)
        self._tasks = {}
        self._sink.close()
        self._source.close()
        self._reader.close()

    def _close_after(self, problem: BaseException) -> None:
        try:
            self.close()
        except Exception as second:
            problem.add_note(f"closing failed as well: {second}")

    def _open(self) -> None:
        if not self._opened:
            self._sink.open()
            self._source.subscribe(self._layout.inputs.partitioned)
            self._epoch = self._source.assignment.epoch
            self._opened = True

    def _consume_and_commit(self) -> bool:
        since_commit = time.monotonic() - self._last_commit
        linger_s = max(0.0, self._settings.commit_interval_ms / 1000 - since_commit)
        inputs = self._source.consume(self._verdicts.limit(self._settings.max_batch), self._settings.idle_interval_ms / 1000, linger_s)
        if self._source.assignment.epoch != self._epoch or not self._tasks:
            return False
        for records in inputs:
            self._metrics.count_read(records.topic, len(records))
        try:
            outcomes = self._process(inputs)
        except _TaskCrashedError as crash:
            culprit = self._verdicts.judge(crash.running, crash.inputs, crash.cause)
            if culprit is not None:
                self._metrics.count_quarantined(culprit.topic)
            self._metrics.count_abort("isolation")
            self._drop()
            self._epoch = None
            return False
        self._limit.observe(sum(outcome.read for _, outcome in outcomes), sum(outcome.refused for _, outcome in outcomes))
        changed = [(running, outcome) for running, outcome in outcomes if outcome.changed]
        if changed:
            self._commit(changed)
        self._verdicts.passed(inputs, [running.partition for running, _ in changed])
        return bool(changed)

    def _process(self, inputs: list[Records]) -> list[tuple[RunningTask, Outcome]]:
        context = StepContext(self._clock_ms(), self._source.caught_up)
        shares: dict[int, list[Records]] = {partition: [] for partition in self._tasks}
        for records in inputs:
            for partition in self._layout.readers(TopicPartition(records.topic, records.partition), self._tasks):
                shares[partition] += self._tasks[partition].unread(records)
        outcomes = []
        begun = time.monotonic()
        for partition, running in self._tasks.items():
            try:
                outcome = running.process(shares[partition], context, self._settings.checkpoint_interval_ms, self._settings.checkpoint_bytes)
            except (TransientError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as problem:  # a panic of a native library is no Exception
                raise _TaskCrashedError(running, shares[partition], problem) from problem
            outcomes.append((running, outcome))
        self._metrics.observe_process(time.monotonic() - begun)
        return outcomes

    def _commit(self, changed: list[tuple[RunningTask, Outcome]]) -> None:
        self._last_commit = time.monotonic()
        self._sink.begin()
        offsets: dict[TopicPartition, int] = {}
        for running, outcome in changed:
            for emission in [*outcome.emissions, running.progress_emission(outcome.progress)]:
                self._sink.produce(emission)
            offsets.update(outcome.group_offsets)
        # Also without offsets: the group's generation is what fences a member that has lost its partitions.
        self._sink.send_offsets(offsets or self._known_offset(changed), self._source.membership())
        self._sink.commit()
        self._metrics.count_commit(time.monotonic() - self._last_commit)
        for running, outcome in changed:
            running.accept(outcome)
            self._unacknowledged.append(running)
            self._metrics.observe_coverage(running.partition, outcome.progress.covered_time)
            self._metrics.count_dead_letters(outcome.refused)
            self._metrics.count_checkpoint(outcome.checkpoint_bytes)
            for emission in outcome.emissions:
                self._metrics.count_written(emission.topic, len(emission))

    def _known_offset(self, changed: list[tuple[RunningTask, Outcome]]) -> dict[TopicPartition, int]:
        running, outcome = changed[0]
        offsets = outcome.progress.input_offsets
        return {partition: offsets[partition] for partition in self._layout.grouped(running.partition) if partition in offsets}

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
        tasks: dict[int, RunningTask] = {}
        positions: dict[TopicPartition, int] = {}
        for partition in self._layout.owned(assignment):
            begun = time.monotonic()
            tasks[partition] = self._restore.restore(partition)
            self._metrics.observe_restore(partition, time.monotonic() - begun)
            tasks[partition].reading = self._restore.positions(tasks[partition])
            for address, position in tasks[partition].reading.items():
                positions[address] = min(position, positions.get(address, position))
            self._verdicts.take_up(tasks[partition])
        self._keep_alive()
        self._source.assign(positions)
        self._tasks = tasks
        self._health.set_ready(bool(tasks))
        self._metrics.observe_readiness(bool(tasks))
        log.info("assigned", extra={"tasks": sorted(tasks), "epoch": assignment.epoch})

    def _keep_alive(self) -> None:
        self._health.advanced()
        self._source.consume(1, 0.0)
        if self._source.assignment.epoch != self._epoch or self._stop.is_set():
            raise _SupersededError

    def _drop(self) -> None:
        self._tasks = {}
        self._unacknowledged = []
        self._health.set_ready(False)
        self._metrics.observe_readiness(False)

    def _start_over(self, problem: TransientError) -> None:
        self._metrics.count_abort("transient")
        self._sink.abort()
        self._drop()
        self._epoch = None
        self._wait_after(problem)

    def _wait_after(self, problem: TransientError) -> None:
        self._failures += 1
        if self._failures > self._settings.retries:
            raise RuntimeError(f"stage {self._layout.stage}: still failing after {self._settings.retries} retries: {problem}") from problem
        wait_ms = min(self._settings.backoff_max_ms, self._settings.backoff_initial_ms * 2 ** (self._failures - 1))
        log.warning("transient error, trying again", extra={"wait_ms": wait_ms, "failures": self._failures, "error": str(problem)})
        self._stop.wait(wait_ms / 1000)
