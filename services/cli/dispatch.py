"""How every command to a run is given: the options that all of them have, the way to the run, and the wait for an answer."""

import functools
import getpass
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import typer

from tidemill.runs.command_channel import CommandChannel, NotTakenError
from tidemill.runs.instance import Instance, InstanceError, read_instance
from tidemill.runs.last_run import UP
from tidemill.services.cli.terminal import errors, read_plan
from tidemill.shared.application.plan import Plan

ANSWERED_S = 30.0
"""How long an answer is waited for."""
_LOOK_S = 0.1
Answered = TypeVar("Answered")
Answered_co = TypeVar("Answered_co", covariant=True)
Reason = Annotated[str, typer.Option(help="Why; it is written beside what is done.")]
Application = Annotated[Path | None, typer.Option("--application", help="Folder with app.yaml. (default: the run's)", exists=True, file_okay=False)]
Run = Annotated[Path | None, typer.Option(help="Folder of the run. (default: the one that goes on in .tidemill/up)")]
Operator = Annotated[str | None, typer.Option(help="Who commands. (default: the login name)")]
Identity = Annotated[str, typer.Option("--id", help="Names the command if it is repeated: it is followed once. (default: a random one)")]


class CommandTopics(Protocol[Answered_co]):
    """Follows the topics that say what becomes of a command."""

    def answer(self, command_id: str) -> Answered_co | None:
        """Return what has become of a command; None as long as nothing has."""

    def close(self) -> None:
        """Stop reading."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Who commands which run, and why. The fields are the options that `dispatched` gives a command."""

    reason: Reason
    application: Application = None
    run: Run = None
    operator: Operator = None
    command_id: Identity = ""

    def addressed(self) -> tuple[Plan, Path]:
        """Return the plan of the run's application, and the run's folder.

        Raises
        ------
        InstanceError
            There is no such run.
        """
        if not self.reason.strip():
            raise typer.BadParameter("expected why, in words, got nothing", param_hint="--reason")
        application, folder = run_to_command(self.application, self.run)
        return read_plan(application), folder

    def send(
        self,
        channel: CommandChannel,
        answers: CommandTopics[Answered],
        target: str,
        action: str,
        unanswered: str,
        **details: Any,  # those of `CommandChannel.send`
    ) -> Answered:
        """Send a command and return its answer; where there is none in time, say so and end with 1.

        Parameters
        ----------
        unanswered
            What is said of the command after its id.
        details
            See `CommandChannel.send`.
        """
        operator = _login_name() if self.operator is None else self.operator
        try:
            identity = channel.send(target, action, self.reason, self.command_id, operator=operator, **details)
        except NotTakenError as not_taken:
            errors.print(str(not_taken), markup=False)
            raise typer.Exit(1) from not_taken
        deadline = time.monotonic() + ANSWERED_S
        while (answer := answers.answer(identity)) is None:
            if time.monotonic() > deadline:
                errors.print(f"Command {identity} is written to {channel.topic}, {unanswered}", markup=False, soft_wrap=True)
                raise typer.Exit(1)
            time.sleep(_LOOK_S)
        return answer


def dispatched(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Dispatch`, which reach it as its argument ``dispatch``."""
    shared = list(inspect.signature(Dispatch).parameters.values())
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "dispatch"]
    options = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:  # whatever the command and `Dispatch` take
        dispatch = Dispatch(**{one.name: given.pop(one.name) for one in shared})
        command(**given, dispatch=dispatch)

    # typer reads both.
    with_options.__dict__["__signature__"] = inspect.Signature(options)
    with_options.__annotations__ = {one.name: one.annotation for one in options}
    return with_options


def run_to_command(application: Path | None, run: Path | None, runs: Path = UP) -> tuple[Path, Path]:
    """Return the application's folder and the run's: what was named, else what goes on.

    Raises
    ------
    InstanceError
        Nothing goes on, or more than one run does.
    """
    if application is not None:
        return application, run or runs / read_plan(application).application.app
    going_on: dict[Path, Instance] = {}
    for folder in [run] if run is not None else sorted(file.parent for file in runs.glob("*/instance.json")):
        instance = read_instance(folder)
        if instance is not None and instance.runs and instance.application:
            going_on[folder] = instance
    if len(going_on) != 1:
        there = f"more than one: {', '.join(map(str, going_on))}" if going_on else "none"
        raise InstanceError(
            f"expected one run that goes on in {run or runs}, found {there}. Name its folder with --run, or the application with --application;"
            " start one with `tidemill up APPLICATION`"
        )
    ((folder, instance),) = going_on.items()
    return instance.reads, folder


def _login_name() -> str:
    """Return who is logged in; empty where nobody is known (a container without a user)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
