"""The `init` command."""

import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tidemill.services.cli.terminal import checked, console, failures

if TYPE_CHECKING:
    from tidemill.init.init import InitResult

_SHOWN = 40


class AskedKind(StrEnum):
    """What is predicted."""

    binary = "binary"
    multiclass = "multiclass"
    regression = "regression"


class Classes(StrEnum):
    """What is said of the classes."""

    learned = "learned"


class Decimal(StrEnum):
    """The mark before the fraction of a number."""

    point = "."
    comma = ","


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder of the application.")],
    table: Annotated[Path, typer.Option("--from-table", metavar="FILE", help="CSV, ARFF, JSON lines or Parquet; .gz as well.")],
    label: Annotated[str, typer.Option(metavar="COL", help="The column to predict.")],
    time_: Annotated[str | None, typer.Option("--time", metavar="COL", help="When each row happened. (default: the row number is time)")] = None,
    label_time: Annotated[str | None, typer.Option(metavar="COL", help="When its label became known.")] = None,
    label_delay: Annotated[
        str | None, typer.Option(metavar="DURATION|ROWS", help="Or how long after the row: 36h, or 500 for so many rows. (default: at once)")
    ] = None,
    identity: Annotated[str | None, typer.Option("--id", metavar="COL", help="Another value in each row. (default: rows are numbered)")] = None,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Something that comes again, such as a customer: counts and means are kept for each.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="COL", help="A column that must not be seen: it is known too late, say.")] = None,
    kind: Annotated[AskedKind | None, typer.Option(help="Two classes, several, or a number. (default: as the label's values are)")] = None,
    classes: Annotated[
        Classes | None, typer.Option(help="Classes are learned from the labels, new ones while it runs. (default: those of the table are declared)")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the application. (default: that of the folder)")] = None,
    separator: Annotated[str | None, typer.Option(help="CSV: what separates columns. (default: found in the file)")] = None,
    decimal: Annotated[Decimal | None, typer.Option(help="CSV: the mark before the fraction. (default: found in the file)")] = None,
    time_format: Annotated[
        str | None, typer.Option(help="How times are written: seconds, '%d.%m.%Y %H:%M', ... (default: found in the file)")
    ] = None,
) -> None:
    """Make an application of a table: schemas, expectations, features, views, model, policies, and the table as its first data.

      tidemill init my-app --from-table table.csv --label outcome --id row_id

    What was seen and chosen is printed, and stands in DIR/app.yaml with its reasons; what may be wrong with the table comes after it. Then:
      tidemill backtest my-app --data my-app/data

    Exits with 2 when the table cannot be read or cannot be asked this: it says where, what was expected, what came and what to do.
    """
    from tidemill.init.init import InitOptions
    from tidemill.init.init import init as make
    from tidemill.init.roles import Roles
    from tidemill.init.timeline import LabelDelay

    if label_time is not None and label_delay is not None:
        raise typer.BadParameter("give --label-time or --label-delay, not both", param_hint="--label-time, --label-delay")
    if classes is not None and kind not in (None, AskedKind.multiclass):
        raise typer.BadParameter(f"expected --kind multiclass, found {kind.value}", param_hint="--classes")
    delay = None if label_delay is None else checked("--label-delay", lambda: LabelDelay.parse(label_delay))
    if separator is not None and len(separator.replace("\\t", "\t")) != 1:
        raise typer.BadParameter(f"expected one character, found {separator!r}", param_hint="--separator")
    options = InitOptions(
        folder,
        table,
        Roles(label, time_, label_time, identity, tuple(entity or ()), tuple(exclude or ())),
        None if kind is None else kind.value,
        delay,
        None if decimal is None else decimal.value,
        None if separator is None else separator.replace("\\t", "\t"),
        time_format,
        None,
        name,
        shlex.join(["tidemill", *sys.argv[1:]]) if sys.argv[1:2] == ["init"] else "tidemill init",
        classes is not None,
    )
    with failures():
        result = make(options, time.time_ns() // 1_000_000)
    _print(result, folder)


def _print(result: "InitResult", folder: Path) -> None:
    """Print what was seen and chosen, then what may be wrong, then what to do next."""
    from tidemill.init.policies import words_of_days

    written = result.written
    question, policy = written.question, written.policies
    console.print(f"[bold]{escape(written.source)}[/bold]: {escape(result.raw.form)}, {len(written.times.rows):,} rows", highlight=False)
    console.print(_columns(result))
    chosen = Table(show_header=False, box=None)
    chosen.add_row("question", escape(f"{question.kind}: {question.evidence}"))
    if question.counts:
        chosen.add_row("classes", escape(", ".join(f"{name} {count:,}" for name, count in list(question.counts.items())[:12])))
    for fact in written.times.facts:
        chosen.add_row("time", escape(fact))
    chosen.add_row("features", escape(_listed(written.features)))
    held = words_of_days(policy.holdout_days)
    chosen.add_row("first model", f"after {policy.bootstrap_labels:,} labels; {held} choose, {held} judge in blocks of {policy.block}")
    chosen.add_row("retraining", f"cool-down {policy.cool_down}, schedule {policy.schedule or 'none'}")
    console.print(chosen)
    for note in written.notes:
        console.print(f"note {escape(note)}", highlight=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    place = shlex.quote(str(folder))
    console.print(f"Written: {', '.join(f'{folder}/{name}' for name in result.files)}", highlight=False, soft_wrap=True)
    console.print("Next:")
    for line in next_commands(place):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def next_commands(place: str) -> list[str]:
    """Return what to do with the application, each as it can be copied."""
    return [
        f"tidemill check {place}",
        f"tidemill backtest {place} --data {place}/data --html {place}/backtest.html",
        f"tidemill up {place} --history {place}/data",
    ]


def _columns(result: "InitResult") -> Table:
    """Return what was seen of each column; of very wide tables the first."""
    written = result.written
    figure = "R2 alone" if written.question.kind == "regression" else "AUC alone"
    table = Table("column", "type", "values", "gaps", figure, "use", box=None, pad_edge=False)
    columns = written.profile.columns
    for one in columns[:_SHOWN]:
        name = one.column.name if one.column.name == one.name else f"{one.column.name} → {one.name}"
        low, high = one.low, one.high
        values = f"{one.distinct:,} different"
        if one.column.kind in ("integer", "number") and low is not None:
            values = f"{low:,.5g} to {high:,.5g}"
        elif low is not None:
            values = f"{low} to {high}"
        elif one.categories:
            values = _listed(one.categories, 4)
        alone = "" if one.alone is None else f"{one.alone:.3f}"
        use = one.use if not one.why else f"{one.use}: {one.why}"
        table.add_row(escape(name), one.column.kind, escape(values), f"{one.null_share:.1%}" if one.column.nulls else "", alone, escape(use))
    if len(columns) > _SHOWN:
        table.add_row(f"... and {len(columns) - _SHOWN} more", "", "", "", "", "")
    return table


def _listed(names: "list[str] | tuple[str, ...]", most: int = 12) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names):,})" if len(names) > most else "")
