"""Changes of a run's application: asked for by `tidemill apply`, taken over in the process of `tidemill up`."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tidemill.planning.application_plan import ApplicationPlan, planned_change
from tidemill.planning.make_plan import make_plan
from tidemill.planning.run_services import RunServices
from tidemill.planning.running_application import RunningApplication, of_run
from tidemill.planning.take_over import switch_all
from tidemill.runs.application_copy import keep_application
from tidemill.runs.change_desk import ChangeDesk, ChangeRefusedError, ChangeRequest
from tidemill.runs.former_requests import RunEndedError
from tidemill.runs.instance import InstanceError, read_instance
from tidemill.runs.kafka_clients import connect
from tidemill.runs.path_backlog import PathBacklog
from tidemill.runs.pipeline import start_missing
from tidemill.runs.running import Running
from tidemill.runs.settings import SettingsError, read_settings
from tidemill.runs.topics import create_topics
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import ConfluentSchemaRegistry
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.broker import BrokerUnreachableError
from tidemill.shared.log.errors import TransientError

# All of them before the first service is touched, but for a change that was put back, and a run that is ended.
_HINDERED = (
    ChangeRefusedError,
    RunEndedError,
    ApplicationError,
    InstanceError,
    SettingsError,
    BrokerUnreachableError,
    KafkaFailureError,
    TransientError,
    ValueError,
)
STALE = "the run is not what the plan was made for: it has another application, or a model that changes has another champion; make the plan anew"


def check_plan(running: RunningApplication, application: Path, plan_text: str | None) -> ApplicationPlan:
    """Return the plan of an application for a run as it is now, held against the file of an earlier one.

    Raises
    ------
    ChangeRefusedError
        Something of it is refused, or the plan was made for another application or another state of the run.
    PlanFileError
        The file is no plan.
    """
    made = make_plan(running, application, measured=False)
    if plan_text is not None:
        state, content = planned_change(plan_text)
        if content != made.content:
            raise ChangeRefusedError(f"{application} is not what the plan was made for: it has been edited since; make the plan anew")
        if state != made.state:
            raise ChangeRefusedError(STALE)
    if made.verdict == "refused":
        raise ChangeRefusedError("\n".join(["this cannot be applied, and nothing of it is:", *map(str, made.difference.refusals)]))
    return made


def apply(run: Path, application: Path, plan_text: str | None) -> ApplicationPlan:
    """Have a run take an application over; returns when it has, or when nothing changes.

    Raises
    ------
    ChangeRefusedError, PlanFileError
        As `check_plan`; or the run did not take it over. The run has what it had.
    InstanceError
        There is no run that goes on.
    """
    running = of_run(run)
    made = check_plan(running, application, plan_text)
    instance = read_instance(run)
    if instance is None or not instance.runs:
        raise ChangeRefusedError(
            f"{run}: expected a run that goes on, found one that has ended; start it with `tidemill up` and the changed application"
        )
    if made.verdict == "changes":
        ChangeDesk(run).ask(application, keep_application(application, run), made.state, lambda: _goes_on(run))
    return made


def _goes_on(run: Path) -> bool:
    instance = read_instance(run)
    return instance is not None and instance.runs


def follow_changes(desk: ChangeDesk, folder: Path, run: Running, goes_on: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Take over the change that waits for a run, if one does, and answer. Called by the run's own process, between two looks at its services."""
    request = desk.take()
    if request is None:
        return
    try:
        _take_over(request, folder, run, goes_on, say)
    except _HINDERED as problem:
        say(f"the change of the application is not taken over: {problem}")
        desk.answer(request, str(problem))
    else:
        say("the changed application has taken over")
        desk.answer(request, "")


def _take_over(request: ChangeRequest, folder: Path, run: Running, goes_on: Callable[[], bool], say: Callable[[str], None]) -> None:
    running, content = of_run(folder), Path(request.content)
    made = check_plan(running, content, None)
    if made.state != request.state:
        raise ChangeRefusedError(STALE)
    broker = connect(read_settings().kafka_at(run.infrastructure.bootstrap_servers))
    create_topics(load_plan(content), broker)
    alerts_only = made.difference.restarts == ("alerts",)
    # The supervisor has them in the order in which they were started: that of the data.
    order = ("alerts",) if alerts_only else tuple(run.supervisor.pids())
    with closing(PathBacklog(running.plan, broker, ConfluentSchemaRegistry(run.infrastructure.registry_url))) as backlog:
        switch_all(RunServices(run, backlog, goes_on), order, running.folder, content, say)
    start_missing(run.supervisor, content)
    instance = read_instance(folder)
    if instance is None or instance.pid != os.getpid():
        raise ChangeRefusedError(f"{folder}: expected the file of this run, found another's")
    replace(instance, application=request.application, content=request.content).write(folder)
