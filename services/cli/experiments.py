"""`tidemill experiments`: configurations of a model, compared."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Column, Table

from tidemill.services.cli.offline import archive_failures, journal_time_ms
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan

if TYPE_CHECKING:
    from tidemill.experiments.comparison import Comparison, Trial
    from tidemill.shared.application.plan import ModelPlan, Plan

app = typer.Typer(help="Compare configurations of a model on the archive.", no_args_is_help=True)
_SHOWN = 12
_WIDTH = 150


@app.callback()
def experiments() -> None:
    """Compare configurations of a model on the archive."""


@app.command()
def run(
    application: ApplicationFolder,
    model: Annotated[str | None, typer.Argument(help="Which model. (default: the only one)")] = None,
    grid: Annotated[Path | None, typer.Option(help="A YAML file: every combination of its values is tried.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=5_000, help="So many configurations, drawn from the families' ranges.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes, one thread each. (default: one for each processor)")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Trials run on this Ray cluster (HOST:PORT, or `auto`) instead of processes here; needs tidemill[ray]."),
    ] = None,
    run_folder: RunFolder = None,
    lake: LakeUri = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Instead of an archive: STREAM=FILE for each stream, or `flights`, `payments`, or a folder, as `backtest` takes them."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="--data flights: only the first days of the year.")] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=journal_time_ms, metavar="TIME", help="Only what was known before this journal time; the end.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Most rows that a model learns from, spread over its window; 0: all.")] = 50_000,
    folds: Annotated[int, typer.Option(min=1, max=20, help="Most stretches of training.holdout_days that are judged on.")] = 3,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draw and of every model. (default: training.seed)")] = None,
    longest: Annotated[str, typer.Option(help="A trial that takes longer has failed.")] = "10m",
    out: Annotated[Path | None, typer.Option(help="Where results lie. (default: .tidemill/experiments/APP/MODEL)")] = None,
) -> None:
    """Train and judge many configurations of a model side by side: families, hyperparameters, feature sets, windows of history.

      tidemill experiments run examples/flights --trials 50

    Each is trained on what was known at the begin of each of the last stretches of time and judged on the requests in it, as retraining would. Ended
    trials are kept: the same command goes on where it was interrupted. A trial that fails is a row of the table with its reason.

    Exits with 2 when application, model, grid or data do not fit or no Ray cluster is there, with 1 when the archive does not do, and with 3
    when no trial could be trained.
    """
    from tidemill.shared.application.errors import ApplicationError

    plan = read_plan(application)
    chosen = _model(plan, model)
    if (grid is None) == (trials is None):
        raise typer.BadParameter("expected either --grid FILE or --trials N", param_hint="--grid, --trials")
    if ray is not None:
        _check_ray()
    if data and (lake is not None or run_folder is not None):
        raise typer.BadParameter("expected either --data or an archive (--lake, --run)", param_hint="--data")
    try:
        comparison = _experiment(
            plan, application, chosen, grid, trials, jobs, ray, run_folder, lake, data, days, end, rows, folds, seed, longest, out
        )
    except ApplicationError as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    if not comparison.done:
        errors.print(f"no configuration could be trained: {comparison.failed[0].reason}", markup=False, soft_wrap=True)
        raise typer.Exit(3)


def _check_ray() -> None:
    """Refuse before anything is read where Ray is not installed."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise typer.BadParameter("expected the package ray, found none: install it with `pip install 'tidemill[ray]'`", param_hint="--ray")


def _model(plan: "Plan", name: str | None) -> "ModelPlan":
    if name is None and len(plan.models) == 1:
        return next(iter(plan.models.values()))
    if name is None or name not in plan.models:
        names = ", ".join(plan.models) or "the models, of which the application has none"
        raise typer.BadParameter(f"expected one of {names}, got {name or 'none'}", param_hint="MODEL")
    return plan.models[name]


def _experiment(  # noqa: PLR0913, RUF100 - what the command was given
    plan: "Plan", application: Path, model: "ModelPlan", grid: Path | None, trials: int | None, jobs: int | None, ray: str | None,
    run_folder: Path | None, lake: str | None, data: list[str] | None, days: int | None, end: int | None, rows: int, folds: int, seed: int | None,
    longest: str, out: Path | None,
) -> "Comparison":  # fmt: skip
    from tidemill.experiments.figures_file import write_json
    from tidemill.experiments.pool import ProcessPool
    from tidemill.experiments.ray_pool import RayMissingError, RayPool
    from tidemill.experiments.report import write_html
    from tidemill.experiments.run import Cuts, Pool, prepare_first
    from tidemill.experiments.run import run as run_experiment
    from tidemill.experiments.space import draw, read_grid
    from tidemill.offline.training_set import read_training_set
    from tidemill.services.cli.terminal import checked
    from tidemill.services.retraining.domain.enough_rows import TooFewRowsError
    from tidemill.services.retraining.learned_classes import learned_from
    from tidemill.services.retraining.own_families import find_own_modules
    from tidemill.shared.application.values import parse_duration
    from tidemill.shared.lake.journal import UnfitArchiveError
    from tidemill.shared.lake.tables import Lake

    longest_s = checked("--longest", lambda: parse_duration(longest)) / 1e3
    seed = model.settings.training.seed if seed is None else seed
    find_own_modules(application)
    configurations = read_grid(grid, model) if grid is not None else draw(model, trials or 1, seed)
    folder = out or Path(".tidemill") / "experiments" / plan.application.app / model.name
    with archive_failures(), tempfile.TemporaryDirectory(prefix="tidemill-experiments-") as made:
        uri = _archived(application, data, days, Path(made)) if data else lake_uri(plan.application.app, lake, run_folder, os.environ)
        dataset = read_training_set(plan, model.name, Lake(uri, plan.application.app), end)
        try:
            choices = learned_from(model, dataset) if model.learns_classes else [(model, dataset)]
        except TooFewRowsError as problem:
            raise UnfitArchiveError(str(problem)) from problem
        model, experiment = prepare_first(plan, choices, configurations, Cuts(folds, rows), seed, folder)
    if trials is not None and len(configurations) < trials:
        errors.print(f"there are {len(configurations)} different configurations, not {trials}", highlight=False)
    for words in experiment.earlier:
        errors.print(f"not counted: {words}", markup=False, highlight=False, soft_wrap=True)
    if experiment.kept:
        errors.print(f"{len(experiment.kept)} of {len(configurations)} trials were ended before and are kept", highlight=False)
    pool: Pool
    if ray is None:
        pool = ProcessPool(experiment.folder, application, jobs or os.cpu_count() or 1, longest_s)
    else:
        try:
            pool = RayPool(experiment.folder, application, ray, jobs, longest_s)
        except RayMissingError as problem:
            raise typer.BadParameter(str(problem), param_hint="--ray") from problem
    with Progress(console=errors) as bar:
        task = bar.add_task("trials", total=len(configurations), completed=len(experiment.kept))

        def told(trial: "Trial") -> None:
            bar.advance(task)
            if trial.status != "done":
                bar.print(f"trial {trial.number} {trial.status}: {trial.reason}", markup=False, highlight=False, soft_wrap=True)

        comparison = run_experiment(experiment, model, pool, told)
    about = {"application": f"{plan.application.app} {plan.application_hash[:12]}", "asked_for": str(grid) if grid else f"{trials} drawn trials"}
    write_json(folder / "experiments.json", experiment.subject, comparison, about)
    write_html(folder / "experiments.html", experiment.subject, comparison, about)
    _show(comparison)
    console.print(f"Written: {folder / 'experiments.json'} and {folder / 'experiments.html'}", highlight=False, soft_wrap=True)
    return comparison


def _archived(application: Path, data: list[str], days: int | None, folder: Path) -> str:
    """Run the data through the stages without a training, and return where the archive lies."""
    from tidemill.backtest.run import BacktestOptions, backtest
    from tidemill.experiments.no_trainer import NoTrainer
    from tidemill.services.cli.backtest_data import DataChoice
    from tidemill.services.cli.dataset import DataSetOptions

    with failures():
        backtest(application, BacktestOptions(DataChoice(data, DataSetOptions(days)), folder=folder), errors, NoTrainer())
    return str(folder / "lake")


def _show(comparison: "Comparison") -> None:
    from tidemill.runs.metric_words import metric_text, metric_words
    from tidemill.runs.safe_console import SafeConsole

    name = comparison.kind.headline
    shown = [name, *(["average_precision", "f1"] if comparison.kind.name != "regression" else ["r2"])]
    loss = "squared error" if comparison.kind.name == "regression" else "log loss"
    heads = ("#", "family", "window", "features", loss, "behind", *map(metric_words, shown), "train s", "hyperparameters")
    table = Table(*(Column(head, justify="left" if head in ("family", "features", "hyperparameters") else "right") for head in heads), box=None)
    for row in comparison.rows[:_SHOWN]:
        trial, one = row.trial, row.trial.configuration
        settings = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.parameters.items())
        begin = [str(trial.number), one.family, f"{one.window_days} d" if one.window_days else "all", f"{one.feature_set} ({len(one.columns)})"]
        if trial.status == "done":
            figures = [metric_text(metric, trial.result["figures"].get(metric)) for metric in shown]
            behind = "best" if trial is comparison.best_loss else f"{row.behind:+.4f}{' *' if row.sure else ''}"
            table.add_row(*begin, f"{trial.loss:.5g}", behind, *figures, f"{trial.result['train_s']:.2f}", settings)
        else:
            table.add_row(*begin, trial.status, "", *[""] * len(shown), "", trial.reason)
    SafeConsole(width=max(console.width, _WIDTH)).print(table)
    more = len(comparison.rows) - _SHOWN
    if more > 0:
        console.print(f"... and {more} more in the page; * is surely worse than the best (days as observations, 5 %).", highlight=False)
    for title, picked in (
        ("most accurate", comparison.best_loss),
        ("best precision-recall trade-off", comparison.best_trade_off),
        (f"fastest, behind by at most {comparison.margin:.3g}", comparison.fastest),
    ):
        if picked is not None:
            console.print(f"{title}: {picked.number}: {picked.configuration.words}", highlight=False, markup=False, soft_wrap=True)
