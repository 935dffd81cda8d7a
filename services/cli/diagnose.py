"""`tidemill diagnose`: why a model does worse than before."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tidemill.services.cli.output_file import output_file
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, console, errors, read_plan
from tidemill.services.cli.trace import Artifacts, artifact_store, traced_failures


def diagnose(
    application: ApplicationFolder,
    model: Annotated[str, typer.Argument(help="Which model.")],
    since: Annotated[datetime | None, typer.Option(help="Begin of what is looked into, UTC. (default: the last seven days)")] = None,
    html: Annotated[Path | None, typer.Option(callback=output_file, help="Write a page, too.")] = None,
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Divide the rise of a model's loss into data, model, feature, label and concept causes, with evidence.

      tidemill diagnose examples/payments fraud --since 2026-01-20

    The requests since an instant are held against up to 28 days before, as they were served. The archive and the store of models are read; no Kafka
    is needed.

    Exits with 1 when the archive does not do or has too few labelled answers, with 2 when application or model are not there.
    """
    from tidemill.offline.diagnose import diagnose_model, sentences, to_html
    from tidemill.shared.lake.tables import Lake

    plan = read_plan(application)
    if model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL")
    with traced_failures():
        uri = lake_uri(plan.application.app, lake, run, os.environ)
        store = artifact_store(artifacts, uri, os.environ)
        if store is None:
            raise typer.Exit(1)
        since_ms = None if since is None else int(since.replace(tzinfo=since.tzinfo or UTC).timestamp() * 1e3)
        try:
            diagnosis = diagnose_model(plan, Lake(uri, plan.application.app), store, model, since_ms)
        except ValueError as problem:
            errors.print(str(problem), markup=False, soft_wrap=True)
            raise typer.Exit(1) from problem
    if html is not None:
        html.write_text(to_html(diagnosis), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(asdict(diagnosis)))
        return
    for sentence in sentences(diagnosis):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
