"""Commands on the archive: `backfill`, `training-set`, `skew`."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Column, Table

from tidemill.runs.safe_console import SafeConsole
from tidemill.services.cli.output_file import output_file
from tidemill.services.cli.run_option import LakeUri, RunFolder, lake_uri
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import Plan
from tidemill.shared.instant import utc

if TYPE_CHECKING:
    from tidemill.shared.lake.switches import ViewSwitch
    from tidemill.shared.lake.tables import Lake

_console = SafeConsole(soft_wrap=True)
_errors = SafeConsole(stderr=True, soft_wrap=True)
_TABLE_WIDTH = 150
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_Application = Annotated[Path, typer.Argument(help="Folder with app.yaml.", exists=True, file_okay=False)]


def journal_time_ms(text: str) -> int:
    """Read a journal time: ISO 8601 (UTC where it says no zone) or milliseconds since 1970.

    >>> journal_time_ms("2013-03-01"), journal_time_ms("2013-03-01T01:00:00+01:00"), journal_time_ms("1362096000000")
    (1362096000000, 1362096000000, 1362096000000)
    """
    if text.lstrip("-").isdigit() and len(text) != 8:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected a time such as 2013-03-01T12:00:00Z, or milliseconds since 1970, got {text!r}") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


_From = Annotated[
    int | None, typer.Option("--from", parser=journal_time_ms, metavar="TIME", help="Journal time of the first vectors; the beginning.")
]
_To = Annotated[int | None, typer.Option("--to", parser=journal_time_ms, metavar="TIME", help="Journal time before which they lie; the end.")]


def backfill(
    application: _Application,
    run: RunFolder = None,
    lake: LakeUri = None,
    begin: _From = None,
    end: _To = None,
    out: Annotated[str | None, typer.Option(help="A file ending in .parquet, or the folder of a new Delta table.")] = None,
    start: Annotated[
        int | None, typer.Option(parser=journal_time_ms, metavar="TIME", help="Read nothing before this journal time (windows only).")
    ] = None,
    from_state: Annotated[Path | None, typer.Option(help="Begin at this state instead of the beginning.", exists=True, dir_okay=False)] = None,
    save_state: Annotated[Path | None, typer.Option(callback=output_file, help="Keep the state at the end of the range here.")] = None,
) -> None:
    """Compute the vectors of the application's views over the archived journal: the bits that were, or would have been, served.

      tidemill backfill examples/payments --out vectors.parquet

    Exits with 1 when the archive, the start or the output does not do, with 2 when the application or the command is wrong.
    """
    from tidemill.offline.backfill import Backfill, BackfillRange
    from tidemill.offline.state_snapshot import load_snapshot, save_snapshot
    from tidemill.offline.vector_files import write_vectors
    from tidemill.shared.lake.journal import ArchivedJournal

    if out is None and save_state is None:
        _errors.print("expected --out or --save-state: nothing would be kept", markup=False)
        raise typer.Exit(2)
    with archive_failures():
        from tidemill.shared.application.planning import load_plan

        plan = load_plan(application)
        span = BackfillRange(begin, end, start)
        journal = ArchivedJournal(_lake(plan, lake, run), plan)
        for name in journal.absent:
            _errors.print(f"stream {name} has no archived record: taken as empty", markup=False)
        state = load_snapshot(from_state, plan) if from_state is not None else None
        fold = Backfill(plan, journal, span, state, save_state is not None)
        with Progress(console=_errors) as bar:
            task = bar.add_task("journal", total=fold.total)
            fold.progress = lambda done: bar.advance(task, done)
            if out is not None:
                rows = write_vectors(out, plan.vector_arrow, fold.vectors(), _said(plan, journal.versions))
            else:
                rows = sum(batch.num_rows for batch in fold.vectors())
            bar.update(task, completed=fold.total)
        if save_state is not None:
            save_snapshot(save_state, plan, fold.snapshot())
            _console.print(f"state of {plan.application_hash[:12]} in {save_state}", highlight=False, markup=False)
        _console.print(f"{rows} vectors of {plan.application_hash[:12]}{f' in {out}' if out else ''}", highlight=False, markup=False)


def training_set(
    application: _Application,
    model: Annotated[str, typer.Argument(help="A model of the application.")],
    out: Annotated[Path, typer.Option(callback=output_file, help="The Parquet file.")],
    run: RunFolder = None,
    lake: LakeUri = None,
    end: Annotated[
        int | None,
        typer.Option("--to", "--before", parser=journal_time_ms, metavar="TIME", help="Only what was known before this journal time; the end."),
    ] = None,
) -> None:
    """Write the labelled vectors of a model as they were known at an instant, and print the dataset's version.

      tidemill training-set examples/payments fraud --out fraud.parquet

    Exits with 1 when the archive or the output does not do, with 2 when the application is wrong.
    """
    from tidemill.offline.training_set import read_training_set, write_training_set

    with archive_failures():
        from tidemill.shared.application.planning import load_plan

        plan = load_plan(application)
        made = read_training_set(plan, model, _lake(plan, lake, run), end)
        write_training_set(made, out)
        for name, value in made.version.items():
            _console.print(f"{name} {value}", highlight=False, markup=False)


def skew(
    application: _Application,
    run: RunFolder = None,
    lake: LakeUri = None,
    sample: Annotated[int, typer.Option(min=1, help="Served vectors to compare.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Which sample.")] = 1,
    begin: _From = None,
    end: _To = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Sample served vectors, recompute them from the journal, and say per feature what differs, what is missing, and how old it was.

      tidemill skew examples/payments

    Exits with 1 when a bit differs or the archive does not do, with 2 when the application is wrong.
    """
    from tidemill.offline.skew import measure_skew

    with archive_failures():
        from tidemill.shared.application.planning import load_plan

        plan = load_plan(application)
        report = measure_skew(plan, _lake(plan, lake, run), sample, seed, begin, end)
    if not report.sampled:
        _errors.print("expected served vectors in the range, found none: nothing was compared", markup=False)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps({"agrees": report.agrees, **asdict(report)}))
    else:
        headings = ("feature", "compared", "mismatches", "largest", "first at", "missing", "recomputed", "age s", "age p99 s")
        table = Table(*(Column(heading, no_wrap=True) for heading in headings), box=None)
        for row in report.features:
            where = row.first_mismatch and "{}@{}".format(*row.first_mismatch)
            shares = [f"{row.missing_served_ratio:.2%}", f"{row.missing_recomputed_ratio:.2%}"]
            ages = [_cell(row.age_median_s), _cell(row.age_p99_s)]
            table.add_row(row.feature, str(row.compared), str(row.mismatches), _cell(row.largest_difference), _cell(where), *shares, *ages)
        SafeConsole(width=max(_console.width, _TABLE_WIDTH)).print(table)
        _console.print(f"{report.sampled} vectors sampled, {report.unfounded} of them without a request in the journal", highlight=False)
        for partition, offset in sorted(report.begins.items()):
            _console.print(f"journal partition {partition}: from offset {offset}, where the present views took over", highlight=False)
    if not report.agrees:
        raise typer.Exit(1)


def switches(application: _Application, run: RunFolder = None, lake: LakeUri = None) -> None:
    """List where served vectors began to follow another version of the views, and which columns that changed.

      tidemill switches examples/payments

    Exits with 1 when the archive does not do, with 2 when the application is wrong.
    """
    from tidemill.shared.lake.switches import view_switches

    with archive_failures():
        from tidemill.shared.application.planning import load_plan
        from tidemill.shared.application.view_version import view_version

        plan = load_plan(application)
        made, own = view_switches(_lake(plan, lake, run)), view_version(plan)
    if not made:
        _errors.print("expected marks in the archive, found none: features writes one when it first starts, the archive takes it half a minute later")
        raise typer.Exit(1)
    table = Table(
        *(Column(heading, no_wrap=True) for heading in ("partition", "from offset", "journal time", "views", "before")), "columns", box=None
    )
    before: dict[int, ViewSwitch] = {}
    for switch in made:
        old = before.get(switch.journal_partition)
        at = utc(switch.journal_time_ms).isoformat(timespec="milliseconds") if switch.journal_time_ms else ""
        views = f"{switch.view_version}{' (these)' if switch.view_version == own else ''}"
        table.add_row(str(switch.journal_partition), str(switch.journal_offset), at, views, switch.previous, _changes(old, switch))
        before[switch.journal_partition] = switch
    SafeConsole(width=max(_console.width, _TABLE_WIDTH)).print(table)


def _lake(plan: Plan, lake: str | None, run: Path | None) -> "Lake":
    from tidemill.shared.lake.tables import Lake

    return Lake(lake_uri(plan.application.app, lake, run, os.environ), plan.application.app)


def _changes(old: "ViewSwitch | None", new: "ViewSwitch") -> str:
    if old is None:
        return f"{len(new.features)} columns"
    signs = [("+", new.features.keys() - old.features.keys()), ("-", old.features.keys() - new.features.keys())]
    signs.append(("~", {name for name in new.features.keys() & old.features.keys() if new.features[name] != old.features[name]}))
    return " ".join(f"{sign}{name}" for sign, names in signs for name in sorted(names))


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _said(plan: Plan, versions: dict[str, int]) -> dict[str, str]:
    return {"application": plan.application.app, "application_hash": plan.application_hash, **{k: str(v) for k, v in versions.items()}}


@contextmanager
def archive_failures() -> Iterator[None]:
    """Say in one line what is wrong, and exit."""
    from deltalake.exceptions import DeltaError

    from tidemill.offline.fold_start import StartRefusedError
    from tidemill.offline.vector_files import OutputError
    from tidemill.runs.instance import InstanceError
    from tidemill.shared.lake.journal import UnfitArchiveError

    try:
        yield
    except (ApplicationError, InstanceError) as problem:
        _errors.print(str(problem), markup=False)
        raise typer.Exit(2) from problem
    except (DeltaError, OSError) as problem:
        if "not found" not in str(problem):
            _errors.print(str(problem), markup=False)
            raise typer.Exit(1) from problem
        said = " ".join(_COLOURS.sub("", str(problem)).split())
        _errors.print(
            "a file of the archive is gone: the table was pruned or vacuumed without regard to what refers to it; ask for a later time, or for a copy"
            f" of the lake that still has it (--lake): {said}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(1) from problem
    except (StartRefusedError, UnfitArchiveError, OutputError) as problem:
        _errors.print(str(problem), markup=False)
        raise typer.Exit(1) from problem
