"""Restores tasks that may have ended the process before: after the trials that their crashes ask for, or not now."""

from collections.abc import Callable, Sequence

from tidemill.shared.log.flood import FloodLimits
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.runner.chain import LinkedStage
from tidemill.shared.runner.crash_verdicts import CrashVerdict
from tidemill.shared.runner.death_note import DeathNote
from tidemill.shared.runner.flood_report import FloodReport
from tidemill.shared.runner.restore import ReplayCrashedError
from tidemill.shared.runner.running_task import RunningTask


class GuardedRestore:
    """Brings back the tasks of a chain's stages, one at a time.

    Parameters
    ----------
    links
        The stages, in order.
    group
        Consumer group of the first.
    note
        What the process before died of, and what this one would.
    fresh_until
        Until when a task's crash ends no process.
    limits, floods
        Beyond which refused records are a flood, and who is told of one.

    Attributes
    ----------
    retry_at
        When a task that is set aside is to be tried again; None: none is.
    """

    def __init__(
        self,
        links: Sequence[LinkedStage],
        group: str,
        note: DeathNote,
        timer: Callable[[], float],
        fresh_until: float,
        limits: FloodLimits,
        floods: FloodReport,
        metrics: Metrics,
        health: ProcessHealth,
    ) -> None:
        self.retry_at: float | None = None
        self._links = links
        self._group = group
        self._note = note
        # What the process before died of, until its task has been restored.
        self._death = note.death
        self._timer = timer
        self._fresh_until = fresh_until
        self._flood_limits = limits
        self._floods = floods
        self._metrics = metrics
        self._health = health

    def chains(self, partitions: Sequence[int]) -> dict[int, list[RunningTask]]:
        """Restore the tasks of partitions, the stages of each in order.

        A stage that is set aside is missing, and with it those behind it, which read what it writes.
        """
        chains: dict[int, list[RunningTask]] = {}
        for partition in partitions:
            begun = self._timer()
            chain: list[RunningTask] = []
            for stage in range(len(self._links)):
                running = self.restore(stage, partition)
                if running is None:
                    break
                chain.append(running)
            if chain:
                chains[partition] = chain
            self._metrics.observe_restore(partition, self._timer() - begun)
        return chains

    def restore(self, stage: int, partition: int) -> RunningTask | None:
        """Restore a task, after the trials that its crashes ask for; None while it is set aside."""
        link, death = self._links[stage], self._death
        verdicts = link.verdicts
        mine = death is not None and (death.stage, death.partition) == (stage, partition)
        if mine and death is not None and death.restoring:
            self._death = None
            verdicts.restoring_died(partition, "the process ended without an exception", native=True)
        while True:
            until = verdicts.waits_until(partition)
            if until is not None and self._timer() < until:
                break
            verdicts.resumed(partition)
            link.trials.settle(partition)
            until = verdicts.waits_until(partition)
            if until is not None:
                break
            self._note.begin(stage, partition, 0, restoring=True)
            try:
                running = link.restore.restore(partition, verdicts.owed.addresses(partition))
            except ReplayCrashedError as crash:
                error = f"{type(crash.cause).__name__}: {crash.cause}"
                if verdicts.restoring_died(partition, error, native=False) is CrashVerdict.END and self._timer() >= self._fresh_until:
                    raise crash.cause from crash
                continue
            finally:
                self._note.done()
            if mine and death is not None:
                link.deaths.count(running, death, stage > 0, link.restore.record_at)
                self._death, mine = None, False
            verdicts.take_up(running)
            if verdicts.suspected(partition) is None:
                running.limits = self._flood_limits
                self._floods.begin(partition, running.progress)
                self._metrics.observe_suspension(partition, False)
                self._health.report(f"stage {stage} of partition {partition}", None)
                self._report_recovered(running)
                return running
        self._metrics.observe_suspension(partition, True)
        self._health.report(f"stage {stage} of partition {partition}", "crashes whatever it is given; it is set aside and tried again")
        self.retry_at = until if self.retry_at is None else min(until, self.retry_at)
        return None

    def _report_recovered(self, running: RunningTask) -> None:
        """Say in the metrics and the probe that the group had lost a task's offsets, until they are committed again."""
        for place, offset in running.recovered.items():
            self._metrics.count_recovered(place.topic)
            self._health.report(
                f"offset of {place.topic}:{place.partition}",
                f"the group {self._group} had lost it; {offset} is taken from the progress record",
            )
