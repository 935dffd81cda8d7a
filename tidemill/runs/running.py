"""An application with everything it needs, running for as long as the block lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.application_copy import keep_application
from tidemill.runs.former_requests import answer_former_requests
from tidemill.runs.instance import Instance
from tidemill.runs.kafka_clients import connect
from tidemill.runs.pipeline import TOPOLOGY, gateway_address, pipeline_environment, start_services
from tidemill.runs.run_servers import RunServers
from tidemill.runs.settings import read_settings
from tidemill.runs.supervisor import Supervisor
from tidemill.runs.topics import create_topics
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry


@dataclass(frozen=True, slots=True)
class Running:
    """The servers and the services of a run, where its gateway answers, and whether the prediction path is one process."""

    infrastructure: Infrastructure
    supervisor: Supervisor
    gateway: str
    topology: str


@contextmanager
def running_application(
    application: Path, plan: Plan, folder: Path, clock: str, goes_on: Callable[[], bool] = lambda: True, servers: RunServers | None = None
) -> Iterator[Running]:
    """Run an application: servers (embedded unless given by address), topics, every service.

    A run that had another application when it ended answers first, with that one, what it had begun to answer (`tidemill.runs.former_requests`).

    Parameters
    ----------
    folder
        Where logs, lake, models, the servers' data and the run's own copy of the application lie; a run that was stopped goes on where it was.
    clock
        ``live`` or ``replay``, see ingestion.
    goes_on
        Asked while requests of a former application are answered: whether the run is wanted still.
    servers
        Those of the run, which go on when the services have ended; None: of its own.

    Raises
    ------
    InstanceError
        Another process runs from this folder.
    SettingsError
        The environment asks for something that does not exist.
    ServiceFailed, RunEndedError
        Requests of the former application could not be answered, or not yet.
    """
    settings = read_settings()
    folder.mkdir(parents=True, exist_ok=True)
    with RunServers(folder) if servers is None else nullcontext(servers) as up:
        infrastructure, data = up.infrastructure, up.data
        broker = connect(settings.kafka_at(infrastructure.bootstrap_servers))
        create_topics(plan, broker)
        content = keep_application(application, folder)
        registry = ConfluentSchemaRegistry(infrastructure.registry_url)
        answer_former_requests(plan, folder, clock, infrastructure, settings, broker, registry, goes_on)
        instance = Instance.of_this_process(application, content, clock, infrastructure, data if data.is_dir() else None, folder)
        environment = pipeline_environment(content, infrastructure, folder, clock, settings)
        supervisor = start_services(folder, environment, up.forks)
        try:
            instance.write(folder)
            yield Running(infrastructure, supervisor, gateway_address(environment), environment[TOPOLOGY])
        finally:
            supervisor.stop()
            instance.ended().write(folder)
