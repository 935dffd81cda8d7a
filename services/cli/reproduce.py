"""`tidemill reproduce`: train a version again from its record."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, errors, read_plan
from tidemill.services.cli.trace import Artifacts, artifact_uri, traced_failures

if TYPE_CHECKING:
    from tidemill.offline.reproduce import Reproduction


def reproduce(
    application: ApplicationFolder,
    version: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Which version. (with --all: left out, or a model)")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every version on record, of the model that is named or of all.")] = False,
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line a version.")] = False,
) -> None:
    """Train a version again from its record and the archive, and say whether the same bytes come.

      tidemill reproduce examples/payments fraud@2026-01-20-ab12cd

    On the same code, lock file and CPU features they do. Otherwise the largest and the mean difference of scores on stored rows is reported, and
    nothing is promised. Nothing that exists is touched; no Kafka is needed.

    Exits with 0 when every byte is the same, with 1 when one differs or cannot be made again, with 2 when application or version are not there.
    """
    from tidemill.offline.reproduce import ReproductionError, UnknownVersionError, recorded_versions
    from tidemill.offline.reproduce import reproduce as train_again
    from tidemill.shared.lake.tables import Lake
    from tidemill.shared.models.training_record import TrainingRecords

    plan = read_plan(application)
    model, _, wanted = version.partition("@")
    if not every and not (model and wanted):
        raise typer.BadParameter(f"expected MODEL@VERSION, or --all, got {version!r}", param_hint="MODEL@VERSION")
    if model and model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL@VERSION")
    with traced_failures():
        uri = lake_uri(plan.application.app, lake, run, os.environ)
        store = artifact_uri(artifacts, uri, os.environ)
        if store is None:
            raise typer.Exit(1)
        versions = recorded_versions(TrainingRecords(store), (model,) if model else tuple(plan.models)) if every else [(model, wanted)]
        if not versions:
            errors.print(f"expected trainings on record in {store}, found none", markup=False, soft_wrap=True)
            raise typer.Exit(2)
        failed = False
        for name, one in versions:
            try:
                found = train_again(plan, Lake(uri, plan.application.app), uri, store, name, one)
            except UnknownVersionError as problem:
                errors.print(str(problem), markup=False, soft_wrap=True)
                raise typer.Exit(2) from problem
            except ReproductionError as problem:
                errors.print(str(problem), markup=False, soft_wrap=True)
                failed = True
                continue
            failed |= not found.is_identical
            if as_json:
                typer.echo(json.dumps({**asdict(found), "identical": found.is_identical}))
            else:
                _show(found, Console(soft_wrap=True))
    if failed:
        raise typer.Exit(1)


def _show(found: "Reproduction", console: Console) -> None:
    name = f"{found.model}@{found.version}"
    if found.is_identical:
        console.print(f"{name}: the same bytes ({found.made_sha256[:12]})", highlight=False)
    else:
        console.print(
            f"{name}: other bytes ({found.recorded_sha256[:12]}, now {found.made_sha256[:12]}); scores on {found.rows} stored rows differ by "
            f"{found.largest:.3g} at most, {found.mean:.3g} on average",
            highlight=False,
        )
    for what, (then, now) in found.environment.items():
        console.print(f"  {what}: {then[:60] or 'unknown'} then, {now[:60] or 'unknown'} now", markup=False, highlight=False)
    if not found.verdict_agrees:
        console.print("  the training was decided upon differently this time", highlight=False)
    for note in found.notes:
        console.print(f"  {note}", markup=False, highlight=False)
