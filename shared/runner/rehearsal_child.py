"""The child of `tidemill.shared.runner.stage_child`: ``python -m tidemill.shared.runner.rehearsal_child FD``."""

import faulthandler
import os
import sys
from multiprocessing.connection import Connection

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.shared.lifeline import tie_to
from tidemill.shared.log.errors import ServerAwayError, TransientError
from tidemill.shared.observability.redaction import redact_tracebacks
from tidemill.shared.runner.lent_broker import LentBroker
from tidemill.shared.runner.rehearsal import RESTORING
from tidemill.shared.runner.restore import ReplayCrashedError
from tidemill.shared.runner.stage_child import Offer
from tidemill.shared.without_blas import leave_out_blas


def main() -> None:
    """Go through the rehearsal that the parent offers, and say how it ended."""
    tie_to(os.getppid())
    redact_tracebacks()
    # Where native code faulted stands in the parent's log.
    faulthandler.enable()
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    connection = Connection(int(sys.argv[1]))
    offer = connection.recv()
    assert isinstance(offer, Offer)  # noqa: S101 - nobody else has the other end
    # The offer brings its service's modules.
    leave_out_blas()
    offer.folder.mkdir()
    at = RESTORING

    def told(number: int, holding: bool) -> None:
        nonlocal at
        at = number
        connection.send(("at", number, holding))

    try:
        stage = offer.make(LentBroker(connection), offer.folder)
        stage.rehearse(offer.rehearsal, told)
    except ServerAwayError as problem:
        connection.send(("away", str(problem)))
    except TransientError as problem:
        connection.send(("outside", str(problem)))
    except ReplayCrashedError as crash:
        connection.send(("raised", f"{type(crash.cause).__name__}: {crash.cause}"))
    except BaseException as problem:
        # What fails before the task is given anything, and is not the task's own, says nothing of it.
        connection.send(("raised" if at > RESTORING else "unusable", f"{type(problem).__name__}: {problem}"))
    else:
        connection.send(("survived",))
    # Libraries that end badly have no part in what the task survives.
    os._exit(0)


if __name__ == "__main__":
    main()
