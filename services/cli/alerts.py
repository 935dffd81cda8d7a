"""`tidemill alerts`: mute alerts of a run while it goes on, and unmute them."""

import os
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import typer

from tidemill.runs.command_channel import CommandChannel
from tidemill.services.cli.dispatch import ANSWERED_S, Dispatch, dispatched
from tidemill.services.cli.terminal import console, failures
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.values import parse_duration
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import MUTE_ALERTS, UNMUTE_ALERTS
from tidemill.shared.log.broker import Broker
from tidemill.shared.log.records import TopicPartition

app = typer.Typer(help="Alerts: mute, unmute.", no_args_is_help=True)
Rules = Annotated[list[str], typer.Argument(metavar="RULE...", help="Names of rules; * stands for anything (quote it).")]
OfModel = Annotated[str, typer.Option("--model", help="Only of this model (* stands for anything).")]


@app.command()
@dispatched
def mute(
    rules: Rules,
    dispatch: Dispatch,
    model: OfModel = "*",
    duration: Annotated[str | None, typer.Option("--for", help="How long: 30m, 2h, 1d. (default: until they are unmuted)")] = None,
) -> None:
    """Keep alerts from webhooks and mails; log and topic still get them, marked as muted. What fires when the mute ends is told then.

      tidemill alerts mute "incident*" --for 2h --reason "the supplier changes its codes"

    The command is signed and stays in the run's log; who muted what until when, and why, is told by log and topic. A mute survives a restart. In
    a replay it lasts for that much journal time.

    Exits with 1 when nobody answers within 30 s, with 2 when duration, run or key do not fit.
    """
    try:
        lasts_ms = 0 if duration is None else parse_duration(duration)
    except ValueError as problem:
        raise typer.BadParameter(f"expected {problem}", param_hint="--for") from problem
    if duration is not None and lasts_ms <= 0:
        raise typer.BadParameter(f"expected a duration above zero, found {duration}", param_hint="--for")
    _command(MUTE_ALERTS, rules, model, lasts_ms, dispatch)


@app.command()
@dispatched
def unmute(
    rules: Rules,
    dispatch: Dispatch,
    model: OfModel = "*",
) -> None:
    """End mutes that were commanded, all whose rules and model fit; those of the application file stay.

      tidemill alerts unmute "incident*" --reason "the supplier is done"

    Exits with 1 when nobody answers within 30 s, with 2 when run or key do not fit.
    """
    _command(UNMUTE_ALERTS, rules, model, 0, dispatch)


class AlertAnswers:
    """Follows the topic of alerts from where it ends now; make one before the command is sent."""

    def __init__(self, plan: Plan, broker: Broker, registry: SchemaRegistry) -> None:
        from tidemill.runs.watch import record_codec

        self._place, self._reader = TopicPartition(plan.topics.alerts, 0), broker.reader()
        self._codec = record_codec(registry, plan.topics.alerts, "Alert")
        self._read = self._reader.watermarks(self._place)[1]

    def answer(self, command_id: str) -> str | None:
        """Return what was done for a command; None as long as nothing was."""
        begin, self._read = self._read, self._reader.watermarks(self._place)[1]
        for records in self._reader.read(self._place, begin, self._read):
            for value in records.values:
                told: dict[str, Any] = {} if value is None else self._codec.decode(value)
                if told.get("labels", {}).get("command_id") == command_id:
                    return str(told["summary"])
        return None

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()


def _command(action: str, rules: Sequence[str], model: str, duration_ms: int, dispatch: Dispatch) -> None:
    with failures():
        plan, folder = dispatch.addressed()
        channel = CommandChannel.to_run(plan, folder, os.environ)
        with closing(AlertAnswers(plan, channel.broker, channel.registry)) as answers:
            unanswered = (
                f"and {plan.topics.alerts} has no answer after {ANSWERED_S:.0f} s: is alerts running, and has it this key? Its log says why it does"
                " not follow."
            )
            answer = dispatch.send(channel, answers, model, action, unanswered, rules=",".join(rules), duration_ms=duration_ms)
    console.print(answer, markup=False, highlight=False, soft_wrap=True)
