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

# Rows of all records that are to be passed over, and why.
Condemned = Sequence[tuple[int, str]]


def go_ahead(task: RehearsedTask, records: Sequence[Records], broker: LentBroker, threads: int) -> Condemned | None:
    """Do what the parent says, until it wants the task to be brought back again (the rows to pass over then, and why) or nothing any more (None).

    Raises whatever the task raises. The parent's words: ``give BEGIN END`` (rows of all records, as one step), ``condemn ROW WHY``,
    ``again CONDEMNED``, ``fork`` with the socket that the fork is to use, ``fate PID`` (of a fork that has ended), ``rest`` (nothing follows; forks
    of forks become this process's own). A process with more than `threads` threads, those that libraries had before the task was made, is not forked.
    """
    broker.tell("survived", task.holding)
    while True:
        try:
            word, *about = broker.hear()
        except (EOFError, ConnectionError):
            return None
        match word:
            case "give":
                task.give(_rows(records, *about))
                broker.tell("survived", task.holding)
            case "condemn":
                task.condemn(*condemned_of(records, [(about[0], about[1])])[0])
            case "again":
                condemned: Condemned = about[0]
                return condemned
            case "fork":
                _fork(broker, threads)
            case "fate":
                broker.tell("fate", os.waitstatus_to_exitcode(os.waitpid(about[0], 0)[1]))
            case "rest":
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def asked_again(broker: LentBroker) -> Condemned | None:
    """Wait until the parent wants the task to be brought back after an exception: see `go_ahead`."""
    try:
        word, *about = broker.hear()
    except (EOFError, ConnectionError):
        return None
    if word != "again":
        raise ValueError(f"expected that the task is to be brought back again, got {word!r}")
    # Nothing of the task that has raised takes memory beside the next one.
    gc.collect()
    condemned: Condemned = about[0]
    return condemned


def condemned_of(records: Sequence[Records], rows: Condemned) -> list[tuple[Records, str]]:
    """Return rows of all records as batches of one, with the reasons for which they are passed over."""
    return [(_rows(records, row, row + 1)[0], why) for row, why in rows]


def threads_now() -> int:
    """Count the threads of this process, those of libraries among them."""
    return len(os.listdir("/proc/self/task"))


def _fork(broker: LentBroker, at_most: int) -> None:
    """Fork, unless the task has threads, which a fork would not have: their locks might be held in it for ever."""
    handle = broker.hear_handle()
    threads = threads_now()
    if threads <= at_most:
        # What forks share is copied where a collection writes to it.
        gc.freeze()
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
