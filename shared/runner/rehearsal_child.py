"""The child of `tidemill.shared.runner.stage_child`: ``python -m tidemill.shared.runner.rehearsal_child FD LIFELINE``."""

import faulthandler
import os
import sys
from multiprocessing.connection import Connection

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.shared.lifeline import end_with, tie_to
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.observability.redaction import redact_tracebacks
from tidemill.shared.runner.lent_broker import LentBroker
from tidemill.shared.runner.rehearsal import RESTORING, perform
from tidemill.shared.runner.restore import ReplayCrashedError
from tidemill.shared.runner.scout_process import go_ahead, threads_now
from tidemill.shared.runner.stage_child import Offer
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
    broker = LentBroker(connection)
    at = RESTORING

    def told(number: int, holding: bool) -> None:
        nonlocal at
        at = number
        broker.tell("at", number, holding)

    try:
        task = offer.make(broker, offer.folder).bring_back(offer.rehearsal, told)
        if offer.by_scouts:
            go_ahead(task, offer.rehearsal.pieces, broker, threads)
        else:
            perform(task, offer.rehearsal.pieces, told)
    except ServerAwayError as problem:
        broker.tell("away", str(problem))
    except TransientError as problem:
        broker.tell("outside", str(problem))
    except ReplayCrashedError as crash:
        broker.tell("raised", f"{type(crash.cause).__name__}: {crash.cause}")
    except BaseException as problem:
        # What fails before the task is given anything, and is not the task's own, says nothing of it.
        broker.tell("raised" if at > RESTORING else "unusable", f"{type(problem).__name__}: {problem}")
    else:
        if not offer.by_scouts:
            broker.tell("survived", False)
    # Libraries that end badly have no part in what the task survives.
    os._exit(0)


if __name__ == "__main__":
    main()
