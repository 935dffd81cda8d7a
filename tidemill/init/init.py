"""From a file with a table to an application that can be checked, backtested and run, with the table as its first data."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidemill.init.application_file import EVENTS, LABELS, ApplicationDraft, Names, application_text, event_schema, label_schema
from tidemill.init.column import InputColumn
from tidemill.init.column_types import refuse_points_beside_commas, typed
from tidemill.init.label_order import label_order_warnings
from tidemill.init.names import avro_names, slug
from tidemill.init.policies import policies, too_rare
from tidemill.init.profile import profile
from tidemill.init.question import Question, QuestionKind, ask, class_text, whole_numbers
from tidemill.init.raw_table import RawTable
from tidemill.init.reading import read_table
from tidemill.init.roles import Roles, duplicates
from tidemill.init.time_formats import UNIT_NAMES
from tidemill.init.timeline import LabelDelay, timeline
from tidemill.replay.file_rows import DataSetError

_LAST_EXACT = 2**53
_FILES = ("app.yaml", "schemas", "data", "examples")


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What the user says of the table.

    Attributes
    ----------
    kind
        None: found in the label's values.
    delay
        How long after its request a label is known; None: at once, or as `roles.label_time` says.
    decimal, separator, time_format
        How the file is written; None: found in it.
    first_ms
        When the first row is, where the row number is time; None: so that the last is yesterday.
    name
        Of the application; None: that of the folder.
    command
        The command line, for the head of the file.
    learned_classes
        Whether the application learns its classes from the labels.
    """

    folder: Path
    table: Path
    roles: Roles
    kind: QuestionKind | None = None
    delay: LabelDelay | None = None
    decimal: str | None = None
    separator: str | None = None
    time_format: str | None = None
    first_ms: int | None = None
    name: str | None = None
    command: str = "tidemill init"
    learned_classes: bool = False


@dataclass(frozen=True, slots=True)
class InitResult:
    """What was seen, chosen and written.

    Attributes
    ----------
    files
        Relative to the folder.
    warnings
        What may be wrong with the table, most important first.
    """

    written: ApplicationDraft
    raw: RawTable
    files: Sequence[str]
    warnings: Sequence[str]


def init(options: InitOptions, now_ms: int) -> InitResult:
    """Write an application and its first data.

    Raises
    ------
    DataSetError
        The table cannot be read, or cannot be asked this: says where, what was expected, what came, what to do. Nothing is written then.
    """
    _refuse_to_overwrite(options.folder)
    raw = read_table(options.table, options.separator)
    roles = options.roles
    roles.check(str(options.table), raw.frame.columns)
    # A label of numbers may be measured, but its slips are refused.
    measured = options.kind == "regression"
    columns = {name: typed(name, raw.frame[name], options.decimal, slips=name != roles.label, measured=measured) for name in raw.frame.columns}
    if options.decimal is None:
        refuse_points_beside_commas(columns.values(), raw.frame)
    for name in (roles.time, roles.label_time):
        if name is not None and options.time_format is not None and options.time_format not in UNIT_NAMES and raw.frame[name].dtype == pl.String:
            columns[name] = InputColumn(name, raw.frame[name], "text")
    times = timeline(columns, roles, options.delay, options.time_format, now_ms, options.first_ms)
    if len(times.rows) < len(next(iter(columns.values()))) or not np.array_equal(times.rows, np.arange(len(times.rows))):
        order = pl.Series(times.rows)
        columns = {name: column.ordered(order) for name, column in columns.items()}
    label = columns[roles.label]
    if times.unknown.any():
        label = InputColumn(label.name, label.values.set(pl.Series(times.unknown), None), label.kind, label.notes)
        columns[roles.label] = label
    declared = raw.declared.get(roles.label, ())
    kind: QuestionKind | None = "multiclass" if options.learned_classes else options.kind
    question = ask(label, kind, declared)
    rare = () if declared else too_rare(question)
    counts = question.counts
    told = label
    if rare:
        is_rare = pl.Series([text in rare for text in map(class_text, label.values)])
        columns[roles.label] = label = InputColumn(label.name, label.values.set(is_rare, None), label.kind, label.notes)
        question = ask(label, kind)
    if question.kind != "regression" and label.kind == "number" and whole_numbers(label.values.drop_nulls()):
        # Classes are spelled 1 and 2, also where a gap has made 1.0 and 2.0 of them.
        columns[roles.label] = label = InputColumn(label.name, label.values.cast(pl.Int64), "integer", label.notes)
        if whole_numbers(told.values.drop_nulls()):
            told = InputColumn(told.name, told.values.cast(pl.Int64), "integer", told.notes)
    if question.kind != "regression" and label.kind == "integer" and bool((label.values.drop_nulls().abs() > _LAST_EXACT).any()):
        # A class is spelled by its digits, which no double has beyond 2^53.
        note = "whole numbers beyond 2^53 are kept as texts"
        columns[roles.label] = label = InputColumn(label.name, label.values.cast(pl.String), "text", (*label.notes, note))
        told = InputColumn(told.name, told.values.cast(pl.String), "text", told.notes)
        question = ask(label, kind)
    if options.learned_classes:
        question = replace(question, learned=True, evidence=f"its classes are learned; {len(question.classes)} with enough rows")
    for option, name in (("--id", roles.identity), *(("--entity", name) for name in roles.entities)):
        if name is not None:
            columns[name] = _naming(option, columns[name])
    identity, identities = _identity(columns, roles)
    names = _names(options, columns, identity)
    taken = [names.identity, names.time, "event_id", "label_time"]
    asked = None if roles.time is None else pl.Series(times.asked_ms).cast(pl.Datetime("ms"))
    profiled = profile(columns, roles, question, asked, taken)
    chosen = policies(question, times, now_ms)
    written = ApplicationDraft(names, profiled, question, times, chosen, options.table.name, raw.form, options.command, notes_of(columns.values()))

    # Whoever learns the classes has to see the rare ones, too.
    files = _write(options.folder, written, told if question.learned else label, identities)
    warnings = [
        *_nothing_to_learn_from(written),
        *times.warnings,
        *raw.notes,
        *_left_out(rare, counts, learned=question.learned),
        *chosen.short,
        *label_order_warnings(question, times, chosen),
        *profiled.warnings,
        *([] if question.learned else _unlabelled(question)),
    ]
    return InitResult(written, raw, files, warnings)


def notes_of(columns: Iterable[InputColumn]) -> list[str]:
    """Return how values were read, where there was something to decide."""
    return [f"column {column.name!r}: {note}" for column in columns for note in column.notes]


def _refuse_to_overwrite(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataSetError(f"{folder}: expected a new folder, found a file")
    if there := [name for name in _FILES if (folder / name).exists()]:
        raise DataSetError(f"{folder}: expected a new or an empty folder, found {', '.join(there)} in it: choose another, or delete them first")


def _naming(option: str, column: InputColumn) -> InputColumn:
    """Return a column that names something: texts, whole numbers (also where gaps have made 3.0 of 3) or dates."""
    if column.kind == "number":
        whole = column.values.drop_nulls()
        if bool(((whole == whole.round()) & (whole.abs() <= _LAST_EXACT)).all()):
            return InputColumn(column.name, column.values.cast(pl.Int64), "integer", column.notes)
    able = ("integer", "text", "date") if option == "--id" else ("integer", "text", "boolean")
    if column.kind not in able:
        kinds = {"number": "numbers with fractions, or beyond 2^53", "boolean": "truth values", "date": "dates", "time": "times"}
        expected = "texts, whole numbers or dates" if option == "--id" else "texts, whole numbers or truth values"
        came = kinds.get(column.kind, str(column.values.dtype))
        raise DataSetError(f"{option} {column.name!r}: expected {expected}, found {came}; leave {option} {column.name!r} out")
    return column


def _identity(columns: dict[str, InputColumn], roles: Roles) -> tuple[InputColumn | None, pl.Series]:
    """Return the column of ids, if there is one, and the ids of all rows."""
    count = len(next(iter(columns.values())))
    if roles.identity is None:
        width = len(str(count))
        return None, pl.Series([f"row-{i:0{width}}" for i in range(1, count + 1)], dtype=pl.String)
    column = columns[roles.identity]
    if column.nulls:
        row = int(column.values.is_null().arg_true()[0])
        raise DataSetError(f"--id {roles.identity!r}: expected a value in every row, found none in {column.nulls:,} (the first: row {row + 1})")
    if twice := duplicates([roles.identity], column.values):
        copies = len(column) - column.values.n_unique()
        raise DataSetError(
            f"--id {roles.identity!r}: expected another value in each row, found {copies:,} that repeat one before (such as {', '.join(twice)}):"
            f" the second would be taken for a copy of the first. Leave --id out and rows are numbered; if it names something that comes again"
            f" (a customer, a machine), say --entity {roles.identity!r}"
        )
    return column, column.values


def _names(options: InitOptions, columns: dict[str, InputColumn], identity: InputColumn | None) -> Names:
    roles = options.roles
    own = avro_names([name for name in (roles.identity, roles.time) if name is not None])
    # What the table does not have gets a name that none of its own columns has.
    identified = own[roles.identity] if roles.identity is not None else avro_names(["event_id"], own.values())["event_id"]
    asked = own[roles.time] if roles.time is not None else avro_names(["event_time"], [identified])["event_time"]
    known = avro_names(["label_time"], [identified])["label_time"]
    name = slug(options.name or options.folder.absolute().name, "table").replace("_", "-")
    label = avro_names([roles.label], [identified, "event_id", known, asked])[roles.label]
    return Names(
        application=name,
        model=slug(roles.label, "label"),
        identity=identified,
        identity_kind="text" if identity is None else identity.kind,
        time=asked,
        label_time=known,
        label=label,
        label_kind=columns[roles.label].kind,
        label_column=roles.label,
        time_column=roles.time,
        identity_column=roles.identity,
    )


def _nothing_to_learn_from(written: ApplicationDraft) -> list[str]:
    if written.derived or any(one.is_feature for one in written.profile.columns):
        return []
    return ["no column may be learned from: all that a model sees is how the label was before"]


def _left_out(rare: Sequence[str], counts: Mapping[str, int], *, learned: bool) -> list[str]:
    rows = {name: f"{counts[name]:,} {'row' if counts[name] == 1 else 'rows'}" for name in rare}
    if learned:
        return [f"the class {name!r} has {rows[name]}: it is learned once it has training.min_positives labels" for name in rare]
    return [
        f"the class {name!r} has {rows[name]}, too few to learn from: it is none of the question's, and its rows count as rows without a label."
        " A label that says so is a dead letter when it comes; with more rows of it, run init again"
        for name in rare
    ]


def _unlabelled(question: Question) -> list[str]:
    missing = len(question.labels) - question.known
    return [f"{missing:,} of {len(question.labels):,} rows have no label: they are asked, and teach nothing"] if missing else []


def _write(folder: Path, written: ApplicationDraft, label: InputColumn, identities: pl.Series) -> list[str]:
    """Write everything into a folder beside, then put it in place: a folder is complete or is not there."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "schemas").mkdir(parents=True)
        (part / "data").mkdir()
        (part / "app.yaml").write_text(application_text(written), encoding="utf-8")
        (part / "schemas" / "event.avsc").write_text(event_schema(written), encoding="utf-8")
        (part / "schemas" / "label.avsc").write_text(label_schema(written), encoding="utf-8")
        names, times = written.names, written.times
        events = [identities.alias(names.identity), _instants(times.asked_ms, names.time)]
        events += [one.column.values.alias(one.name) for one in written.carried]
        pl.DataFrame(events).write_parquet(part / "data" / f"{EVENTS}.parquet")
        known = label.values.is_not_null()
        labels = [identities, _instants(times.labelled_ms, names.label_time), label.values.alias(names.label)]
        labels[0] = labels[0].alias(names.identity)
        told = pl.DataFrame(labels).filter(known).sort(names.label_time, maintain_order=True)
        told.write_parquet(part / "data" / f"{LABELS}.parquet")
        (part / "examples").mkdir()
        example = json.dumps(_json_row(pl.DataFrame(events).tail(1)), ensure_ascii=False, indent=1)
        (part / "examples" / f"{EVENTS}.json").write_text(example + "\n", encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            (part / name).rename(folder / name)
    except OSError as error:
        raise DataSetError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ["app.yaml", "schemas/event.avsc", "schemas/label.avsc", f"data/{EVENTS}.parquet", f"data/{LABELS}.parquet", f"examples/{EVENTS}.json"]


def _json_row(frame: pl.DataFrame) -> dict[str, object]:
    """Return the one row of a frame as a publisher would write it in JSON."""
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in frame.to_dicts()[0].items()}


def _instants(times_ms: NDArray[np.int64], name: str) -> pl.Series:
    return pl.Series(name, times_ms).cast(pl.Datetime("ms"))
