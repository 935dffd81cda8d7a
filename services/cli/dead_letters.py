"""`tidemill dead-letters`: look at what was refused, and send it through ingestion again after the cause was mended."""

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tidemill.runs.safe_console import visible_json
from tidemill.services.cli.output_file import output_file
from tidemill.services.cli.run_option import RunFolder, run_folder
from tidemill.services.cli.terminal import ApplicationFolder, checked, console, errors, failures, read_plan
from tidemill.shared.avro.times import instant_text
from tidemill.shared.dead_letters.letters import Letter, LetterPlace, Selection, absent_reasons

if TYPE_CHECKING:
    from tidemill.shared.application.plan import Plan
    from tidemill.shared.avro.registry import SchemaRegistry
    from tidemill.shared.dead_letters.originals import Originals
    from tidemill.shared.dead_letters.reading import DeadLetterOffice
    from tidemill.shared.log.broker import Broker

_CUT, _PLACES_TOLD = 100, 5
app = typer.Typer(help="Dead letters: list, show, replay, export.", no_args_is_help=True)
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only of this reason (several: again).")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="Only of this stream (several: again).")]
Since = Annotated[str | None, typer.Option(help="Only records published from this time on, ISO 8601 (without an offset: UTC).")]
Until = Annotated[str | None, typer.Option(help="Only records published before this time.")]
Places = Annotated[list[str] | None, typer.Argument(metavar="[PLACE]...", help="PARTITION:OFFSET of single dead letters, as `list` prints them.")]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the commands work with."""

    plan: "Plan"
    broker: "Broker"
    registry: "SchemaRegistry"
    on_replay_clock: bool
    originals: "Originals"


@app.command(name="list")
def list_(
    application: ApplicationFolder,
    reason: Reasons = None,
    stream: Streams = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Print at most so many; all are counted.")] = 50,
    run: RunFolder = None,
) -> None:
    """Print dead letters and how many there are of each reason.

      tidemill dead-letters list examples/payments

    Exits with 2 when no dead letter has a reason that was asked for: it names those that there are.
    """
    selection = _selection(reason, stream, since, until, None)
    table = Table("place", "published", "stream", "stage", "reason", "detail", "replayed", box=None)
    counts: Counter[tuple[str, str]] = Counter()
    with _desk(application, run, stream) as desk:
        office = _office(desk, selection)
        for number, letter in enumerate(office.letters(selection)):
            record = letter.record
            counts[letter.stream or record["source_topic"], record["reason"]] += 1
            if number < limit:
                table.add_row(*cells(letter))
    console.print(table)
    for (where, why), count in counts.most_common():
        console.print(f"{count:,} of {where}: {why}", markup=False, highlight=False)
    console.print(f"{sum(counts.values()):,} dead letters", highlight=False)


@app.command()
def show(application: ApplicationFolder, place: Annotated[str, typer.Argument(help="PARTITION:OFFSET")], run: RunFolder = None) -> None:
    """Print one dead letter whole, its original included; one that outgrew the letter is fetched from its topic or the lake.

      tidemill dead-letters show examples/payments 0:0

    Exits with 1 when the whole original is nowhere: what the letter has of it is printed.
    """
    from tidemill.shared.dead_letters.reading import DeadLetterOffice

    chosen = checked("PLACE", lambda: LetterPlace.parse(place))
    with _desk(application, run) as desk:
        letter = next(DeadLetterOffice(desk.plan, desk.broker, desk.registry).letters(Selection(places=frozenset({chosen}))), None)
        shown = None if letter is None else whole(letter, desk.originals)
    if shown is None:
        errors.print(f"expected a dead letter at {chosen}, found none", markup=False)
        raise typer.Exit(2)
    typer.echo(visible_json(json.dumps(shown, indent=2, ensure_ascii=False)))
    if "original_missing" in shown:
        raise typer.Exit(1)


@app.command()
def export(
    application: ApplicationFolder,
    file: Annotated[Path, typer.Argument(callback=output_file, help="JSON lines; must not exist.")],
    reason: Reasons = None,
    stream: Streams = None,
    since: Since = None,
    until: Until = None,
    run: RunFolder = None,
) -> None:
    """Write dead letters to a file, one JSON object a line: key and value as text where they are UTF-8, else in base64.

      tidemill dead-letters export examples/payments refused.jsonl

    Originals that outgrew their letters are fetched from their topics or the lake. Exits with 1 when some are nowhere (`original_missing` says why),
    with 2 when no dead letter has a reason that was asked for.
    """
    if file.exists():
        raise typer.BadParameter(f"expected a file that does not exist yet, {file} does", param_hint="FILE")
    selection, count, missing = _selection(reason, stream, since, until, None), 0, 0
    # Its name is short, whatever the file's is.
    part = file.with_name(f".{os.getpid()}.part")
    try:
        with _desk(application, run, stream) as desk:
            office = _office(desk, selection)
            with part.open("w", encoding="utf-8") as out:
                for letter in office.letters(selection):
                    shown = whole(letter, desk.originals)
                    out.write(json.dumps(shown) + "\n")
                    count += 1
                    missing += "original_missing" in shown
            part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    console.print(f"{count:,} dead letters in {file}", highlight=False)
    if missing:
        errors.print(f"{missing:,} of them have only the beginning of their original: the whole was not found", markup=False, highlight=False)
        raise typer.Exit(1)


@app.command()
def replay(
    application: ApplicationFolder,
    places: Places = None,
    reason: Reasons = None,
    stream: Streams = None,
    since: Since = None,
    until: Until = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    run: RunFolder = None,
) -> None:
    """Publish the originals of dead letters again, each once, after what refused them was mended.

      tidemill dead-letters replay examples/payments --reason expectation

    Killed or repeated, the command publishes nothing twice: a copy and its mark are one transaction. A copy
    that is refused again is a new dead letter.

    Exits with 1 when some of them cannot be replayed (it says why), with 2 when nothing was selected, or when no dead letter has a reason that was
    asked for, or stands at a place that was named.
    """
    from tidemill.shared.dead_letters.replaying import DeadLetterReplay

    selection = _selection(reason, stream, since, until, places)
    if selection == Selection() and not all_:
        raise typer.BadParameter("name places, --reason, --stream, --since or --until, or say --all")
    with _desk(application, run, stream) as desk:
        office = _office(desk, selection)
        _all_there(office, selection)
        result = DeadLetterReplay(desk.plan, desk.broker, desk.registry, desk.originals, desk.on_replay_clock).run(selection)
    console.print(f"{result.replayed:,} replayed, {result.already:,} had been before, {len(result.refused):,} cannot be", highlight=False)
    for why, count in Counter(why for _, why in result.refused).most_common():
        errors.print(f"  {count:,}: {why}", markup=False, highlight=False, soft_wrap=True)
    if result.refused:
        raise typer.Exit(1)


def cells(letter: Letter) -> tuple[str, ...]:
    """Return what `list` prints of a dead letter; brackets in what strangers wrote are no markup."""
    record, again = letter.record, "" if letter.replayed_at is None else instant_text(letter.replayed_at)
    where, published = letter.stream or record["source_topic"], instant_text(record["source_timestamp"])
    texts = str(letter.place), published, where, record["stage"], record["reason"], record["detail"][:_CUT], again
    return tuple(map(escape, texts))


def whole(letter: Letter, originals: "Originals") -> dict[str, Any]:
    """Return a dead letter as JSON, a cut one with its whole original: `original_from` says where that was, or `original_missing` why it is not."""
    from tidemill.shared.dead_letters.originals import OriginalGone

    shown = as_json(letter)
    if letter.record.get("value_bytes") is None:
        return shown
    try:
        original = originals.of(letter)
    except OriginalGone as why:
        return {**shown, "original_missing": str(why)}
    key = None if original.key is None else _readable(original.key)
    return {**shown, "key": key, "value": _readable(original.value), "original_from": original.found_in}


def as_json(letter: Letter) -> dict[str, Any]:
    """Return a dead letter as JSON can hold it; bytes that are no UTF-8 are ``{"base64": ...}``."""
    fields = {name: _readable(value) if isinstance(value, bytes) else value for name, value in letter.record.items()}
    times = {name: instant_text(letter.record[name]) for name in ("source_timestamp", "journal_time")}
    again = None if letter.replayed_at is None else instant_text(letter.replayed_at)
    return {"place": str(letter.place), "stream": letter.stream, **fields, **times, "replayed_at": again}


def _readable(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _selection(reasons: list[str] | None, streams: list[str] | None, since: str | None, until: str | None, places: list[str] | None) -> Selection:
    since_ms = None if since is None else checked("--since", lambda: _instant(since))
    until_ms = None if until is None else checked("--until", lambda: _instant(until))
    named = frozenset(checked("PLACE", lambda: [LetterPlace.parse(place) for place in places or ()]))
    chosen = frozenset(reasons or ()), frozenset(streams or ())
    return checked("--since, --until", lambda: Selection(*chosen, since_ms=since_ms, until_ms=until_ms, places=named))


def _office(desk: _Desk, selection: Selection) -> "DeadLetterOffice":
    """Return where letters are read; exit with 2 where a reason was asked for that none of them has."""
    from tidemill.shared.dead_letters.reading import DeadLetterOffice

    office = DeadLetterOffice(desk.plan, desk.broker, desk.registry)
    if selection.reasons and (why := absent_reasons(selection, office.letters())):
        errors.print(why, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return office


def _all_there(office: "DeadLetterOffice", selection: Selection) -> None:
    """Exit with 2 where a place was named at which no dead letter stands."""
    if absent := selection.places - {letter.place for letter in office.letters(Selection(places=selection.places))} if selection.places else ():
        some = ", ".join(map(str, sorted(absent)[:_PLACES_TOLD]))
        more = f" and {len(absent) - _PLACES_TOLD:,} more" if len(absent) > _PLACES_TOLD else ""
        errors.print(f"expected dead letters at {some}{more}, found none: nothing was replayed", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2)


def _instant(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"expected a time in ISO 8601, such as 2013-01-31T08:00:00Z, got {text!r}") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


@contextmanager
def _desk(application: Path, run: Path | None, streams: Sequence[str] | None = None) -> Iterator[_Desk]:
    """Reach the servers of a run; those of one that has ended are started for the command. Streams that the application has not are refused."""
    from tidemill.deploy.embedded.infrastructure import VARIABLES
    from tidemill.runs.instance import InstanceError, find_instance, reachable
    from tidemill.runs.kafka_clients import connect
    from tidemill.runs.settings import read_settings
    from tidemill.shared.avro.registry import ConfluentSchemaRegistry
    from tidemill.shared.dead_letters.originals import Originals
    from tidemill.shared.lake.tables import Lake
    from tidemill.shared.log.topics import catalogue_topics
    from tidemill.shared.observability.settings import LakeSettings

    plan = read_plan(application)
    unknown = [name for name in streams or () if name not in plan.streams]
    if unknown:
        raise typer.BadParameter(f"expected streams of the application ({', '.join(plan.streams)}), got {', '.join(unknown)}", param_hint="--stream")
    with failures():
        folder = run_folder(plan.application.app, run, os.environ)
        settings, instance = read_settings(), find_instance(folder, os.environ)
        with reachable(instance) as infrastructure:
            broker = connect(settings.kafka_at(infrastructure.bootstrap_servers))
            if not broker.partitions(plan.topics.rejected):
                raise InstanceError(f"expected the topic {plan.topics.rejected} at {infrastructure.bootstrap_servers}, found none: nothing ran there")
            marks = [spec for spec in catalogue_topics(plan.application.app, plan.application.partitions) if spec.name == plan.topics.replayed]
            broker.create_topics(marks)
            clock = instance.clock or os.environ.get("TIDEMILL_INGESTION__CLOCK", "live")
            # A run of `up` has its lake in its folder; of servers that the environment names, so is the lake.
            given = all(os.environ.get(name, "").strip() for name in VARIABLES)
            uri = os.environ.get("TIDEMILL_LAKE__URI", LakeSettings().uri) if given else str(folder / "lake")
            originals = Originals(broker, Lake(uri, plan.application.app))
            yield _Desk(plan, broker, ConfluentSchemaRegistry(infrastructure.registry_url), clock == "replay", originals)
