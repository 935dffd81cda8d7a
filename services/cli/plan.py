"""`tidemill plan`: what a changed application would change of a run."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.services.cli.output_file import output_file
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan

if TYPE_CHECKING:
    from tidemill.planning.application_plan import ApplicationPlan
    from tidemill.planning.running_application import RunningApplication

NOTHING, REFUSED, CHANGES = 0, 1, 10


def _with_trial(made: "ApplicationPlan", running: "RunningApplication", application: Path) -> "ApplicationPlan":
    from rich.progress import Progress

    from tidemill.planning.trial import TrialRefusedError, try_changes

    try:
        with Progress(console=errors, transient=True) as bar:
            task = bar.add_task("backtest of both")
            trial = try_changes(running, application, lambda given, total: bar.update(task, completed=given, total=total))
    except TrialRefusedError as problem:
        return replace(made, notes=(*made.notes, f"the changed application was not tried on the archive: {problem}"))
    return replace(made, trial=trial)


def plan(
    application: ApplicationFolder,
    run: RunFolder = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with the application in this folder instead of a run's: needs no run.", exists=True, file_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, which `tidemill apply --plan` takes.")] = False,
    html: Annotated[Path | None, typer.Option(callback=output_file, help="Write the plan as one page.")] = None,
    backtest: Annotated[
        bool, typer.Option(help="Run the changed application and the running one over the run's archive, with their trainings, and compare.")
    ] = True,
) -> None:
    """Say what a changed application would change of the one that runs: views, models, policies, streams, topics. Nothing is changed.

      tidemill plan examples/payments
    In CI, against the application of the main branch, without a run:
      tidemill plan examples/payments --against main/examples/payments --json

    Both applications are run over the archived journal, in this process, and what each would have served is compared on the same requests; that
    takes as long as two backtests. --no-backtest leaves it out.

    A run is compared by its own copy of the application, whatever its folder says by now. What a run cannot become (another number of
    partitions, another kind of a model, ...) is refused by name, with the way out.

    Exits with 0 when nothing changes, with 10 when something changes that can be applied, with 1 when something is refused or the run cannot be
    asked, and with 2 when the application is wrong or there is no run.
    """
    from tidemill.planning.make_plan import make_plan
    from tidemill.planning.report import lines, write_html
    from tidemill.planning.running_application import of_folder, of_run

    name = read_plan(application).application.app
    with failures():
        if against is not None and run is not None:
            raise typer.BadParameter("give one of them", param_hint="--run, --against")
        if against is not None:
            read_plan(against)
        running = of_folder(against) if against is not None else of_run(run_folder(name, run, os.environ))
        made = make_plan(running, application)
        if backtest and running.lake and made.verdict == "changes" and made.difference.restarts != ("alerts",):
            made = _with_trial(made, running, application)
    if html is not None:
        write_html(made, html)
    if as_json:
        typer.echo(json.dumps(made.as_json(), indent=2))
    else:
        for line in lines(made):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if html is not None:
        errors.print(f"Written: {html}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit({"nothing": NOTHING, "changes": CHANGES, "refused": REFUSED}[made.verdict])
