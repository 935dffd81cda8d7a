"""A counting stage as a process of its own, to be killed: arguments are broker, application, partitions, instance, state folder, session time-out."""

import sys
from pathlib import Path

from tests.property.runner_tasks import arguments
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service.service_process import stop_on_signals


def main() -> None:
    bootstrap_servers, app, partitions, instance, folder, session_timeout_ms = sys.argv[1:]
    settings = RunnerSettings(max_batch=200, checkpoint_interval_ms=50, checkpoint_bytes=200, state_folder=Path(folder))
    broker = KafkaBroker(bootstrap_servers, session_timeout_ms=int(session_timeout_ms))
    Runner(**arguments(app, broker, int(partitions), instance=instance, settings=settings)).run(stop_on_signals())


if __name__ == "__main__":
    main()
