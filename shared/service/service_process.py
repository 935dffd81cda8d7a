"""One service as a process: settings, logs, probes, signals, exit code. Every runner service's ``__main__`` calls `run_service`."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.model import Application
from tidemill.shared.application.planning import load_application
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, SchemaRegistry
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.topics import catalogue_topics
from tidemill.shared.observability.health import HealthServer, ProcessHealth
from tidemill.shared.observability.logging import configure_logging
from tidemill.shared.observability.metrics import Metrics
from tidemill.shared.observability.redaction import redacted, secrets_of
from tidemill.shared.observability.settings import ServiceSettings
from tidemill.shared.observability.settings_problem import settings_problem
from tidemill.shared.observability.stall import StallGuard, leave
from tidemill.shared.rare_collections import THRESHOLDS
from tidemill.shared.regular_file import regular_file
from tidemill.shared.runner.runner import Runner
from tidemill.shared.service.starting import once_it_answers
from tidemill.shared.text_guard import strange_bytes
from tidemill.shared.without_blas import leave_out_blas

STOPPED, CRASHED, MISCONFIGURED = 0, 1, 2
Settings = TypeVar("Settings", bound=ServiceSettings)
SettingsType = TypeVar("SettingsType", bound=ServiceSettings, contravariant=True)
log = logging.getLogger(__name__)


class Build(Protocol[SettingsType]):
    """A service's wiring: `tidemill.services.<name>.service.build`."""

    def __call__(
        self, settings: SettingsType, broker: Broker, registry: SchemaRegistry, metrics: Metrics | None = None, health: ProcessHealth | None = None
    ) -> Runner:
        """Make the runner."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings(Generic[Settings]):
    """What a service finds in its process; `stop` is set by SIGTERM and SIGINT."""

    settings: Settings
    application: Application
    broker: Broker
    registry: SchemaRegistry
    metrics: Metrics
    health: ProcessHealth
    stop: threading.Event

    def make_topics(self) -> None:
        """Create the application's topics that are missing."""
        self.broker.create_topics(catalogue_topics(self.application.app, self.application.partitions))


def run_service(stage: str, build: Build[Settings], settings_type: type[Settings], *, in_children: bool = True) -> int:
    """Run one stage until SIGTERM or SIGINT; returns the exit code (`run_process`).

    Parameters
    ----------
    in_children
        Whether child processes may try what has ended this one (`Runner.use_children`); not where tasks act outside of Kafka while they process.

    Examples
    --------
    ``services/features/__main__.py``::

        raise SystemExit(run_service("features", build, FeaturesSettings))
    """
    leave_out_blas()

    def work(surroundings: Surroundings[Settings]) -> None:
        settings, health = surroundings.settings, surroundings.health

        def make() -> Runner:
            surroundings.make_topics()
            return build(settings, surroundings.broker, surroundings.registry, metrics=surroundings.metrics, health=health)

        runner = once_it_answers(make, surroundings.stop, health)
        if runner is None:
            return
        runner.note_faults()
        if in_children:
            runner.use_children(partial(built_in_child, build, settings), (f"{__package__}.loaded_once",))
        tune_collector()
        # More than a probe from outside waits: who has one decides first. A first start may compile its kernels meanwhile.
        limit_s = settings.health.stalled_after_s
        with StallGuard(health, 2 * limit_s, partial(_leave_hanging, runner), cold_limit_s=5 * limit_s):
            runner.run(surroundings.stop)

    return run_process(stage, settings_type, work)


def run_process(
    name: str, settings_type: type[Settings], work: Callable[[Surroundings[Settings]], None], check: Callable[[Settings], object] | None = None
) -> int:
    """Let a service work in what a process needs around it: settings, log, probe, broker, signals.

    0 after a signal, 1 after a crash or when the loop hangs (a supervisor restarts it), 2 when settings or application are wrong (restarting
    would not help). After a crash the process ends at once, whatever threads and clients still want to do.

    Parameters
    ----------
    check
        Raises ValueError for settings that the service cannot work with.
    """
    if (strange := strange_bytes((), os.environ)) is not None:
        return _misconfigured(name, strange)
    try:
        settings = settings_type()
        application = load_application(settings.application)
        if settings.commands.key is None and settings.commands.key_file.exists():
            regular_file(settings.commands.key_file)
        if check is not None:
            check(settings)
    except ValidationError as problem:
        return _misconfigured(name, settings_problem(problem))
    except SettingsError as problem:
        return _misconfigured(name, f"TIDEMILL_*: expected JSON in the variable of a group of settings, came something else ({problem})")
    except (ApplicationError, ValueError, OSError) as problem:
        return _misconfigured(name, redacted(str(problem)))
    configure_logging(name, settings.instance, settings.log_level, secrets=secrets_of(settings))
    stop = stop_on_signals()
    metrics, health = Metrics(name), ProcessHealth(settings.health.stalled_after_s)
    try:
        with HealthServer(health, metrics.registry, settings.health.port, settings.health.host) as server:
            log.info("starting", extra={"health_port": server.port, "kafka": settings.kafka.bootstrap_servers})
            broker = KafkaBroker(
                settings.kafka.bootstrap_servers,
                settings.kafka.client_options(),
                deadline_s=settings.kafka.deadline_s,
                topics=settings.kafka.topic_settings(),
            )
            work(Surroundings(settings, application, broker, ConfluentSchemaRegistry(settings.registry.url), metrics, health, stop))
    except ApplicationError as problem:
        log.error("bad application", extra={"error": str(problem)})
        return MISCONFIGURED
    except Exception:
        log.exception("crashed")
        # At the interpreter's end the clients are closed once more, which one with a fatal error may never come back from, and faust would commit.
        logging.shutdown()
        os._exit(CRASHED)
    log.info("stopped")
    return STOPPED


def _misconfigured(name: str, problem: str) -> int:
    sys.stderr.write(f"{name}: {problem}\n")
    return MISCONFIGURED


def _leave_hanging(runner: Runner) -> None:
    runner.note_hang()
    leave()


def built_in_child(build: Build[Settings], settings: Settings, broker: Broker, folder: Path) -> Runner:
    """Make the service once more, in a child process: with a broker that is lent, and a folder of its own for whatever it writes beside Kafka."""
    runner = settings.runner.model_copy(update={"state_folder": folder})
    lake = settings.lake.model_copy(update={"uri": str(folder / "lake")})
    alone = settings.model_copy(update={"runner": runner, "lake": lake})
    return build(alone, broker, ConfluentSchemaRegistry(settings.registry.url))


def tune_collector() -> None:
    """Keep the cycle collector out of the hot path: what was made at start stays, and a batch of messages is no reason to look for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def stop_on_signals() -> threading.Event:
    """Event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop
