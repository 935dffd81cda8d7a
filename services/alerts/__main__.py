"""Run alerts: ``python -m services.alerts``."""

import asyncio
import logging
import os
import signal
import sys
from functools import partial

from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.alerts.app import credentials
from services.alerts.service import NAME, AlertService
from services.alerts.settings import AlertServiceSettings
from shared.application.errors import ApplicationError
from shared.application.planning import load_application
from shared.avro.registry import ConfluentSchemaRegistry
from shared.observability.health import Health, HealthServer
from shared.observability.logging import configure_logging
from shared.observability.metrics import Metrics
from shared.observability.redaction import secrets_of
from shared.observability.settings_problem import settings_problem
from shared.observability.stall import StallGuard
from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.service_process import CRASHED, MISCONFIGURED, STOPPED
from shared.streaming.topics import catalogue_topics

# Their word on every step is no word of ours.
_TALKATIVE = ("faust", "mode", "aiokafka")
log = logging.getLogger(__name__)


def main() -> int:
    """Work until a signal; 1 after a crash, 2 when settings or application are wrong."""
    try:
        settings = AlertServiceSettings()  # type: ignore[call-arg, unused-ignore] # from the environment
        application = load_application(settings.application)
        credentials(settings.kafka.client_options())
    except ValidationError as problem:
        return _misconfigured(settings_problem(problem))
    except SettingsError as problem:
        return _misconfigured(f"TIDEMILL_*: expected JSON in the variable of a group of settings, came something else ({problem})")
    except (ApplicationError, ValueError) as problem:
        return _misconfigured(str(problem))
    configure_logging(NAME, settings.instance, settings.log_level, secrets=secrets_of(settings))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    metrics, health = Metrics(NAME), Health(settings.health.stalled_after_s)
    try:
        with HealthServer(health, metrics.registry, settings.health.port, settings.health.host) as server:
            log.info("starting", extra={"health_port": server.port, "kafka": settings.kafka.bootstrap_servers})
            broker = KafkaBroker(
                settings.kafka.bootstrap_servers,
                settings.kafka.client_options(),
                deadline_s=settings.kafka.deadline_s,
                topics=settings.kafka.topic_settings(),
            )
            broker.create_topics(catalogue_topics(application.app, application.partitions))
            service = AlertService(application, settings, broker, ConfluentSchemaRegistry(settings.registry.url), metrics, health)
            with StallGuard(health, 5 * settings.health.stalled_after_s):
                asyncio.run(_until_a_signal(service))
    except ApplicationError as problem:
        log.error("bad application", extra={"error": str(problem)})
        return MISCONFIGURED
    except Exception:
        log.exception("crashed")
        # What was not remembered must not be committed by faust's orderly end.
        logging.shutdown()
        os._exit(CRASHED)
    log.info("stopped")
    return STOPPED


async def _until_a_signal(service: AlertService) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(stop.set))
    try:
        await service.run(stop)
    except Exception:
        log.exception("crashed")
        logging.shutdown()
        os._exit(CRASHED)


def _misconfigured(problem: str) -> int:
    sys.stderr.write(f"{NAME}: {problem}\n")
    return MISCONFIGURED


raise SystemExit(main())
