"""What a run has begun to answer with an application is answered with it, before another one takes over."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.runs.application_copy import kept_applications
from tidemill.runs.instance import InstanceError
from tidemill.runs.path_backlog import PathBacklog, answer_what_waits, former_application, patiently
from tidemill.runs.pipeline import pipeline_environment, stage_spec
from tidemill.runs.settings import CommandSettings
from tidemill.runs.supervisor import Supervisor
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.service.stage import FUSIBLE

_LOOKS_EVERY_S = 0.1


class RunEndedError(RuntimeError):
    """Somebody ended the run while it took a change over: nothing is put back, as nothing goes on."""


def answer_former_requests(
    plan: Plan,
    folder: Path,
    clock: str,
    infrastructure: Infrastructure,
    settings: CommandSettings,
    broker: Broker,
    registry: SchemaRegistry,
    goes_on: Callable[[], bool],
) -> None:
    """Run features and scoring with the former application until they have covered the journal, if requests of it wait between processes.

    Separate processes that are ended or killed leave records on the way. Started again with another application, features and scoring would follow it
    from different requests on. One process has nothing on the way: its transaction holds all three stages.

    Parameters
    ----------
    goes_on
        Whether the run is wanted still.

    Raises
    ------
    InstanceError
        The run has no copy of that application.
    ServiceFailed
        A stage does not come up with it.
    RunEndedError
    """
    if len(kept := kept_applications(folder)) < 2:
        return

    def look() -> None:
        infrastructure.check()
        if not goes_on():
            raise RunEndedError("the run was ended before requests of its former application were answered; they are when it is started again")
        time.sleep(_LOOKS_EVERY_S)

    with closing(PathBacklog(plan, broker, registry)) as backlog:
        former = patiently(lambda: former_application(backlog, plan.application_hash), look)
        if former is None:
            return
        content = next((one for one in kept if load_plan(one).application_hash == former), None)
        if content is None:
            raise InstanceError(
                f"{folder}: requests wait that application {former[:12]} has to answer, and the run has no copy of it;"
                " start the run with that application first, and with this one when it has answered them"
            )
        environment = pipeline_environment(content, infrastructure, folder, clock, settings)
        supervisor = Supervisor(folder / "logs", environment)
        supervisor.start([stage_spec(stage, environment) for stage in FUSIBLE[1:]])

        def look_after() -> None:
            supervisor.check()
            look()

        try:
            for stage in FUSIBLE[1:]:
                answer_what_waits(backlog, stage, look_after)
        finally:
            supervisor.stop()
