"""Start an A/B test of two versions of a model."""

from typing import Annotated

import typer

from tidemill.services.cli.dispatch import Dispatch, dispatched
from tidemill.services.cli.lifecycle_commands import send_command


@dispatched
def ab(
    version: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Which registered version is compared with the one that serves.")],
    dispatch: Dispatch,
    share: Annotated[float | None, typer.Option(help="Of the requests, by entity, which it answers. (default: the application's, else 0.5)")] = None,
) -> None:
    """Let a version answer a share of the requests beside the one that serves, until one of them is shown to be better.

      tidemill ab late_arrival@2013-04-02-6a1d8e --reason "is the longer window worth it?"

    Metric, longest time and margin are those of `stages.ab` of the application, or its defaults. The winner serves; where there is none the champion
    stays. While it runs no other candidate goes out. `tidemill promote` and `tidemill step-back` end it early.

    Exits with 1 when nobody answers within 30 s, with 2 when version, share, run or key do not fit or the command is refused.
    """
    model, _, wanted = version.partition("@")
    if not model or not wanted:
        raise typer.BadParameter(f"expected MODEL@VERSION, got {version!r}", param_hint="MODEL@VERSION")
    if share is not None and not 0 < share < 1:
        raise typer.BadParameter(f"expected a share of the requests above 0 and below 1, got {share:g}", param_hint="--share")
    send_command("ab", model, wanted, dispatch, share=share or 0.0)
