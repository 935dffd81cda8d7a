"""`tidemill card`: a page about one version of a model."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tidemill.services.cli.output_file import output_file
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, read_plan
from tidemill.services.cli.trace import Artifacts, artifact_store, traced_failures


def card(
    application: ApplicationFolder,
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="Which model; without a version the newest one that has answered.")],
    out: Annotated[Path | None, typer.Option(callback=output_file, help="The page. (default: MODEL-VERSION.html here)")] = None,
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
) -> None:
    """Write the card of a version: what it is for, data, figures, slices, fairness, calibration, drift since, service, how to make it again.

      tidemill card examples/payments fraud

    The archive, the store of models and the registry beside them are read; no Kafka is needed. What a model is for is said in the application file
    (models: card).

    Exits with 1 when the archive or the store of models does not do, with 2 when application, model or version are not there.
    """
    from tidemill.cards.facts import UnknownModelError, gather
    from tidemill.cards.page import write_card
    from tidemill.shared.lake.tables import Lake

    plan = read_plan(application)
    name, _, version = model.partition("@")
    try:
        with traced_failures():
            uri = lake_uri(plan.application.app, lake, run, os.environ)
            store = artifact_store(artifacts, uri, os.environ)
            if store is None:
                raise typer.Exit(1)
            registry = Path(uri).parent / "mlflow.db"
            facts = gather(plan, name, version or None, Lake(uri, plan.application.app), store, registry if registry.is_file() else None)
            path = out or Path(f"{name}-{facts.signature.version}.html")
            write_card(path, facts)
    except UnknownModelError as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    console.print(f"Written: {path} ({name} {facts.signature.version})", highlight=False, soft_wrap=True, markup=False)
