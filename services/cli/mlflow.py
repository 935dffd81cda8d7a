"""`tidemill mlflow`: MLflow's own pages on a run's store."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from tidemill.services.cli.run_option import RunFolder
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, failures, read_plan

_TRACKING = "TIDEMILL_TRACKING__URI"
_PREFIX = "sqlite:///"
_ENVIRONMENTS = Path(".tidemill") / "mlflow-ui"


def mlflow(
    application: ApplicationFolder,
    run: RunFolder = None,
    store: Annotated[str | None, typer.Option(help="The store itself: sqlite:///FILE. (default: that of the run)")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where the pages are served. (default: a free one)")] = None,
) -> None:
    """Open MLflow's own pages on the trainings and model versions of a run, or of a backtest that was kept (--run FOLDER); end them with Ctrl-C.

      tidemill mlflow examples/payments

    The first time it installs MLflow with its pages into an environment of its own (.tidemill/mlflow-ui): Tidemill itself needs its client alone.

    Exits with 2 when there is no such store, with 1 when the pages cannot be installed or do not come up.
    """
    from tidemill.deploy.embedded.component import free_port
    from tidemill.deploy.mlflow_ui import MlflowInstallError, mlflow_component, runs_page, ui_environment

    plan = read_plan(application)
    address = _store(plan.application.app, run, store)
    try:
        environment = ui_environment(_ENVIRONMENTS.absolute(), lambda words: errors.print(words, highlight=False, soft_wrap=True))
    except MlflowInstallError as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(1) from problem
    server = mlflow_component(environment, address, _ENVIRONMENTS.absolute(), port or free_port())
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with failures():
        server.launch()
        try:
            server.wait_until_ready()
            page = runs_page(server.address, plan.application.app)
            console.print(f"MLflow: {page} on {address} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
            while server.running and not stopped.wait(0.5):
                pass
        finally:
            server.stop()


def _store(app: str, run: Path | None, store: str | None) -> str:
    """Return the address of the store that is meant; only one that is there already: an empty one would be made in its place."""
    from tidemill.runs.last_run import last_run

    given = store or (None if run is not None else os.environ.get(_TRACKING))
    if given is not None and not given.startswith(_PREFIX):
        raise typer.BadParameter(f"expected sqlite:///FILE; a tracking server has its own pages: {given}", param_hint="--store")
    file = Path(given.removeprefix(_PREFIX)) if given is not None else (run or last_run(app)) / "mlflow.db"
    if not file.is_file():
        where = "run `up`, `replay` or `backtest --keep FOLDER` until a model has been trained, or name a folder with --run"
        errors.print(f"expected a store of trainings, found no {file}: {where}", markup=False, soft_wrap=True)
        raise typer.Exit(2)
    return f"{_PREFIX}{file.absolute()}"
