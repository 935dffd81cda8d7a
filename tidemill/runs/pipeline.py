"""The whole system as processes: every stage of an application under one supervisor."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.command_channel import KEY_FILE
from tidemill.runs.settings import CommandSettings
from tidemill.runs.supervisor import ServiceSpec, Supervisor
from tidemill.shared.application.planning import load_application
from tidemill.shared.application.topics import EVERY_APPLICATIONS
from tidemill.shared.fork_server.client import ForkServer
from tidemill.shared.observability.secret_file import secret_file
from tidemill.shared.service.stage import FUSED, FUSIBLE

TOPOLOGY = "TIDEMILL_TOPOLOGY"
_APPLICATION = "TIDEMILL_APPLICATION"
SEPARATE = "separate"
_STEPS_BACK = 10
# Records wake a stage at once; between them only these have something to look for: ticks, and a training that ends.
_LOOKS_BETWEEN_RECORDS = (FUSED, "ingestion", "retraining")
_PATIENT = {"TIDEMILL_RUNNER__IDLE_INTERVAL_MS": "500"}
_RELAXED = {"TIDEMILL_RUNNER__COMMIT_INTERVAL_MS": "250"}
_RELAXED_FETCHES = {"fetch.min.bytes": "1000000"}
_WRITES_OUT = "archive"
# A stage that nobody waits for and nothing follows from: the others work on without it.
_BESIDE = "explanations"
_KAFKA_OPTIONS = "TIDEMILL_KAFKA__OPTIONS"
_COMMANDS_KEY = "TIDEMILL_COMMANDS__KEY_FILE"
LIBRARIES = {
    "OMP_NUM_THREADS": "2",
    # Training threads that spin while they wait for each other take the processor from the services, and from each other.
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    # Kafka clients allocate on many threads, and each would keep an arena of its own.
    "MALLOC_ARENA_MAX": "2",
}
"""What libraries read when a service's process loads them."""
_GATEWAY_HOST, _GATEWAY_PORT = "TIDEMILL_GATEWAY__HOST", "TIDEMILL_GATEWAY__PORT"


def pipeline_environment(application: Path, infrastructure: Infrastructure, folder: Path, clock: str, settings: CommandSettings) -> dict[str, str]:
    """Return what every service's process finds in its environment; the topology is that of the settings, else the application's."""
    return {
        **infrastructure.environment,
        TOPOLOGY: settings.topology or load_application(application).topology,
        _KAFKA_OPTIONS: json.dumps(settings.kafka.options),
        _APPLICATION: str(application.absolute()),
        "TIDEMILL_INGESTION__CLOCK": clock,
        "TIDEMILL_ARTIFACTS__URI": str((folder / "artifacts").absolute()),
        "TIDEMILL_LAKE__URI": str((folder / "lake").absolute()),
        "TIDEMILL_TRACKING__URI": f"sqlite:///{(folder / 'mlflow.db').absolute()}",
        _GATEWAY_PORT: os.environ.get(_GATEWAY_PORT) or str(free_port()),
        **({} if settings.commands is not None else {_COMMANDS_KEY: str((folder / KEY_FILE).absolute())}),
        "TIDEMILL_RUNNER__STATE_FOLDER": str((folder / "state").absolute()),
        **LIBRARIES,
    }


def gateway_address(environment: Mapping[str, str]) -> str:
    """Return where the gateway of a run answers: the same address after it was started again."""
    host = os.environ.get(_GATEWAY_HOST, "127.0.0.1")
    return f"http://{f'[{host}]' if ':' in host else host}:{environment[_GATEWAY_PORT]}"


def stage_processes(topology: str, stages: Sequence[str] = EVERY_APPLICATIONS) -> tuple[str, ...]:
    """Return the processes that an application's stages run in, in the order of the data: fused, ingestion, features and scoring are one."""
    path = (FUSED,) if topology == FUSED else FUSIBLE
    return (*path, *(stage for stage in stages if stage not in FUSIBLE))


def start_services(folder: Path, environment: Mapping[str, str], forks: ForkServer | None = None) -> Supervisor:
    """Start every stage, the gateway and alerts; logs go to `folder`/logs.

    Parameters
    ----------
    forks
        Forks them, and goes on when they have ended; None: a server of their own.
    """
    if _COMMANDS_KEY in environment:
        # Whoever commands the run as soon as it is up must find the key, which its services would make at their own pace.
        secret_file(Path(environment[_COMMANDS_KEY]))
    supervisor = Supervisor(folder / "logs", environment, server=forks)
    running = load_application(Path(environment[_APPLICATION])).stages
    stages = [stage_spec(stage, environment) for stage in stage_processes(environment[TOPOLOGY], running)]
    # Nobody waits for them, and whoever is told may be told a moment later. What the stages write as they stop is to be told, too.
    alerts = ServiceSpec("alerts", "tidemill.services.alerts", niceness=_STEPS_BACK, stops_last=True, vital=False)
    supervisor.start([*stages, ServiceSpec("gateway", "tidemill.services.gateway"), alerts])
    return supervisor


def start_missing(supervisor: Supervisor, application: Path) -> None:
    """Start the stages that a changed application has and the one before had not (call from the main thread)."""
    own = {_APPLICATION: str(application)}
    environment = {**supervisor.environment, **own}
    declared = [stage for stage in load_application(application).stages if stage not in EVERY_APPLICATIONS]
    specs = [stage_spec(stage, environment) for stage in declared if stage not in supervisor.pids()]
    supervisor.start([replace(spec, environment={**spec.environment, **own}) for spec in specs])


def stage_spec(stage: str, environment: Mapping[str, str]) -> ServiceSpec:
    """Return how a stage is run beside the others.

    Live, nobody waits for what follows a prediction, so those stages fetch and commit less often (every fetch and every transaction costs the
    broker time that the prediction path needs) and step back when the processors are busy. In a replay the next slice waits for them, so there
    they hurry.
    """
    settings = {} if stage in _LOOKS_BETWEEN_RECORDS else dict(_PATIENT)
    last, vital = stage == _WRITES_OUT, stage != _BESIDE
    if stage in (FUSED, *FUSIBLE) or environment["TIDEMILL_INGESTION__CLOCK"] != "live":
        return ServiceSpec(stage, f"tidemill.services.{stage}", settings, stops_last=last, vital=vital)
    options = {**_RELAXED_FETCHES, **json.loads(environment[_KAFKA_OPTIONS])}
    return ServiceSpec(stage, f"tidemill.services.{stage}", {**settings, **_RELAXED, _KAFKA_OPTIONS: json.dumps(options)}, _STEPS_BACK, last, vital)
