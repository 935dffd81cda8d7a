"""A counting stage as its own process; some records kill it or have it say too much. Arguments: broker, application, partitions, state folder."""

import ctypes
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

from tests.property.runner_tasks import CountingTask, arguments
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Records
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service.service_process import stop_on_signals

BOOM, SEGFAULT, KILLED, LOUD = b"boom", b"segfault", b"killed", b"loud"
# Nothing that compression makes smaller.
NOISE = b"!" + random.Random(7).randbytes(20_000)


class FragileTask(CountingTask):
    """Raises, faults in native code, is ended by the kernel, or says very much, by the record."""

    def _fold(self, records: Records) -> list[bytes]:
        for value in records.values:
            if value == SEGFAULT:
                ctypes.string_at(0)
            if value == KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
        said = super()._fold(records)
        return [what + (NOISE if value == LOUD else b"") for what, value in zip(said, records.values, strict=True)]


def made(app: str, partitions: int, broker: Broker, folder: Path) -> Runner:
    """Make the stage: in the process itself, and in its children."""
    settings = RunnerSettings(state_folder=folder)
    return Runner(**arguments(app, broker, partitions, settings=settings, task_factory=lambda p: FragileTask(app, p, BOOM)))


def main() -> None:
    bootstrap_servers, app, partitions, folder = sys.argv[1:]
    # A child is told the function by its module's name, which is not that of the program.
    from tests.integration.fragile_process import made as importable

    runner = made(app, int(partitions), KafkaBroker(bootstrap_servers, session_timeout_ms=6_000), Path(folder))
    runner.note_faults()
    runner.use_children(partial(importable, app, int(partitions)), ("tidemill.shared.service.loaded_once",))
    runner.run(stop_on_signals())


if __name__ == "__main__":
    main()
