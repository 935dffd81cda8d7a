"""Commands of an operator to the lifecycle of a model: rollback, promote, step-back, retrain, pin, unpin."""

import getpass
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tidemill.runs.command_channel import CommandChannel, NotTakenError
from tidemill.runs.instance import Instance, InstanceError, read_instance
from tidemill.runs.last_run import UP
from tidemill.services.cli.terminal import console, errors, failures, read_plan

_ANSWERED_S = 30.0
Model = Annotated[str, typer.Argument(help="Which model.")]
Reason = Annotated[str, typer.Option(help="Why; it is written beside what is done.")]
Application = Annotated[Path | None, typer.Option("--application", help="Folder with app.yaml. (default: the run's)", exists=True, file_okay=False)]
Run = Annotated[Path | None, typer.Option(help="Folder of the run. (default: the one that goes on in .tidemill/up)")]
Operator = Annotated[str | None, typer.Option(help="Who commands. (default: the login name)")]
Identity = Annotated[str, typer.Option("--id", help="Names the command if it is repeated: it is followed once. (default: a random one)")]


def rollback(
    model: Model,
    reason: Reason,
    to: Annotated[str, typer.Option("--to", help="Which earlier champion. (default: the one before)")] = "",
    application: Application = None,
    run: Run = None,
    operator: Operator = None,
    command_id: Identity = "",
) -> None:
    """Let an earlier champion serve again; those that came after it are not gone back to any more.

      tidemill rollback late_arrival --reason "complaints from Newark"

    If another version serves by the time the command is followed than when it was given (two operators at once), it is refused.

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("roll_back", model, reason, to, application, run, operator, command_id)


def promote(
    model: Model,
    reason: Reason,
    version: Annotated[str, typer.Option("--version", help="Which challenger, to be sure. (default: whatever is tried)")] = "",
    application: Application = None,
    run: Run = None,
    operator: Operator = None,
    command_id: Identity = "",
) -> None:
    """Let the challenger, which is in shadow or answers a share, serve everybody now, however long it has been tried.

      tidemill promote late_arrival --reason "the new airline starts tomorrow"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("promote", model, reason, version, application, run, operator, command_id)


def step_back(
    model: Model,
    reason: Reason,
    version: Annotated[str, typer.Option("--version", help="Which challenger, to be sure. (default: whatever is tried)")] = "",
    application: Application = None,
    run: Run = None,
    operator: Operator = None,
    command_id: Identity = "",
) -> None:
    """Try the challenger no more; the champion serves everybody.

      tidemill step-back late_arrival --reason "complaints from Newark"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("step_back", model, reason, version, application, run, operator, command_id)


def retrain(
    model: Model, reason: Reason, application: Application = None, run: Run = None, operator: Operator = None, command_id: Identity = ""
) -> None:
    """Ask for a training now, whatever cool-down and budget say; what comes of it has to pass the gate like any other.

      tidemill retrain late_arrival --reason "a new airline joined"

    Exits with 1 when nobody answers within 30 s, with 2 when model, run or key do not fit or the command is refused.
    """
    send_command("retrain", model, reason, "", application, run, operator, command_id)


def pin(
    model: Model,
    reason: Reason,
    version: Annotated[str, typer.Option("--version", help="The version that serves, to be sure. (default: whatever serves)")] = "",
    application: Application = None,
    run: Run = None,
    operator: Operator = None,
    command_id: Identity = "",
) -> None:
    """Keep the version that serves: candidates are trained and judged, and none is promoted or rolled back before `tidemill unpin`.

      tidemill pin late_arrival --reason "the holidays"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("pin", model, reason, version, application, run, operator, command_id)


def unpin(
    model: Model, reason: Reason, application: Application = None, run: Run = None, operator: Operator = None, command_id: Identity = ""
) -> None:
    """Let candidates be promoted again; the next one that passes is.

      tidemill unpin late_arrival --reason "the holidays are over"

    Exits with 1 when nobody answers within 30 s, with 2 when model, run or key do not fit or the command is refused.
    """
    send_command("unpin", model, reason, "", application, run, operator, command_id)


def run_to_command(application: Path | None, run: Path | None, runs: Path = UP) -> tuple[Path, Path]:
    """Return the application's folder and the run's: what was named, else what goes on.

    Raises
    ------
    InstanceError
        Nothing goes on, or more than one run does.
    """
    if application is not None:
        return application, run or runs / read_plan(application).application.app
    found: dict[Path, Instance] = {}
    for folder in [run] if run is not None else sorted(file.parent for file in runs.glob("*/instance.json")):
        instance = read_instance(folder)
        if instance is not None and instance.runs and instance.application:
            found[folder] = instance
    if len(found) != 1:
        there = f"more than one: {', '.join(map(str, found))}" if found else "none"
        raise InstanceError(
            f"expected one run that goes on in {run or runs}, found {there}. Name its folder with --run, or the application with --application;"
            " start one with `tidemill up APPLICATION`"
        )
    ((folder, instance),) = found.items()
    return instance.reads, folder


def send_command(
    what: str,
    model: str,
    reason: str,
    version: str,
    application: Path | None,
    run: Path | None,
    operator: str | None,
    command_id: str,
    share: float = 0.0,
) -> None:
    """Send a command and wait for what becomes of it; refused at once where it cannot be followed as the model stands now."""
    from tidemill.services.cli.command_answers import CommandAnswers, problem_of

    with failures():
        application, folder = run_to_command(application, run)
        plan = read_plan(application)
        if model not in plan.models:
            raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL")
        if not reason.strip():
            raise typer.BadParameter("expected why, in words, got nothing", param_hint="--reason")
        channel = CommandChannel.to_run(plan, folder, os.environ)
        with closing(CommandAnswers(plan, channel.broker, channel.registry)) as answers:
            lifecycle = answers.lifecycle(model)
            if what != "retrain" and (problem := problem_of(what, version, lifecycle)):
                errors.print(problem, markup=False, soft_wrap=True)
                raise typer.Exit(2)
            serving = lifecycle.champion.version if lifecycle.champion and what != "retrain" else ""
            who = login_name() if operator is None else operator
            try:
                identity = channel.send(model, what, reason, command_id, version=version, serving=serving, operator=who, share=share)
            except NotTakenError as not_taken:
                errors.print(str(not_taken), markup=False)
                raise typer.Exit(1) from not_taken
            deadline = time.monotonic() + _ANSWERED_S
            while (answer := answers.answer(identity)) is None:
                if time.monotonic() > deadline:
                    errors.print(
                        f"Command {identity} is written to {plan.topics.commands}, and nobody has answered within {_ANSWERED_S:.0f} s: are control"
                        " and retraining running, and has an event come (a training is dated by journal time)? It is followed once that is so;"
                        f" {plan.topics.decisions} and {plan.topics.deployments} say what becomes of it.",
                        markup=False,
                        soft_wrap=True,
                    )
                    raise typer.Exit(1)
                time.sleep(0.1)
    if not answer.followed:
        errors.print(answer.text, markup=False, soft_wrap=True)
        raise typer.Exit(2)
    console.print(answer.text, markup=False, highlight=False, soft_wrap=True)


def login_name() -> str:
    """Return who is logged in; empty where nobody is known (a container without a user)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
