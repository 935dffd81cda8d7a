"""An operator's word that a paused stream is to go on."""

import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.command import command_key, send_command
from services.cli.instance import InstanceError, find_instance
from services.cli.terminal import DEFAULT_FOLDER, ApplicationFolder, console, errors, failures, read_plan

if TYPE_CHECKING:
    from services.cli.watch import Seen

_FOLLOWED_S = 30.0


def paused_partitions(seen: "Seen", topic: str) -> list[int]:
    """Return the partitions in which ingestion has paused a topic."""
    return sorted(partition for (stage, partition), progress in seen.progress.items() if stage == "ingestion" and topic in progress.paused)


def resume(
    application: ApplicationFolder,
    stream: Annotated[str, typer.Argument(help="Which stream.")],
    reason: Annotated[str, typer.Option(help="Why; ingestion's log has it.")] = "",
    run: Annotated[Path | None, typer.Option(help="Folder of the run. (default: .tidemill/up/APP)")] = None,
    command_id: Annotated[str, typer.Option("--id", help="Names the command in ingestion's log. (default: a random one)")] = "",
) -> None:
    """Let a stream go on that is paused because most of it was refused (`on_flood: pause`), in all its partitions.

      tidemill resume examples/payments payments --reason "the producer is mended"

    The command is signed as those of `tidemill command` are. What waited is read now, and follows in the journal what the other streams
    have brought meanwhile. If it is junk as well, the stream is paused again.

    Exits with 1 when nobody follows within 30 s, with 2 when application, stream, run or key do not fit.
    """
    from deploy.embedded.infrastructure import VARIABLES
    from services.cli.settings import read_settings
    from services.cli.watch import Watch, read_out
    from shared.avro.registry import ConfluentSchemaRegistry
    from shared.commands.signing import RESUME_STREAM

    plan = read_plan(application)
    pausing = [name for name, one in plan.streams.items() if one.pauses_on_flood]
    if stream not in pausing:
        found = f"expected a stream that declares `on_flood: pause` ({', '.join(pausing) or 'there is none'}), got {stream}"
        raise typer.BadParameter(found, param_hint="STREAM")
    topic = plan.streams[stream].topic
    folder = run or DEFAULT_FOLDER / plan.application.app
    with failures():
        settings, instance = read_settings(), find_instance(folder, os.environ)
        if instance.servers and not instance.runs:
            raise InstanceError(f"expected a run in {folder} that goes on, found one that has ended; start it with `tidemill up`")
        key = command_key(settings.commands, folder if instance.application else None)
        kafka = settings.kafka_at(instance.addresses[VARIABLES[0]])
        with closing(Watch(plan, kafka, ConfluentSchemaRegistry(instance.addresses[VARIABLES[1]]))) as watch:
            paused = paused_partitions(read_out(watch), topic)
            if not paused:
                console.print(f"{stream} is not paused: there is nothing to resume.", highlight=False)
                return
            try:
                identity = send_command(plan, instance, kafka, key, stream, RESUME_STREAM, reason, command_id)
            except TimeoutError as problem:
                errors.print(str(problem), markup=False)
                raise typer.Exit(1) from problem
            deadline = time.monotonic() + _FOLLOWED_S
            while paused_partitions(watch.poll(0.1), topic):
                if time.monotonic() > deadline:
                    errors.print(
                        f"Command {identity} is written to {plan.topics.commands}, but {stream} is still paused after {_FOLLOWED_S:.0f} s:"
                        " is ingestion running, and has it this key? Its log says why it does not follow.",
                        markup=False,
                    )
                    raise typer.Exit(1)
    console.print(f"{stream} goes on in partition {', '.join(map(str, paused))}.", highlight=False)
