"""`tidemill apply`: a changed application taken over by a run that goes on."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan
from tidemill.shared.regular_file import regular_file


def apply(
    application: ApplicationFolder,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="What `tidemill plan --json` has printed: applied only if run and application are what they were then.", exists=True, dir_okay=False
        ),
    ] = None,
    run: RunFolder = None,
) -> None:
    """Have a run of `tidemill up` take over a changed application while it goes on.

      tidemill apply examples/payments

    Services are started again one after the other; requests that come meanwhile wait in their topics, and each is answered once by every model
    that the application has then. Changed views are computed over the whole journal and followed from one marked offset on (`tidemill switches`),
    added models are trained on their own labels, removed ones end as `retired`. What a run cannot become is refused, and a service that does not
    come up with the change puts all of them back: the run has what it had.

    Exits with 0 when the run has the application (also when nothing changes), with 1 when it is refused or not taken over, and with 2 when the
    application is wrong or there is no run.
    """
    from tidemill.planning.application_plan import PlanFileError
    from tidemill.planning.apply import apply as apply_to_run
    from tidemill.planning.report import lines
    from tidemill.runs.change_desk import ChangeRefusedError

    name = read_plan(application).application.app
    with failures():
        try:
            text = None if plan is None else regular_file(plan).read_text(encoding="utf-8", errors="replace")
            made = apply_to_run(run_folder(name, run, os.environ), application, text)
        except (ChangeRefusedError, PlanFileError) as problem:
            errors.print(str(problem), markup=False, soft_wrap=True, highlight=False)
            raise typer.Exit(1) from problem
    if made.verdict == "nothing":
        console.print("Nothing changes.")
        return
    for line in [*lines(made)][:-1]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print("The run has taken it over.")
