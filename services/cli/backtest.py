"""The `backtest` command."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tidemill.services.cli.offline import journal_time_ms
from tidemill.services.cli.output_file import output_file, output_folder
from tidemill.services.cli.terminal import ApplicationFolder, checked, console, failures, read_plan, tell

if TYPE_CHECKING:
    from tidemill.backtest.run import BacktestResult
    from tidemill.shared.application.plan import Plan


def backtest(
    application: ApplicationFolder,
    more: Annotated[list[str] | None, typer.Argument(metavar="[STREAM=FILE]...", hidden=True)] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="STREAM=FILE for each stream (Parquet, CSV, JSON lines), or `flights`, `payments`, or a folder with files named after streams."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Instead of data: the journal of a run in this folder, with the models it had where it had them.")
    ] = None,
    begin: Annotated[int | None, typer.Option("--from", parser=journal_time_ms, metavar="TIME", help="Rows known before it are left out.")] = None,
    until: Annotated[int | None, typer.Option(parser=journal_time_ms, metavar="TIME", help="Rows known from it on are left out.")] = None,
    report: Annotated[Path | None, typer.Option(callback=output_file, help="Figures as JSON, by model and block of time.")] = None,
    predictions: Annotated[Path | None, typer.Option(callback=output_file, help="One row for each request and model, as Parquet.")] = None,
    explanations: Annotated[
        Path | None,
        typer.Option(callback=output_file, help="Why each prediction of models that declare `explain` has its score, as Parquet."),
    ] = None,
    html: Annotated[Path | None, typer.Option(callback=output_file, help="Figures and plots as one page.")] = None,
    training_time: Annotated[str, typer.Option(help="Event time that a training takes, e.g. 90s: its model serves so much later.")] = "0s",
    slice_: Annotated[
        str | None,
        typer.Option("--slice", help="Event time given at once, e.g. 1h; models switch between slices. (default: 1d, less where the data is short)"),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(callback=output_folder, help="New folder for lake, models and trainings, which stay. (default: they are deleted)")
    ] = None,
    allow_rejected: Annotated[int, typer.Option(min=0, help="So many records may be rejected for reasons the application does not declare.")] = 0,
    available: Annotated[str, typer.Option(help="Files: column that says when a row became known; without it, the event time.")] = "_available",
    available_format: Annotated[str | None, typer.Option(help="How that column is written: seconds, '%Y%m%d', ...")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="flights: only the first days of the year.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="payments: how many. (default: 60000)")] = None,
    interval: Annotated[str | None, typer.Option(help="payments: mean distance in time, e.g. 10ms. (default: 2m)")] = None,
    seed: Annotated[int | None, typer.Option(help="payments: which ones. (default: 7)")] = None,
) -> None:
    """Run data of the past through every stage, in one process, without servers: what would have been served, learned and promoted.

      tidemill backtest examples/payments --data payments --count 20000 --report backtest.json --html backtest.html
    Your own files, one for each stream:
      tidemill backtest examples/payments --data payments=payments.parquet --data chargebacks=chargebacks.csv --predictions out.parquet

    A run of `up` or `replay` once more, without what made it: its predictions and outcomes are the same bit for bit:
      tidemill backtest examples/payments --run .tidemill/up/payments --predictions out.parquet

    The stages are the live ones, on virtual time: every row is given when it became known, labels included. The result does not depend on the
    machine's speed, and is that of `tidemill replay` with the same --slice.

    Exits with 2 when application or data do not fit, with 1 when a stage fails, and with 3 when the run went through but records were rejected
    (other than by the application's own `expect`, and more than --allow-rejected), no request was answered, or every training of a model failed.
    """
    from tidemill.backtest.run import BacktestOptions, backtest_of_run
    from tidemill.backtest.run import backtest as run_data
    from tidemill.services.cli.backtest_data import DataChoice
    from tidemill.services.cli.dataset import DataSetOptions
    from tidemill.shared.application.values import parse_duration
    from tidemill.shared.avro.times import parse_time_format

    _refuse_what_does_not_fit(read_plan(application), run, data, (begin, until, slice_), keep, explanations)
    interval_ms = None if interval is None else float(checked("--interval", lambda: parse_duration(interval)))
    if available_format is not None:
        checked("--available-format", lambda: parse_time_format(available_format))
    choice = DataChoice([*(data or ()), *(more or ())], DataSetOptions(days, count, interval_ms, seed, available, available_format), begin, until)
    training_ms = checked("--training-time", lambda: parse_duration(training_time))
    slice_ms = None if slice_ is None else checked("--slice", lambda: _positive(parse_duration(slice_)))
    options = BacktestOptions(choice, slice_ms, training_ms, report, predictions, html, keep, allow_rejected, explanations)
    with failures():
        outcome = run_data(application, options, console) if run is None else backtest_of_run(application, run, options, os.environ, console)
    _show(outcome)
    for path in (report, predictions, explanations, html):
        if path is not None:
            console.print(f"Written: {path}", highlight=False, soft_wrap=True)
    tell(outcome.findings, "The backtest")


def _refuse_what_does_not_fit(
    plan: "Plan", run: Path | None, data: list[str] | None, stretch: tuple[object, ...], keep: Path | None, explanations: Path | None
) -> None:
    """Refuse options that say nothing together.

    Parameters
    ----------
    stretch
        The options that cut data, which a run's journal is not: begin, end and slice.
    """
    if explanations is not None and "explanations" not in plan.application.stages:
        raise typer.BadParameter("expected a model that declares explain: {top: 5}, found none in the application", param_hint="--explanations")
    if (run is None) == (not data):
        raise typer.BadParameter("expected either --data STREAM=FILE or --run FOLDER", param_hint="--data, --run")
    if run is not None and any(one is not None for one in stretch):
        raise typer.BadParameter("expected --run without --from, --until and --slice: a run's journal is given whole, cut where its models switched")
    if keep is not None and any(keep.iterdir()):
        raise typer.BadParameter(
            f"expected a new or an empty folder, {keep} holds files: what another run left there would be learned from", param_hint="--keep"
        )


def _show(outcome: "BacktestResult") -> None:
    """Print what the backtest came to."""
    from tidemill.runs.metric_words import metric_text, metric_words

    table = Table(show_header=False, box=None)
    busy_s = max(outcome.seconds - outcome.waited_s, 1e-9)
    table.add_row(
        "events", f"{outcome.events:,} in {outcome.seconds:.1f} s ({outcome.events / busy_s:,.0f}/s beside {outcome.waited_s:.1f} s of trainings)"
    )
    table.add_row("predictions", f"{outcome.predictions:,}")
    for name in ("retrains", "promotions", "refusals", "rollbacks", "incidents", "incident_alarms", "drift_events"):
        table.add_row(name.replace("_", " "), f"{outcome.figures.values[name]:,}")
    for model, quality in outcome.figures.quality.items():
        text = "no model was promoted, or no label came after that"
        if quality is not None:
            served, static = (metric_text(quality.headline, figures.get(quality.headline)) for figures in (quality.served, quality.static))
            text = f"{metric_words(quality.headline)} {served} served, {static} by the first model kept ({quality.rows:,} labels)"
        table.add_row(model, text)
    console.print(table)


def _positive(duration_ms: int) -> int:
    if duration_ms <= 0:
        raise ValueError(f"expected a positive duration, found {duration_ms} ms")
    return duration_ms
