"""An operator's word that a paused stream is to go on."""

import os
import time
from contextlib import closing
from typing import Annotated

import typer

from tidemill.runs.command_channel import CommandChannel, NotTakenError
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan
from tidemill.shared.application.plan import Plan
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.runner.progress import Progress

_FOLLOWED_S = 30.0


class IngestionProgress:
    """What ingestion has committed, to the end of the log whenever it is asked."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        from tidemill.runs.watch import record_codec

        topic = plan.topics.progress("ingestion")
        self._places = [TopicPartition(topic, partition) for partition in range(plan.application.partitions)]
        self._codec, self._reader = record_codec(registry, topic, "Progress"), broker.reader()
        self._read: dict[TopicPartition, int] = {}
        self._newest: dict[TopicPartition, Progress] = {}

    def paused(self, topic: str) -> list[int]:
        """Return the partitions in which a topic is paused."""
        for place in self._places:
            low, end = self._reader.watermarks(place)
            for records in self._reader.read(place, max(low, self._read.get(place, low)), end):
                values = [value for value in records.values if value is not None]
                if values:
                    self._newest[place] = Progress.decode(values[-1], self._codec)
            self._read[place] = end
        return [place.partition for place, progress in self._newest.items() if topic in progress.paused]

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def resume(
    application: ApplicationFolder,
    stream: Annotated[str, typer.Argument(help="Which stream.")],
    reason: Annotated[str, typer.Option(help="Why; ingestion's log has it.")] = "",
    run: RunFolder = None,
    command_id: Annotated[str, typer.Option("--id", help="Names the command in ingestion's log. (default: a random one)")] = "",
) -> None:
    """Let a stream go on that is paused because most of it was refused (`on_flood: pause`), in all its partitions.

      tidemill resume examples/payments payments --reason "the producer is mended"

    The command is signed as those of `tidemill command` are. What waited is read now, and follows in the journal what the other streams
    have brought meanwhile. If it is junk as well, the stream is paused again.

    Exits with 1 when nobody follows within 30 s, with 2 when application, stream, run or key do not fit.
    """
    from tidemill.shared.commands.signing import RESUME_STREAM

    plan = read_plan(application)
    pausing = [name for name, one in plan.streams.items() if one.pauses_on_flood]
    if stream not in pausing:
        expectation = f"expected a stream that declares `on_flood: pause` ({', '.join(pausing) or 'there is none'}), got {stream}"
        raise typer.BadParameter(expectation, param_hint="STREAM")
    topic = plan.streams[stream].topic
    folder = run_folder(plan.application.app, run, os.environ)
    with failures():
        channel = CommandChannel.to_run(plan, folder, os.environ)
        with closing(IngestionProgress(plan, channel.broker, channel.registry)) as progress:
            paused = progress.paused(topic)
            if not paused:
                console.print(f"{stream} is not paused: there is nothing to resume.", highlight=False)
                return
            try:
                identity = channel.send(stream, RESUME_STREAM, reason, command_id)
            except NotTakenError as problem:
                errors.print(str(problem), markup=False)
                raise typer.Exit(1) from problem
            deadline = time.monotonic() + _FOLLOWED_S
            while progress.paused(topic):
                if time.monotonic() > deadline:
                    errors.print(
                        f"Command {identity} is written to {plan.topics.commands}, but {stream} is still paused after {_FOLLOWED_S:.0f} s:"
                        " is ingestion running, and has it this key? Its log says why it does not follow.",
                        markup=False,
                    )
                    raise typer.Exit(1)
                time.sleep(0.1)
    console.print(f"{stream} goes on in partition {', '.join(map(str, paused))}.", highlight=False)
