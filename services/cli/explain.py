"""`tidemill explain`: what each feature contributed to an answer."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from tidemill.runs.safe_console import SafeConsole
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, errors, read_plan
from tidemill.services.cli.trace import Artifacts, artifact_store, text_of, traced_failures

if TYPE_CHECKING:
    from tidemill.offline.explain import AnswerExplained

_WIDTH = 110


def explain(
    application: ApplicationFolder,
    request: Annotated[str, typer.Argument(metavar="ID", help="Event id of the request.")],
    model: Annotated[str | None, typer.Option(help="Which model's answer. (default: every model's)")] = None,
    top: Annotated[int, typer.Option(min=1, help="Features that are shown; the others are summed up.")] = 12,
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all features.")] = False,
) -> None:
    """Say why a request got its score: what each feature added, against rows that the model learned from.

      tidemill explain examples/payments p7-000000003

    Contributions are Shapley values: exact in log-odds for forests and linear models, by random orders for other graphs. They and the base add
    up to the answer. The archive and the store of models are read; no Kafka is needed.

    Exits with 1 when the archive or the store of models does not do, with 2 when application, request or model are not there.
    """
    from tidemill.offline.explain import explain_request
    from tidemill.shared.lake.tables import Lake

    plan = read_plan(application)
    if model is not None and model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="--model")
    with traced_failures():
        uri = lake_uri(plan.application.app, lake, run, os.environ)
        store = artifact_store(artifacts, uri, os.environ)
        if store is None:
            raise typer.Exit(1)
        contributions = explain_request(plan, Lake(uri, plan.application.app), store, request, model)
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "value": one.value} for one in contributions]))
        return
    for one in contributions:
        _show(one, top, SafeConsole(width=max(SafeConsole().width, _WIDTH)))


def _show(one: "AnswerExplained", top: int, console: SafeConsole) -> None:
    console.print(f"[bold]{one.model}[/] {one.version} answered {one.score:.6g}", highlight=False)
    table = Table(Column("feature"), Column("value", justify="right"), Column(one.unit, justify="right"), box=None)
    for share in one.shares[:top]:
        error = f" ± {share.standard_error:.3f}" if share.standard_error else ""
        table.add_row(share.feature, escape(text_of(share.value)), f"{share.contribution:+.4f}{error}")
    if rest := one.shares[top:]:
        table.add_row(f"{len(rest)} more", "", f"{sum(share.contribution for share in rest):+.4f}")
    table.add_row("base: mean of rows learned from", "", f"{one.base:+.4f}")
    table.add_row("together", "", f"{one.value:+.4f}")
    console.print(table)
    if not one.reproduced:
        errors.print("the stored model does not give the served score for the served vector: look at `tidemill audit`", markup=False, soft_wrap=True)
