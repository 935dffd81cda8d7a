"""Commands of an operator to the lifecycle of a model: rollback, promote, step-back, retrain, pin, unpin."""

import os
from contextlib import closing
from typing import Annotated

import typer

from tidemill.runs.command_channel import CommandChannel
from tidemill.services.cli.dispatch import ANSWERED_S, Dispatch, dispatched
from tidemill.services.cli.terminal import console, errors, failures

Model = Annotated[str, typer.Argument(help="Which model.")]
Challenger = Annotated[str, typer.Option("--version", help="Which challenger, to be sure. (default: whatever is tried)")]


@dispatched
def rollback(
    model: Model,
    dispatch: Dispatch,
    to: Annotated[str, typer.Option("--to", help="Which earlier champion. (default: the one before)")] = "",
) -> None:
    """Let an earlier champion serve again; those that came after it are not gone back to any more.

      tidemill rollback late_arrival --reason "complaints from Newark"

    If another version serves by the time the command is followed than when it was given (two operators at once), it is refused.

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("roll_back", model, to, dispatch)


@dispatched
def promote(model: Model, dispatch: Dispatch, version: Challenger = "") -> None:
    """Let the challenger, which is in shadow or answers a share, serve everybody now, however long it has been tried.

      tidemill promote late_arrival --reason "the new airline starts tomorrow"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("promote", model, version, dispatch)


@dispatched
def step_back(model: Model, dispatch: Dispatch, version: Challenger = "") -> None:
    """Try the challenger no more; the champion serves everybody.

      tidemill step-back late_arrival --reason "complaints from Newark"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("step_back", model, version, dispatch)


@dispatched
def retrain(model: Model, dispatch: Dispatch) -> None:
    """Ask for a training now, whatever cool-down and budget say; what comes of it has to pass the gate like any other.

      tidemill retrain late_arrival --reason "a new airline joined"

    Exits with 1 when nobody answers within 30 s, with 2 when model, run or key do not fit or the command is refused.
    """
    send_command("retrain", model, "", dispatch)


@dispatched
def pin(
    model: Model,
    dispatch: Dispatch,
    version: Annotated[str, typer.Option("--version", help="The version that serves, to be sure. (default: whatever serves)")] = "",
) -> None:
    """Keep the version that serves: candidates are trained and judged, and none is promoted or rolled back before `tidemill unpin`.

      tidemill pin late_arrival --reason "the holidays"

    Exits with 1 when nobody answers within 30 s, with 2 when model, version, run or key do not fit or the command is refused.
    """
    send_command("pin", model, version, dispatch)


@dispatched
def unpin(model: Model, dispatch: Dispatch) -> None:
    """Let candidates be promoted again; the next one that passes is.

      tidemill unpin late_arrival --reason "the holidays are over"

    Exits with 1 when nobody answers within 30 s, with 2 when model, run or key do not fit or the command is refused.
    """
    send_command("unpin", model, "", dispatch)


def send_command(action: str, model: str, version: str, dispatch: Dispatch, share: float = 0.0) -> None:
    """Send a command and say what becomes of it; refused at once where it cannot be followed as the model stands now."""
    from tidemill.services.cli.command_answers import CommandAnswers, problem_of

    with failures():
        plan, folder = dispatch.addressed()
        if model not in plan.models:
            raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL")
        channel = CommandChannel.to_run(plan, folder, os.environ)
        with closing(CommandAnswers(plan, channel.broker, channel.registry)) as answers:
            lifecycle = answers.lifecycle(model)
            if action != "retrain" and (problem := problem_of(action, version, lifecycle)):
                errors.print(problem, markup=False, soft_wrap=True)
                raise typer.Exit(2)
            serving = lifecycle.champion.version if lifecycle.champion and action != "retrain" else ""
            unanswered = (
                f"and nobody has answered within {ANSWERED_S:.0f} s: are control and retraining running, and has an event come (a training is dated"
                f" by journal time)? It is followed once that is so; {plan.topics.decisions} and {plan.topics.deployments} say what becomes of it."
            )
            answer = dispatch.send(channel, answers, model, action, unanswered, version=version, serving=serving, share=share)
    if not answer.followed:
        errors.print(answer.text, markup=False, soft_wrap=True)
        raise typer.Exit(2)
    console.print(answer.text, markup=False, highlight=False, soft_wrap=True)
