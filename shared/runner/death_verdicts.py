"""What follows from the end of a process without an exception: a signal, out of memory, a hang."""

import logging
from collections.abc import Callable
from dataclasses import replace

from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.crash_log import CrashLog
from tidemill.shared.runner.crash_verdicts import ALL, CERTAIN, CrashVerdicts
from tidemill.shared.runner.death_note import Death
from tidemill.shared.runner.forked_walk import SHARE
from tidemill.shared.runner.running_task import RunningTask

log = logging.getLogger(__name__)
RecordAt = Callable[[TopicPartition, int], Records | None]


class DeathVerdicts:
    """Decides what follows when the process before has ended in a task; one for each stage of a process.

    Parameters
    ----------
    crash_log
        Counts deaths across restarts, with the crashes.
    crash_limit
        Crashes at one place after which the culprit is looked for; of deaths, `CERTAIN` at most.
    verdicts
        Carries out what is decided.
    """

    def __init__(self, crash_log: CrashLog, crash_limit: int, verdicts: CrashVerdicts) -> None:
        self._crashes = crash_log
        self._crash_limit = crash_limit
        self._verdicts = verdicts

    def count(self, running: RunningTask, death: Death, follows: bool, record_at: RecordAt) -> None:
        """Count the end of the process before, if it was in this task's last step; begin a search or narrow it.

        Parameters
        ----------
        running
            The restored task.
        follows
            Whether the task reads what stages before it write in the same transaction.
        record_at
            Reads one record of the log.
        """
        if death.restoring or death.sequence != running.progress.sequence:
            return
        partition = running.partition
        error = f"the process ended without an exception ({death.cause or 'a signal, out of memory, or a hang'})"
        crash = self._crashes.count(partition, running.progress.input_offsets, death.step, error, native=True)
        detail = {"partition": partition, "crashes_here": crash.count, "records": death.step.records, "inputs": death.step.ends}
        log.error("the process before died in this task", extra=detail)
        # One that may have been a kill from outside is to come twice before anything is looked for.
        enough = 1 if death.cause and self._verdicts.has_children else min(CERTAIN, self._crash_limit)
        if crash.in_child:
            # What children survived has ended the process: it must be its own probe.
            crash = replace(crash, in_child=False)
            self._crashes.put(crash)
        elif self._verdicts.has_children and death.step.records and not crash.searching and crash.count >= enough:
            log.warning("children are to find the record that ends the process", extra={"partition": partition, "records": death.step.records})
            self._crashes.put(replace(crash, limit=ALL, in_child=True), narrowed=True)
            return
        if crash.searching and death.step.records == 1:
            crash = replace(crash, singles=crash.singles + 1)
        if not crash.searching and crash.count < enough:
            return
        if death.step.records <= 1 and not follows and (death.held or not death.step.records):
            self._verdicts.put_on_trial(crash, death.held, death.step.ends)
        elif not death.step.records:
            self._crashes.put(crash)
            self._verdicts.mute(partition)
        elif death.step.records == 1 and crash.singles >= CERTAIN:
            ((name, offset),) = death.step.ends.items()
            topic, _, number = name.rpartition(":")
            culprit = record_at(TopicPartition(topic, int(number)), offset)
            self._crashes.put(crash)
            if culprit is not None:
                self._verdicts.condemn(partition, culprit, f"ended the process {crash.count} times, alone at last: {error}")
        else:
            self._verdicts.narrow(crash, max(1, death.step.records // SHARE))
