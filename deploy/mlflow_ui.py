"""MLflow's own pages on a store of trainings, from an environment of their own.

Tidemill needs MLflow's client alone (`mlflow-skinny`). The pages need the whole package with some hundred others, which are installed only when
somebody asks for the pages, and beside everything else.
"""

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from tidemill.deploy.embedded.component import Component

_READY = ".ready"
_DEADLINE_S = 180.0
# The pages show what was recorded: no jobs, no messages home.
_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONPATH": ""}


class MlflowInstallError(RuntimeError):
    """The pages' packages could not be installed."""


def ui_environment(folder: Path, told: Callable[[str], None]) -> Path:
    """Return the environment with MLflow's pages, of the version that writes the stores; it is made if it is not there.

    Parameters
    ----------
    folder
        Environments lie there, by version.
    told
        Is told, once, that it takes a minute.

    Raises
    ------
    MlflowInstallError
        With the end of what pip said.
    """
    wanted = version("mlflow-skinny")
    place = folder / wanted
    if (place / _READY).exists():
        return place
    told(f"Installing MLflow {wanted} with its pages into {place}, once: this takes a minute or two.")
    venv.create(place, with_pip=True, clear=True)
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet", f"mlflow=={wanted}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise MlflowInstallError(f"expected to install mlflow=={wanted} with pip, which ended with {done.returncode}:\n{tail}")
    (place / _READY).touch()
    return place


def mlflow_component(environment: Path, store: str, folder: Path, port: int) -> Component:
    """Prepare MLflow's server on a store.

    Parameters
    ----------
    store
        ``sqlite:///file``.
    folder
        For its log.
    """
    address = f"http://127.0.0.1:{port}"
    options = {"backend-store-uri": store, "host": "127.0.0.1", "port": str(port), "workers": "1"}
    command = [
        str(environment / "bin" / "python"),
        "-m",
        "mlflow",
        "server",
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]
    return Component("mlflow", address, command, folder, lambda: _answers(address), _ENVIRONMENT, deadline_s=_DEADLINE_S)


def runs_page(address: str, experiment: str) -> str:
    """Return the page of an experiment's runs; the first page where there is no such experiment yet.

    The first page of an experiment is one of traces of language models, which Tidemill has none of.

    Raises
    ------
    OSError
        The server does not answer.
    """
    named = urllib.parse.urlencode({"experiment_name": experiment})
    try:
        with urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/get-by-name?{named}", timeout=10.0) as answer:  # noqa: S310 - our own server
            number = json.load(answer)["experiment"]["experiment_id"]
    except urllib.error.HTTPError as problem:
        if problem.code != HTTPStatus.NOT_FOUND:
            raise
        return address
    return f"{address}/#/experiments/{number}/runs?workflowType=machine_learning"


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:  # noqa: S310 - an address of this process
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
