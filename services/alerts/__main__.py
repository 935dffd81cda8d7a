"""Run alerts: ``python -m tidemill.services.alerts``."""

import asyncio
import logging
import signal

import tidemill.shared.without_pandas  # noqa: F401 - before all that makes arrays
from tidemill.services.alerts.app import credentials
from tidemill.services.alerts.service import NAME, AlertService
from tidemill.services.alerts.settings import AlertServiceSettings
from tidemill.shared.observability.stall import StallGuard
from tidemill.shared.service.service_process import Surroundings, run_process
from tidemill.shared.service.starting import once_it_answers

# Their word on every step is no word of ours.
_TALKATIVE = ("faust", "mode", "aiokafka")


def work(surroundings: Surroundings[AlertServiceSettings]) -> None:
    """Tell people until a signal."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    settings, health = surroundings.settings, surroundings.health

    def make() -> AlertService:
        surroundings.make_topics()
        return AlertService(surroundings.application, settings, surroundings.broker, surroundings.registry, surroundings.metrics, health)

    service = once_it_answers(make, surroundings.stop, health)
    if service is None:
        return
    # Closed after an orderly end only: what was not remembered must not be committed by what a loop does at its end.
    runner = asyncio.Runner()
    with StallGuard(health, 5 * settings.health.stalled_after_s):
        runner.run(_until_a_signal(service))
    runner.close()


async def _until_a_signal(service: AlertService) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await service.run(stop)


raise SystemExit(run_process(NAME, AlertServiceSettings, work, lambda settings: credentials(settings.kafka.client_options())))
