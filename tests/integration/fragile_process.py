"""A counting stage as its own process; some records kill it or have it say too much. Arguments: broker, application, partitions, state folder."""

import ctypes
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.property.runner_tasks import CountingTask, arguments
from tidemill.services.ingestion.settings import IngestionSettings
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import Records, Step
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import StepContext
from tidemill.shared.service.service_process import built_in_child, stop_on_signals

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


def fragile_ingestion(build: Callable[..., Runner], settings: IngestionSettings, broker: Broker, folder: Path) -> Runner:
    """Make the ingestion of an application, in a child that raises at some records and faults at others."""
    whole = IngestionTask.process

    def process(task: IngestionTask, inputs: Sequence[Records], context: StepContext) -> Step:
        for value in (value for records in inputs for value in records.values):
            if value == SEGFAULT:
                ctypes.string_at(0)
            if value == BOOM:
                raise ZeroDivisionError("boom")
        return whole(task, inputs, context)

    IngestionTask.process = process  # type: ignore[method-assign,assignment]  # in a process of its own
    return built_in_child(build, settings, broker, folder)


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
