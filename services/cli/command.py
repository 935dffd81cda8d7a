"""Commands of an operator to the control plane, signed with the key of the run."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from tidemill.runs.command_channel import CommandChannel, NotTakenError
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan


class Action(StrEnum):
    """What can be commanded."""

    retrain = "retrain"
    roll_back = "roll_back"
    promote = "promote"
    step_back = "step_back"
    pin = "pin"
    unpin = "unpin"
    pause = "pause"
    resume = "resume"


def command(
    application: ApplicationFolder,
    model: Annotated[str, typer.Argument(help="Which model.")],
    action: Annotated[Action, typer.Argument(help="What to do.")],
    reason: Annotated[str, typer.Option(help="Why; it is written beside the decision.")],
    run: RunFolder = None,
    command_id: Annotated[str, typer.Option("--id", help="Names the command if it is repeated: it is followed once. (default: a random one)")] = "",
) -> None:
    """Command the control plane of a running application: retrain, roll back, pin or pause a model and the like, without waiting for the answer.

      tidemill command examples/payments fraud retrain --reason "a new country"

    The command is signed (TIDEMILL_COMMANDS__KEY or __KEY_FILE, else the run's own key); what becomes of it is told on the topic APP-decisions.

    Exits with 1 when Kafka does not take it, with 2 when application, model, run or key do not fit.
    """
    plan = read_plan(application)
    if model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL")
    folder = run_folder(plan.application.app, run, os.environ)
    try:
        with failures():
            channel = CommandChannel.to_run(plan, folder, os.environ)
            identity = channel.send(model, action.value, reason, command_id)
    except NotTakenError as problem:
        errors.print(str(problem), markup=False)
        raise typer.Exit(1) from problem
    console.print(f"Command {identity} is written to {plan.topics.commands}; {plan.topics.decisions} says what becomes of it.", highlight=False)
