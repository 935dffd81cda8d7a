"""Commands of an operator to the control plane, signed with the key of the run."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from tidemill.runs.command_channel import NotTakenError, command_key, publish_command
from tidemill.runs.instance import Instance, InstanceError
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan
from tidemill.shared.application.plan import Plan
from tidemill.shared.observability.settings import KafkaSettings


class Action(StrEnum):
    """What can be commanded."""

    retrain = "retrain"
    roll_back = "roll_back"
    pin = "pin"
    unpin = "unpin"
    pause = "pause"
    resume = "resume"


def send_command(
    plan: Plan,
    instance: Instance,
    kafka: KafkaSettings,
    key: bytes,
    model: str,
    action: str,
    reason: str,
    command_id: str = "",
    *,
    version: str = "",
    serving: str = "",
    operator: str = "",
) -> str:
    """Sign a command, publish it and return its id; NotTakenError when the broker does not take it. See `signed_command`."""
    from tidemill.deploy.embedded.infrastructure import VARIABLES
    from tidemill.runs.kafka_clients import connect
    from tidemill.runs.watch import record_codec
    from tidemill.shared.avro.registry import ConfluentSchemaRegistry
    from tidemill.shared.commands.signing import signed_command

    codec = record_codec(ConfluentSchemaRegistry(instance.addresses[VARIABLES[1]]), plan.topics.commands, "Command")
    record = signed_command(key, model, action, reason, command_id, version=version, serving=serving, operator=operator)
    publish_command(connect(kafka), plan.topics.commands, model.encode(), codec.encode(record))
    return str(record["command_id"])


def command(
    application: ApplicationFolder,
    model: Annotated[str, typer.Argument(help="Which model.")],
    action: Annotated[Action, typer.Argument(help="What to do.")],
    reason: Annotated[str, typer.Option(help="Why; it is written beside the decision.")],
    run: RunFolder = None,
    command_id: Annotated[str, typer.Option("--id", help="Names the command if it is repeated: it is followed once. (default: a random one)")] = "",
) -> None:
    """Command the control plane of a running application: retrain, roll back, pin, unpin, pause or resume a model, without waiting for the answer.

      tidemill command examples/payments fraud retrain --reason "a new country"

    The command is signed (TIDEMILL_COMMANDS__KEY or __KEY_FILE, else the run's own key); what becomes of it is told on the topic APP-decisions.

    Exits with 1 when Kafka does not take it, with 2 when application, model, run or key do not fit.
    """
    from tidemill.deploy.embedded.infrastructure import VARIABLES
    from tidemill.runs.instance import find_instance
    from tidemill.runs.settings import read_settings

    plan = read_plan(application)
    if model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL")
    folder = run_folder(plan.application.app, run, os.environ)
    try:
        with failures():
            settings, instance = read_settings(), find_instance(folder, os.environ)
            if instance.servers and not instance.runs:
                raise InstanceError(f"expected a run in {folder} that goes on, found one that has ended; start it with `tidemill up`")
            key = command_key(settings.commands, folder if instance.application else None)
            kafka = settings.kafka_at(instance.addresses[VARIABLES[0]])
            identity = send_command(plan, instance, kafka, key, model, action.value, reason, command_id)
    except NotTakenError as problem:
        errors.print(str(problem), markup=False)
        raise typer.Exit(1) from problem
    console.print(f"Command {identity} is written to {plan.topics.commands}; {plan.topics.decisions} says what becomes of it.", highlight=False)
