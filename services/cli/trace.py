"""`tidemill trace`: one request from its event to what was learned from it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from tidemill.runs.safe_console import SafeConsole
from tidemill.services.cli.offline import archive_failures
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.services.cli.terminal import ApplicationFolder, errors, read_plan
from tidemill.shared.instant import utc

if TYPE_CHECKING:
    from tidemill.offline.contributions import Contribution
    from tidemill.offline.trace import ModelTrace, Trace
    from tidemill.shared.models.artifacts import ArtifactStore

_STORE = "TIDEMILL_ARTIFACTS__URI"
_WIDTH = 150
_PLACES = ("journal_partition", "journal_offset", "journal_time", "request_journal_offset", "request_journal_time")
_HIDDEN = {"request_id", "model", "event_time", *_PLACES}

Artifacts = Annotated[str | None, typer.Option("--artifacts", help="Where the models lie. (default: beside the archive)")]


def trace(
    application: ApplicationFolder,
    request: Annotated[str, typer.Argument(metavar="ID", help="Event id of the request.")],
    run: RunFolder = None,
    lake: LakeUri = None,
    artifacts: Artifacts = None,
    newest: Annotated[int, typer.Option(min=1, help="Records of a feature that are named.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Follow one request: its event, the records that made each feature, the model that answered, its label, and which models learned from it.

      tidemill trace examples/payments p7-000000003

    It reads the archive, so it needs no Kafka, and it works on runs that have ended.

    Exits with 1 when the archive or the store of models does not do, with 2 when application or request are not there.
    """
    from tidemill.offline.trace import trace_request
    from tidemill.shared.lake.tables import Lake

    plan = read_plan(application)
    with traced_failures():
        uri = lake_uri(plan.application.app, lake, run, os.environ)
        traced = trace_request(plan, Lake(uri, plan.application.app), artifact_store(artifacts, uri, os.environ), request, newest)
    if as_json:
        typer.echo(json.dumps(asdict(traced), default=_plain))
    else:
        _show(traced, SafeConsole(width=max(SafeConsole().width, _WIDTH)))


@contextmanager
def traced_failures() -> Iterator[None]:
    """Say what is wrong in one paragraph: 2 when the request or a version is not there, 1 when the archive or the store of models does not do."""
    from tidemill.offline.trace import UnknownRequestError
    from tidemill.shared.log.errors import TransientError
    from tidemill.shared.models.artifacts import ArtifactError
    from tidemill.shared.models.stored_versions import UnknownVersionError

    try:
        with archive_failures():
            yield
    except (UnknownRequestError, UnknownVersionError) as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(2) from problem
    except (ArtifactError, TransientError) as problem:
        errors.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(1) from problem


def artifact_uri(given: str | None, lake: str, environment: Mapping[str, str]) -> str | None:
    """Return the address of models that was named, else the environment's, else the one beside the archive; None, and why, without any."""
    beside = Path(lake).parent / "artifacts"
    uri = given or environment.get(_STORE, "").strip() or (str(beside) if beside.is_dir() else "")
    if not uri:
        errors.print(f"no store of models beside {lake}: give --artifacts", markup=False, soft_wrap=True)
    return uri or None


def artifact_store(given: str | None, lake: str, environment: Mapping[str, str]) -> "ArtifactStore | None":
    """Return the store of that address; None, and why, without any."""
    from tidemill.shared.models.artifacts import ArtifactStore

    uri = artifact_uri(given, lake, environment)
    return None if uri is None else ArtifactStore(uri)


def _show(traced: "Trace", console: SafeConsole) -> None:
    asking = traced.asking
    console.print(f"[bold]Request[/] {escape(traced.request_id)}", highlight=False)
    topic, partition, offset = traced.source
    console.print(f"  {topic}[{partition}] offset {offset} → journal {asking.partition}@{asking.offset}, known {_time(asking.journal_time_ms)}"
                  f"{', late' if traced.late else ''}", markup=False, highlight=False)  # fmt: skip
    console.print("  " + ", ".join(f"{k}={text_of(v)}" for k, v in asking.fields.items() if not k.startswith("_")), markup=False, highlight=False)
    console.print("\n[bold]Features[/]", highlight=False)
    table = Table(*(Column(name, no_wrap=name != "newest") for name in ("feature", "value", "records", "newest")), box=None, padding=(0, 2, 0, 2))
    for one in traced.features:
        table.add_row(*map(escape, (one.name, text_of(one.value), *_made(one.made_of))))
    console.print(table)
    versions = {(one.model, one.version): one for one in traced.served_by}
    for row in traced.predictions:
        console.print(f"\n[bold]Prediction[/] of {row['model']}: {escape(_fields(row))}", highlight=False)
        model = versions.get((row["model"], row["model_version"]))
        if model is not None:
            parameters = ", ".join(
                f"{name} {value}" for name, value in sorted(model.details.items()) if not name.endswith("_ms") and name != "family"
            )
            console.print(f"  {_model(model)}: {parameters}", markup=False, highlight=False)
        for pair in (one for one in traced.shadow_scores if one["model"] == row["model"]):
            console.print(f"  {_pair(pair)}", markup=False, highlight=False)
        for outcome in (one for one in traced.outcomes if one["model"] == row["model"]):
            at = f"journal {outcome['journal_partition']}@{outcome['journal_offset']}, {_time(outcome['journal_time'])}"
            served = {name: value for name, value in outcome.items() if name not in row}
            console.print(f"  outcome at {at}: {_fields(served)}", markup=False, highlight=False)
    for what, models in (("Learned by", traced.taught), ("Judged", traced.judged)):
        console.print(f"\n[bold]{what}[/] {escape('; '.join(map(_model, models))) or 'none so far'}", highlight=False)


def _pair(pair: Mapping[str, Any]) -> str:
    """Say what champion and challenger said of a request, and why it was answered by whom."""
    said = {
        whose: text_of(pair[f"{whose}_score"]) if pair[f"{whose}_score"] is not None else f"none ({pair[f'{whose}_reason']})"
        for whose in ("champion", "challenger")
    }
    words = ", ".join(f"{whose} {pair[f'{whose}_version']} scored {score}" for whose, score in said.items())
    if pair["draw"] is None:
        return f"tried in shadow: {words}"
    drawn = f"the key's hash {pair['draw']:.6f} is {'below' if pair['draw'] < pair['share'] else 'not below'} the share {pair['share']:g}"
    where = "in an A/B test" if pair["stage"] == "ab" else "as a canary"
    return f"tried {where}: {words}; {drawn}: {pair['variant']}"


def _made(made: "Contribution | None") -> tuple[str, str]:
    if made is None:
        return "", "the request's own"
    return f"{made.count:,}", ", ".join(f"{one.stream} {one.event_id or ''}@{one.offset} {_time(one.journal_time_ms)}" for one in made.newest)


def _model(one: "ModelTrace") -> str:
    until = f", requests until {_time(one.learned_until_ms)}" if one.learned_until_ms is not None else ""
    return f"{one.version} ({one.family}{until}, {one.sha256[:12]})"


def _fields(row: Mapping[str, Any]) -> str:
    given = {name: value for name, value in row.items() if name not in _HIDDEN and value is not None}
    return ", ".join(f"{name} {_time(value) if name.endswith('_time') else text_of(value)}" for name, value in given.items())


def _time(time_ms: int) -> str:
    return utc(time_ms).strftime("%Y-%m-%d %H:%M:%S")


def text_of(value: object) -> str:
    """Write a value of a feature or a record."""
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
