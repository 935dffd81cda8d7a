"""What a running stage does about crashes: who ends the process, which task searches, what children are to try first."""

from collections.abc import Callable, Mapping, Sequence

from tidemill.shared.kafka.bounded_calls import CallHangsError
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import BrokerUnreachableError, FencedError, Source
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.chain import Chain, LinkedStage, TaskCrashedError, Work
from tidemill.shared.runner.crash_log import ends_of
from tidemill.shared.runner.crash_verdicts import CrashVerdict
from tidemill.shared.runner.culprit_walk import Culprits, CulpritWalk, Survives
from tidemill.shared.runner.rehearsal import Rehearsal
from tidemill.shared.runner.shares import Share, until


class CrashSearch:
    """Asks the verdicts of a chain's stages what a crash leads to, and lets children try what has ended the process.

    Parameters
    ----------
    links, chain
        The stages, and their tasks at work.
    source
        Reads nothing while children are at work: whoever stays in the group meanwhile would lose what comes.
    timer, fresh_until
        Steady seconds, and until when a task's crash ends no process.
    look_at_topics
        Raises where a topic was made anew: what stands at the old positions may crash a task, and no record of it is at fault.
    max_batch
        Records per step outside of a search.
    clock_ms
        Processing time of the steps that children make.
    """

    def __init__(
        self,
        links: Sequence[LinkedStage],
        chain: Chain,
        source: Source,
        timer: Callable[[], float],
        fresh_until: float,
        look_at_topics: Callable[[], None],
        max_batch: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self._links = links
        self._chain = chain
        self._source = source
        self._timer = timer
        self._fresh_until = fresh_until
        self._look_at_topics = look_at_topics
        self._max_batch = max_batch
        self._clock_ms = clock_ms
        self._walk: CulpritWalk | None = None
        # By stage and partition, the last offsets of a stretch whose culprits are known, of one that was cut short.
        self._cuts: dict[tuple[int, int], Mapping[TopicPartition, int]] = {}

    def use_children(self, walk: CulpritWalk) -> None:
        """Have child processes try what has ended this one without an exception."""
        self._walk = walk
        for link in self._links:
            link.verdicts.use_children()
            link.trials.use_children(walk.go)

    def stretch(
        self, partition: int, stage: int, share: Mapping[int, Sequence[Records]]
    ) -> tuple[Mapping[int, Sequence[Records]], Mapping[int, Sequence[Records]]]:
        """Split what tasks are to be given: what is tried and committed by itself first, so that no child is given it again, and the rest."""
        cut = self._cuts.get((stage, partition))
        if cut is None or not self._links[stage].verdicts.tries_in_children(partition):
            return share, {}
        before, behind = until(share, stage, cut)
        if before:
            return before, behind
        del self._cuts[stage, partition]
        return share, {}

    def survives(
        self, partition: int, stage: int, share: Mapping[int, Sequence[Records]], reads_on: Mapping[TopicPartition, int] | None = None
    ) -> bool:
        """Let children try what a task is to be given next, if such has ended the process; False when its tasks are to be restored instead.

        Parameters
        ----------
        share
            A `stretch`.
        reads_on
            Where the source is to read on afterwards; None: it does not read.
        """
        verdicts, records = self._links[stage].verdicts, list(share.get(stage, ()))
        if self._walk is None or not any(map(len, records)) or not verdicts.tries_in_children(partition):
            return True
        running = self._chain.tasks[partition][stage]
        if reads_on is not None:
            self._source.assign({})
        finding = self._walk.find(stage, running, records)
        if isinstance(finding, Survives):
            verdicts.survives(partition, finding.size, again=(stage, partition) in self._cuts)
            if reads_on is not None:
                self._source.assign({place: reads_on.get(place, position) for place, position in self._chain.reading().items()})
            return True
        if isinstance(finding, Culprits) and finding.cut_at:
            self._cuts[stage, partition] = finding.cut_at
        verdicts.learn(partition, finding, ends_of(records))
        return False

    def try_ticks(self) -> None:
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
                ending = self._walk.go(Rehearsal(stage, partition, self._clock_ms(), self._max_batch, chain[stage].owed, held=given))
                if ending.survived:
                    link.verdicts.tick_survived(partition)
                else:
                    link.verdicts.mute(partition)
                self._source.assign(self._chain.reading())

    def judge(self, crash: TaskCrashedError) -> None:
        """Count a task's crash; what it leads to follows with the next restore.

        Raises
        ------
        BaseException
            The crash's cause, if the process is to end with it.
        TopicRemadeError
            A topic was made anew; nothing is counted.
        """
        if isinstance(crash.cause, (TransientError, KeyboardInterrupt, SystemExit)):
            raise crash.cause from crash
        self._look_before_the_first(crash.stage, crash.running.partition)
        verdict = self._links[crash.stage].verdicts.judge(crash.running, crash.inputs, crash.cause, crash.follows)
        if verdict is CrashVerdict.END and self._timer() >= self._fresh_until:
            raise crash.cause

    def refused(self, problem: Exception, works: Sequence[Work], shares: Sequence[Share]) -> None:
        """Count a step whose outputs could not be written, if they are at fault and not the connection or a successor.

        Raises
        ------
        Exception
            `problem`, if no record of the step is at fault or the process is to end with it.
        TopicRemadeError
            A topic was made anew; nothing is counted.
        """
        outside = isinstance(problem, (TransientError, FencedError, BrokerUnreachableError, CallHangsError, KafkaFailureError))
        first = {share.partition: share.first for share in shares}
        # Of several stages the last: what is left out of the next step shows whether it was one before.
        suspects = {work.running.partition: work for work in works if any(map(len, work.inputs))}
        if outside or not suspects:
            raise problem
        for partition, work in suspects.items():
            self._look_before_the_first(work.stage, partition)
        verdicts = [
            self._links[work.stage].verdicts.refused(work.running, work.inputs, problem, work.stage > first[partition], len(suspects) == 1)
            for partition, work in suspects.items()
        ]
        if CrashVerdict.END in verdicts and self._timer() >= self._fresh_until:
            raise problem

    def _look_before_the_first(self, stage: int, partition: int) -> None:
        """Look whether topics are what they were; in a search each restore has done so."""
        if not self._links[stage].verdicts.searching(partition):
            self._look_at_topics()
