"""The `tidemill` command."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tidemill.services.cli import alerts, dead_letters, experiments, run_commands
from tidemill.services.cli.ab import ab
from tidemill.services.cli.apply import apply
from tidemill.services.cli.backtest import backtest
from tidemill.services.cli.card import card
from tidemill.services.cli.command import command
from tidemill.services.cli.diagnose import diagnose
from tidemill.services.cli.explain import explain
from tidemill.services.cli.init import init
from tidemill.services.cli.lifecycle_commands import pin, promote, retrain, rollback, step_back, unpin
from tidemill.services.cli.mlflow import mlflow
from tidemill.services.cli.offline import backfill, skew, switches, training_set
from tidemill.services.cli.plan import plan
from tidemill.services.cli.reproduce import reproduce
from tidemill.services.cli.resume import resume
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan
from tidemill.services.cli.trace import trace
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.text_guard import strange_bytes
from tidemill.shared.version import CODE_VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"tidemill {CODE_VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def tidemill(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Self-improving models on event streams. Start with `tidemill demo`, then `tidemill up APPLICATION` for your own."""


class Section(StrEnum):
    """A part of the application file."""

    app = "app"
    streams = "streams"
    entities = "entities"
    views = "views"
    models = "models"


@app.command()
def demo(
    days: Annotated[int | None, typer.Option(help="Only the first days of the year (a first model needs about 40).")] = None,
    load: Annotated[bool, typer.Option(help="Measure latency and throughput at the end.")] = True,
    output: Annotated[Path, typer.Option(help="Where demo-report.json and demo-report.html go.")] = Path(),
) -> None:
    """Run a year of real flights through the whole system, and audit it.

      tidemill demo

    Exits with 1 when an answer was lost or doubled, a bad record is not accounted for or was set aside because it crashes a stage, every
    training failed, or the audit finds a difference; what was rejected and which trainings failed is named.
    """
    from tidemill.demo.run import DemoFailed, DemoOptions, run_demo

    try:
        with failures():
            figures = run_demo(DemoOptions(days, load, output), console)
    except DemoFailed as problem:
        errors.print(f"[red]The demo failed:[/red] {problem}")
        raise typer.Exit(1) from problem
    table = Table(show_header=False, box=None)
    for name, value in figures.items():
        if not isinstance(value, list):
            table.add_row(name, ", ".join(f"{k} {_text(v)}" for k, v in value.items() if v != []) if isinstance(value, dict) else _text(value))
    console.print(table)
    console.print(f"Report: {(output / 'demo-report.html').absolute()}")


app.command()(init)
app.command()(run_commands.up)
app.command()(run_commands.replay)
app.command()(run_commands.audit)
for lifecycle_command in (rollback, promote, step_back, ab, retrain, pin, unpin):
    app.command()(lifecycle_command)
app.command()(backtest)
app.command()(plan)
app.command()(apply)
app.command()(command)
app.command()(resume)
app.add_typer(alerts.app, name="alerts")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(experiments.app, name="experiments")


@app.command()
def schema(
    section: Annotated[Section, typer.Option(help="For app.yaml as a whole, or for the files in streams/, views/ or models/.")] = Section.app,
) -> None:
    """Print the JSON Schema of the application file, for editors.

      tidemill schema > .tidemill/app.schema.json
    and as the first line of app.yaml:
      # yaml-language-server: $schema=../../.tidemill/app.schema.json
    """
    from tidemill.shared.application.json_schema import json_schema

    typer.echo(json.dumps(json_schema(section.value), indent=2))


@app.command()
def topics(application: ApplicationFolder) -> None:
    """Make the application's topics, raw ones included, in the Kafka that TIDEMILL_KAFKA__BOOTSTRAP_SERVERS names; existing ones stay.

      tidemill topics examples/payments

    Exits with 1 when Kafka does not answer, with 2 when the application is wrong or a topic has another number of partitions.
    """
    from tidemill.runs.topics import make_topics
    from tidemill.shared.log.broker import BrokerUnreachableError

    try:
        made = make_topics(application)
    except BrokerUnreachableError as problem:
        errors.print(str(problem), markup=False)
        raise typer.Exit(1) from problem
    except (ApplicationError, ValueError) as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    console.print(f"{len(made)} topics are there: {', '.join(made)}", highlight=False)


@app.command()
def doctor() -> None:
    """Say what is installed, what is reachable, and what is wrong.

    tidemill doctor
    """
    from tidemill.services.cli.doctor import findings

    diagnoses = findings(os.environ)
    for finding in diagnoses:
        console.print(
            f"[{'green' if finding.good else 'red'}]{'ok ' if finding.good else 'BAD'}[/] {finding.what}: {finding.detail}", highlight=False
        )
    if not all(finding.good for finding in diagnoses):
        raise typer.Exit(1)


@app.command()
def check(application: ApplicationFolder) -> None:
    """Read an application and say what it amounts to: streams, features, models, topics.

      tidemill check examples/payments

    A mistake is shown with file and line, what was expected and what came; the exit code is then 2. A first training that cannot have the labels it
    needs is a warning.
    """
    from tidemill.services.retraining.domain.families.family import FamilyError
    from tidemill.services.retraining.domain.first_labels import first_labels_warning
    from tidemill.services.retraining.processes.family_check import try_own_families

    plan = read_plan(application)
    try:
        try_own_families(plan, application, explained=True)
    except FamilyError as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    table = Table(show_header=False, box=None)
    table.add_row("application", f"{plan.application.app} {plan.application_hash[:12]}")
    table.add_row("streams", ", ".join(f"{name} ({stream.topic})" for name, stream in plan.streams.items()))
    table.add_row("features", ", ".join(feature.name for feature in plan.features))
    table.add_row("models", ", ".join(f"{name} (asked by {model.ask}, {len(model.features)} features)" for name, model in plan.models.items()))
    for owner, parts in plan.application.parts_by_owner().items():
        table.add_row(f"owner {owner}", "; ".join(f"{section}: {', '.join(names)}" for section, names in parts.items()))
    console.print(table)
    for name, model in plan.models.items():
        if warning := first_labels_warning(name, model.settings, model.kind):
            errors.print(f"[yellow]Warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)


app.command()(backfill)
app.command(name="training-set")(training_set)
app.command()(skew)
app.command()(trace)
app.command()(explain)
app.command()(diagnose)
app.command()(reproduce)
app.command()(mlflow)
app.command()(card)
app.command()(switches)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Run the command line."""
    if problem := strange_bytes(sys.argv[1:], os.environ):
        errors.print(problem, markup=False, soft_wrap=True)
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
