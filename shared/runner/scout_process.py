"""The child's end of `tidemill.shared.runner.scouts`: a process that holds a task's state, and forks others that go ahead with it."""

import gc
import os
import signal
from collections.abc import Sequence
from itertools import accumulate
from multiprocessing.connection import Connection

from tidemill.shared.log.records import Records
from tidemill.shared.runner.lent_broker import LentBroker
from tidemill.shared.runner.rehearsal import RehearsedTask


def go_ahead(task: RehearsedTask, pieces: Sequence[Sequence[Records]], broker: LentBroker, threads: int) -> None:
    """Do what the parent says, until it says nothing any more; raises whatever the task raises.

    The parent's words: ``give BEGIN END`` (rows of all records, as one step), ``condemn ROW WHY``, ``fork`` with the socket that the fork is to use,
    ``fate PID`` (of a fork that has ended), ``rest`` (nothing follows; forks of forks become this process's own). A process with more than
    `threads` threads, those that libraries had before the task was made, is not forked.
    """
    records = [one for piece in pieces for one in piece]
    # What forks share is copied where a collection writes to it.
    gc.collect()
    gc.freeze()
    broker.tell("survived", task.holding)
    while True:
        try:
            word, *about = broker.hear()
        except (EOFError, ConnectionError):
            return
        match word:
            case "give":
                task.give(_rows(records, *about))
                broker.tell("survived", task.holding)
            case "condemn":
                row, why = about
                (record,) = _rows(records, row, row + 1)
                task.condemn(record, why)
            case "fork":
                _fork(broker, threads)
            case "fate":
                broker.tell("fate", os.waitstatus_to_exitcode(os.waitpid(about[0], 0)[1]))
            case "rest":
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def threads_now() -> int:
    """Count the threads of this process, those of libraries among them."""
    return len(os.listdir("/proc/self/task"))


def _fork(broker: LentBroker, at_most: int) -> None:
    """Fork, unless the task has threads, which a fork would not have: their locks might be held in it for ever."""
    handle = broker.hear_handle()
    threads = threads_now()
    pid = os.fork() if threads <= at_most else -1
    if pid:
        os.close(handle)
        broker.tell("forked", pid, threads)
    else:
        broker.move(Connection(handle))


def _rows(records: Sequence[Records], begin: int, end: int) -> list[Records]:
    """Rows of runs that are numbered through."""
    stops = list(accumulate(map(len, records)))
    parts = [one[max(0, begin - stop + len(one)) : max(0, end - stop + len(one))] for one, stop in zip(records, stops, strict=True)]
    return [part for part in parts if len(part)]
