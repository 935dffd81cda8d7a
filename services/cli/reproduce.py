"""`tidemill reproduce`: train a version again from its record, or all of them."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from tidemill.runs.safe_console import SafeConsole
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, errors, read_plan
from tidemill.services.cli.trace import Artifacts, artifact_uri, traced_failures

if TYPE_CHECKING:
    from tidemill.offline.reproduce import Reproduction
    from tidemill.offline.reproduced_version import ReproducedVersion

_WIDTH = 150


def reproduce(
    application: ApplicationFolder,
    version: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Which version. (with --all: left out, or a model)")] = "",
    every: Annotated[bool, typer.Option("--all", help="Every version that was trained, of the model that is named or of all.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="With --all: trainings side by side. (default: the processors)")] = None,
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line a version.")] = False,
) -> None:
    """Train a version again from its record and the archive, and say whether the same bytes come.

      tidemill reproduce examples/payments fraud@2026-01-20-ab12cd

      tidemill reproduce examples/payments --all --jobs 4

    On the same code, lock file and CPU features they do. Otherwise the largest and the mean difference of scores on stored rows is reported, and
    nothing is promised. Nothing that exists is touched; no Kafka is needed.

    Exits with 0 when every byte is the same, with 1 when one differs or cannot be made again, with 2 when application or version are not there.
    """
    from tidemill.offline.reproduce import UnknownTrainingError
    from tidemill.offline.reproduce_all import reproduce_all, trained_versions
    from tidemill.offline.reproduced_version import train_again

    plan = read_plan(application)
    model, _, wanted = version.partition("@")
    if every and wanted:
        raise typer.BadParameter(f"expected a model or nothing with --all, got {version!r}", param_hint="MODEL@VERSION")
    if not every and not (model and wanted):
        raise typer.BadParameter(f"expected MODEL@VERSION, or --all, got {version!r}", param_hint="MODEL@VERSION")
    if not every and jobs is not None:
        raise typer.BadParameter("expected --all: one version is one training", param_hint="--jobs")
    if model and model not in plan.models:
        raise typer.BadParameter(f"expected one of {', '.join(plan.models)}, got {model}", param_hint="MODEL@VERSION")
    with traced_failures():
        uri = lake_uri(plan.application.app, lake, run, os.environ)
        store = artifact_uri(artifacts, uri, os.environ)
        if store is None:
            raise typer.Exit(1)
        if every:
            versions, reproduced = trained_versions(store, (model,) if model else tuple(plan.models))
            if not versions and not reproduced:
                errors.print(f"expected trainings on record in {store}, found none", markup=False, soft_wrap=True)
                raise typer.Exit(2)
            told = _Progress(len(versions))
            reproduced = [*reproduce_all(application, uri, store, versions, jobs or os.cpu_count() or 1, told), *reproduced]
        else:
            try:
                reproduced = [train_again(plan, uri, store, model, wanted)]
            except UnknownTrainingError as problem:
                errors.print(str(problem), markup=False, soft_wrap=True)
                raise typer.Exit(2) from problem
    if as_json:
        for one in reproduced:
            typer.echo(json.dumps(one.as_json()))
    elif every:
        _show_all(reproduced)
    elif reproduced[0].reproduction is not None:
        _show(reproduced[0].reproduction, SafeConsole(soft_wrap=True))
    else:
        errors.print(reproduced[0].reason, markup=False, soft_wrap=True)
    if any(one.status != "identical" for one in reproduced):
        raise typer.Exit(1)


class _Progress:
    """Says each version on the error output as it ends, so that a long run can be watched and standard output stays the result."""

    def __init__(self, of: int) -> None:
        self._ended, self._of = 0, of

    def __call__(self, one: "ReproducedVersion") -> None:
        self._ended += 1
        errors.print(f"{self._ended} of {self._of}: {one.model}@{one.version} {one.status}", markup=False, highlight=False)


def _show_all(reproduced: "Sequence[ReproducedVersion]") -> None:
    console = SafeConsole(width=max(SafeConsole().width, _WIDTH))
    table = Table(Column("version", no_wrap=True), Column("bytes", no_wrap=True), Column("largest", justify="right"), Column("mean", justify="right"),
                  Column("why, and what is to be known"), box=None)  # fmt: skip
    for one in reproduced:
        made = one.reproduction
        apart = (f"{made.largest:.3g}", f"{made.mean:.3g}") if made is not None and one.status == "differs" else ("", "")
        table.add_row(f"{one.model}@{one.version}", one.status, *apart, escape("; ".join(_words(made)) if made is not None else one.reason))
    console.print(table)
    counts = Counter(one.status for one in reproduced)
    others = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "identical")
    console.print(f"{counts['identical']} of {len(reproduced)} are the same bytes{f'; {others}' if others else ''}", highlight=False)


def _show(reproduction: "Reproduction", console: SafeConsole) -> None:
    name = f"{reproduction.model}@{reproduction.version}"
    if reproduction.is_identical:
        console.print(f"{name}: the same bytes ({reproduction.made_sha256[:12]})", highlight=False)
    else:
        console.print(
            f"{name}: other bytes ({reproduction.recorded_sha256[:12]}, now {reproduction.made_sha256[:12]}); "
            f"scores on {reproduction.rows} stored rows differ by "
            f"{reproduction.largest:.3g} at most, {reproduction.mean:.3g} on average",
            highlight=False,
        )
    for words in _words(reproduction):
        console.print(f"  {words}", markup=False, highlight=False)


def _words(reproduction: "Reproduction") -> list[str]:
    """Say what is not as it was when the version was trained."""
    changes = [f"{what}: {then[:60] or 'unknown'} then, {now[:60] or 'unknown'} now" for what, (then, now) in reproduction.environment.items()]
    return [*changes, *(() if reproduction.verdict_agrees else ("the training was decided upon differently this time",)), *reproduction.notes]
