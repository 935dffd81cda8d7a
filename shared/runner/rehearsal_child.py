"""The child of `tidemill.shared.runner.stage_child`: ``python -m tidemill.shared.runner.rehearsal_child FD LIFELINE``."""

import faulthandler
import gc
import os
import sys
from dataclasses import replace
from multiprocessing.connection import Connection

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.shared.lifeline import end_with, tie_to
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.observability.redaction import redact_tracebacks
from tidemill.shared.runner.lent_broker import LentBroker
from tidemill.shared.runner.offer import Offer, Rehearses
from tidemill.shared.runner.rehearsal import RESTORING, perform
from tidemill.shared.runner.restore import ReplayCrashedError
from tidemill.shared.runner.scout_process import Condemned, asked_again, condemned_of, go_ahead, threads_now
from tidemill.shared.without_blas import leave_out_blas


def main() -> None:
    """Go through the rehearsal that the parent offers, and say how it ended."""
    tie_to(os.getppid())
    end_with(int(sys.argv[2]))
    redact_tracebacks()
    # Where native code faulted stands in the parent's log.
    faulthandler.enable()
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    # Libraries that have threads of their own once they are loaded know of forks, as those of the process that services are forked from.
    threads = threads_now()
    connection = Connection(int(sys.argv[1]))
    offer = connection.recv()
    assert isinstance(offer, Offer)  # noqa: S101 - nobody else has the other end
    # The offer brings its service's modules.
    leave_out_blas()
    offer.folder.mkdir()
    condemned: Condemned | None = offer.condemned
    child = _Child(offer, LentBroker(connection), threads)
    while condemned is not None:
        condemned = child.go(condemned)
    # Libraries that end badly have no part in what the task survives.
    os._exit(0)


class _Child:
    """Goes through what its parent offers, again if that asks for it after an exception.

    Parameters
    ----------
    threads
        Those that libraries had before the stage was made.
    """

    def __init__(self, offer: Offer, broker: LentBroker, threads: int) -> None:
        self._offer, self._broker, self._threads = offer, broker, threads
        self._records = [one for piece in offer.rehearsal.pieces for one in piece]
        self._stage: Rehearses | None = None
        self._at = RESTORING

    def go(self, condemned: Condemned) -> Condemned | None:
        """Bring the task back and go through it, and say how it ended; rows to pass over if it is to be brought back again, None when all is said."""
        broker, offer, self._at = self._broker, self._offer, RESTORING
        rehearsal = replace(offer.rehearsal, owed=[*offer.rehearsal.owed, *condemned_of(self._records, condemned)])
        try:
            if self._stage is None:
                self._stage = offer.make(broker, offer.folder)
                # Collections look at tasks only, however often they are brought back.
                gc.freeze()
            task = self._stage.bring_back(rehearsal, self._told)
            if offer.by_scouts:
                return go_ahead(task, self._records, broker, self._threads)
            perform(task, rehearsal.pieces, self._told)
        except ServerAwayError as problem:
            broker.tell("away", str(problem))
        except TransientError as problem:
            broker.tell("outside", str(problem))
        except ReplayCrashedError as crash:
            broker.tell("raised", f"{type(crash.cause).__name__}: {crash.cause}")
        except BaseException as problem:
            # What fails before the task is given anything, and is not the task's own, says nothing of it.
            broker.tell("raised" if self._at > RESTORING else "unusable", f"{type(problem).__name__}: {problem}")
        else:
            broker.tell("survived", False)
        return asked_again(broker) if offer.by_scouts else None

    def _told(self, number: int, holding: bool) -> None:
        self._at = number
        self._broker.tell("at", number, holding)


if __name__ == "__main__":
    main()
