"""The only Kafka loop: consume, let the tasks make a step, commit outputs, state, progress and offsets in one transaction."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from tidemill.shared.log.broker import Broker, Reader
from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.backoff import Backoff
from tidemill.shared.runner.chain import Chain, LinkedStage
from tidemill.shared.runner.chain_step import ChainStep, StepClocks
from tidemill.shared.runner.commit_report import CommitReport
from tidemill.shared.runner.crash_log import CrashLog
from tidemill.shared.runner.crash_search import CrashSearch
from tidemill.shared.runner.crash_verdicts import CrashVerdicts
from tidemill.shared.runner.culprit_walk import CulpritWalk
from tidemill.shared.runner.dead_letters import DeadLetters
from tidemill.shared.runner.death_note import DeathNote
from tidemill.shared.runner.death_verdicts import DeathVerdicts
from tidemill.shared.runner.flood_report import FloodReport
from tidemill.shared.runner.guarded_restore import GuardedRestore
from tidemill.shared.runner.host_clocks import steady_ms, steady_of, wall_ms
from tidemill.shared.runner.lent_broker import Lender
from tidemill.shared.runner.offer import MakeStage
from tidemill.shared.runner.ownership import Precedence
from tidemill.shared.runner.progress import RecordCodecPort
from tidemill.shared.runner.rehearsal import Rehearsal, RehearsedTask, StepObserver
from tidemill.shared.runner.restore import Restore
from tidemill.shared.runner.running_task import RunningTask
from tidemill.shared.runner.stage_child import StageChild
from tidemill.shared.runner.stage_clients import StageClients
from tidemill.shared.runner.stage_loop import StageLoop
from tidemill.shared.runner.stage_topics import StageTopics
from tidemill.shared.runner.take_over import Rival, TakeOver
from tidemill.shared.runner.task import Stage
from tidemill.shared.runner.tenure import Tenure
from tidemill.shared.runner.topic_growth import TopicGrowth
from tidemill.shared.runner.topic_identity import TopicIdentities
from tidemill.shared.runner.trials import CrashTrials

log = logging.getLogger(__name__)
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
        steady = steady_of(timer) if timer is not None else steady_ms if clock_ms is None else None
        self._timer = timer or time.monotonic
        topics = [StageTopics.of(app, stage.name, stage.inputs, partitions, broker, lead if k else None) for k, stage in enumerate(stages)]
        self._name = name or lead
        self._topics = topics[0]
        # Both topologies have processes in the leading stage's group: under one name they would end each other again and again.
        self._source = broker.source(self._topics.group, instance if name is None else f"{name}-{instance}")
        self._writer = f"{app}-{self._name}-{instance}"
        self._sink = broker.transactional_sink(self._writer)
        self._reader = broker.reader()
        self._tenure = Tenure(self._source, self._health)
        self._clients = StageClients(self._source, self._sink, self._reader, self._topics.inputs.partitioned)
        gives_way = precedence(self._reader) if precedence is not None else None
        ownership = TakeOver(broker, self._source, self._sink, self._writer, topics, rivals, gives_way, self._timer)
        limits = self._settings
        letters = {stage.name: dead_letters(stage.name) for stage in stages}
        self._identities = TopicIdentities(
            broker,
            [name for each in topics for name in (*each.identified, each.progress)],
            limits.topic_check_ms / 1000,
            self._timer,
            limits.accept_topics,
            sole=[name for stage in stages for name in stage.inputs.sole_outputs],
            shared=[name for stage in stages for name in (*stage.inputs.other_outputs, letters[stage.name].topic)],
        )
        counts = {name: each.counts[name] for each in topics for name in each.inputs.broadcast}
        floods = FloodReport(letters[lead].topic, self._metrics, self._health)
        self._note = DeathNote(limits.state_folder / f"{app}-{self._name}-{instance}.note")
        self._links = [self._link(number, stage, topics, codec(stage.name), letters[stage.name], instance) for number, stage in enumerate(stages)]
        crashed_before = self._note.death is not None or any(link.verdicts.any for link in self._links)
        fresh_until = self._timer() + _FRESH_S if crashed_before else 0.0
        self._chain = Chain(self._links, self._reader, limits.max_batch, self._note)
        self._search = CrashSearch(
            self._links, self._chain, self._source, self._timer, fresh_until, self._identities.look, limits.max_batch, self._clock_ms
        )
        self._lender = Lender(broker, self._reader, self._source)
        self._children = limits.state_folder / f"{app}-{self._name}-{instance}.child"
        self._loop = StageLoop(
            topics=self._topics,
            source=self._source,
            clients=self._clients,
            tenure=self._tenure,
            ownership=ownership,
            identities=self._identities,
            growth=TopicGrowth(broker, counts, limits.topic_check_ms / 1000, self._timer),
            restores=self._guarded_restore(floods, fresh_until),
            chain=self._chain,
            links=self._links,
            steps=self._chain_step(floods, steady),
            search=self._search,
            backoff=Backoff(self._name, limits, self._health),
            settings=limits,
            metrics=self._metrics,
            health=self._health,
            timer=self._timer,
        )

    def _guarded_restore(self, floods: FloodReport, fresh_until: float) -> GuardedRestore:
        limits = self._settings
        return GuardedRestore(
            self._links,
            self._topics.group,
            self._note,
            self._timer,
            fresh_until,
            FloodLimits(limits.dead_letter_share, limits.dead_letter_window, limits.dead_letter_run),
            floods,
            self._metrics,
            self._health,
        )

    def _chain_step(self, floods: FloodReport, steady: Callable[[], int] | None) -> ChainStep:
        return ChainStep(
            self._chain,
            self._links,
            self._source,
            self._sink,
            self._search,
            self._note,
            CommitReport(floods, self._metrics, self._health),
            self._settings,
            self._metrics,
            self._health,
            StepClocks(self._clock_ms, steady, self._timer),
        )

    def _link(
        self, number: int, stage: Stage, chain: Sequence[StageTopics], codec: RecordCodecPort, letters: DeadLetters, instance: str
    ) -> LinkedStage:
        limits, topics = self._settings, chain[number]
        # No group holds offsets of the stages behind the first: without this, a progress topic made anew would look like a stage that never ran.
        behind = [each.progress for each in chain[1:] if number == 0]
        identified = list(dict.fromkeys([*topics.identified, *behind, *sorted(stage.inputs.outputs), letters.topic]))
        restore = Restore(
            topics,
            self._source,
            self._reader,
            codec,
            letters,
            instance,
            self._writer,
            stage.task,
            self._tenure.keep,
            self._identities,
            identified,
            limits.accept_torn,
        )
        crash_log = CrashLog(limits.state_folder / f"{topics.app}-{stage.name}-{instance}.crash.json", self._note.advanced)
        verdicts = CrashVerdicts(crash_log, limits.crash_limit, self._timer)
        deaths = DeathVerdicts(crash_log, limits.crash_limit, verdicts)
        return LinkedStage(topics, restore, verdicts, deaths, CrashTrials(number, restore, verdicts, limits.max_batch, self._clock_ms))

    def use_children(self, make: MakeStage, modules: Sequence[str] = ()) -> None:
        """Have child processes try what has ended this one without an exception, instead of dying of it again and again.

        Parameters
        ----------
        make
            Makes a runner like this one in the child. Its tasks must do nothing outside of Kafka while they process.
        modules
            Loaded once for all children.
        """
        limits = self._settings
        child = StageChild(make, self._children, limits.trial_timeout_s, limits.trial_memory_bytes, modules)
        self._search.use_children(CulpritWalk(child, self._lender, self._tenure.keep, limits.max_batch, self._clock_ms))

    def note_faults(self) -> None:
        """Have native faults (SIGSEGV and the like) written down for the next process: it need not die once more to know that it was no kill."""
        self._note.watch_faults()

    def note_hang(self) -> None:
        """Write down that the process is ended because it hangs."""
        self._note.hangs()

    def bring_back(self, rehearsal: Rehearsal, told: StepObserver) -> RehearsedTask:
        """Bring a task back whose steps are never committed, in a child process: see `use_children`."""
        self._tenure.begin()
        return RehearsedTask(self._links[rehearsal.stage].restore, rehearsal, told)

    @property
    def tasks(self) -> dict[int, RunningTask]:
        """Tasks of the (first) stage at work, by partition."""
        return {partition: chain[0] for partition, chain in self._chain.tasks.items()}

    def run(self, stop: threading.Event) -> None:
        """Make steps until `stop` is set; whatever a step raises ends the run."""
        self._tenure.stop = stop
        try:
            while not stop.is_set():
                self.step()
            self._loop.write_out()
        except BaseException as problem:
            # Said before closing: a client with a fatal error may never come back from it, and then nobody would learn why.
            log.error("ends", extra={"error": f"{type(problem).__name__}: {problem}"})
            self._loop.forget_tasks()
            self._clients.close_after(problem)
            raise
        self.leave()

    def step(self) -> bool:
        """Make one step; True when a transaction was committed."""
        return self._loop.step()

    def write_out(self) -> None:
        """Let tasks that buffer write what they hold: see `StageLoop.write_out`."""
        self._loop.write_out()

    def leave(self) -> None:
        """End in good order: what is open is aborted, then the other instances have the partitions."""
        self._loop.forget_tasks()
        self._clients.close(leave=True)

    def close(self) -> None:
        """Abort what is open and stop; the group keeps the partitions for an instance of this name, which is to start again."""
        self._loop.forget_tasks()
        self._clients.close(leave=False)
