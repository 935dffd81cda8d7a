"""From a stream of an application file to what its records look like, raw and in the journal; every mistake is found here, with file and line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fastavro
import pyarrow as pa

from tidemill.shared.application.column_roles import KEYS, is_key
from tidemill.shared.application.debezium import ID, PREFIX, SOURCE_TS, TS, EnvelopePlan, looks_wrapped
from tidemill.shared.application.debezium_planning import debezium_stream
from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import Expression
from tidemill.shared.application.file_expressions import FileExpressions
from tidemill.shared.application.model import Application
from tidemill.shared.application.plan import ExpectationPlan, StreamPlan
from tidemill.shared.application.schemas import entry_schema
from tidemill.shared.application.stream_definition import Stream
from tidemill.shared.application.values import UNITS_MS
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.declared_schema import check_declared

Path_ = Sequence[str | int]
DEDUPLICATE_WITHIN_MS = 7 * UNITS_MS["d"]


@dataclass(frozen=True, slots=True)
class StreamPlanner:
    """Plans the streams of one application.

    Attributes
    ----------
    schema_texts
        The schema files that were read, in the order of the streams.
    """

    document: Document
    application: Application
    expressions: FileExpressions
    schema_texts: list[str] = field(default_factory=list)

    def plan(self, name: str, index: int, stream: Stream) -> StreamPlan:
        """Return the plan of one stream."""
        path: Path_ = ("streams", name)
        text, user, envelope = self._schema(path, stream)
        derivations, columns = self._derivations(path, stream, user)
        expectations = []
        for i, expectation in enumerate(stream.expect):
            check = self.expressions.condition(expectation.check, columns, (*path, "expect", i, "check"))
            expectations.append(ExpectationPlan(expectation.name, check, expectation.otherwise == "reject"))
        key = stream.key or self.application.partition_by
        event_id, event_time = stream.event_id, stream.event_time
        if envelope is not None:
            event_id = event_id or (ID if envelope.primary_key else None)
            event_time = event_time or envelope.event_time
            self._check_changes(path, stream, envelope, event_id, columns, derivations)
        elif event_time is None:
            raise self.document.error((*path, "event_time"), "the column that says when it happened", "nothing")
        self._check_columns(path, stream, columns, event_id, event_time, key)
        self._check_times(path, stream, user)
        derived = [(column, expression.type) for column, expression in derivations]
        entry = entry_schema(self.application.app, name, text, derived, stream.kind == "reference")
        return StreamPlan(
            name, index, stream.topic, stream.kind == "reference", text, user, entry, arrow_schema(entry), event_id, event_time, key,
            stream.allowed_lateness, self._deduplicate_within(name, stream), stream.max_age, tuple(derivations), tuple(expectations), stream.times,
            stream.nulls, stream.allowed_skew, stream.future == "reject", stream.non_finite == "reject",
            stream.on_flood == "pause", envelope,
        )  # fmt: skip

    def _schema(self, path: Path_, stream: Stream) -> tuple[str, pa.Schema, EnvelopePlan | None]:
        """Read a stream's schema file: the schema of its rows as text and in Arrow, and how they lie in a message."""
        file = self.document.folder / stream.schema_file
        if not _is_file(file):
            raise self.document.error((*path, "schema"), "an Avro schema file in the application folder", str(stream.schema_file))
        envelope = None
        try:
            text = file.read_text(encoding="utf-8-sig")
            self.schema_texts.append(text)
            if stream.envelope is not None:
                text, envelope = debezium_stream(text, stream)
            user = arrow_schema(text)
            check_declared(text)
            fastavro.parse_schema(json.loads(text))
        except (ValueError, TypeError, KeyError, OSError, fastavro.schema.SchemaParseException) as error:
            raise self.document.error((*path, "schema"), f"an Avro record schema in {stream.schema_file}", str(error)) from error
        if reserved := [column for column in user.names if column.startswith("_")]:
            raise self.document.error((*path, "schema"), "columns that do not begin with an underscore (reserved for the envelope)", reserved[0])
        return text, user, envelope

    def _derivations(self, path: Path_, stream: Stream, user: pa.Schema) -> tuple[list[tuple[str, Expression]], pa.Schema]:
        """Compile the derived columns, each of which may name those before it; also all columns together."""
        columns, derivations = user, []
        for column, sql in stream.derive.items():
            if column in columns.names:
                raise self.document.error((*path, "derive", column), "a new column name", f"{column}, which the stream has already")
            expression = self.expressions.compile(sql, columns, (*path, "derive", column))
            derivations.append((column, expression))
            columns = columns.append(pa.field(column, expression.type))
        return derivations, columns

    def _check_columns(self, path: Path_, stream: Stream, columns: pa.Schema, event_id: str | None, event_time: str, key: str) -> None:
        named_key = "key" if stream.key else "topic"
        for what, named in (("event_id", event_id), ("event_time", event_time), (named_key, key)):
            if named is not None and named not in columns.names:
                out = "" if stream.envelope or not looks_wrapped(columns.names) else "; these are of Debezium's envelope: declare envelope: debezium"
                raise self.document.error((*path, what), f"{what}: one of the columns {', '.join(columns.names)}{out}", named)
        for what, named in (("event_id", event_id), (named_key, key)):
            if named is not None and not is_key(columns.field(named).type):
                raise self.document.error(
                    (*path, what), f"{what}: a column that identifies something: {KEYS}", f"{named}, {columns.field(named).type}"
                )
        if not pa.types.is_timestamp(columns.field(event_time).type):
            raise self.document.error((*path, "event_time"), "a column of type timestamp-millis", str(columns.field(event_time).type))

    def _check_times(self, path: Path_, stream: Stream, user: pa.Schema) -> None:
        for column in stream.times:
            timed = [field.name for field in user if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)]
            if column not in timed:
                raise self.document.error((*path, "times", column), f"a column of times in the stream's schema: {', '.join(timed)}", column)

    def _check_changes(
        self, path: Path_, stream: Stream, envelope: EnvelopePlan, event_id: str | None, columns: pa.Schema, derivations: list[tuple[str, Expression]]
    ) -> None:
        """A row's own column is the same for every change of it: as an event's id it would make duplicates of all changes but the first."""
        for name in envelope.primary_key:
            if name not in envelope.row or not is_key(columns.field(name).type):
                raise self.document.error((*path, "primary_key"), f"columns of the row that identify it: {KEYS}", name)
        if stream.kind == "reference" or (envelope.updates != "event" and envelope.deletes != "event"):
            return
        telling = {name for name in columns.names if name in (ID, TS, SOURCE_TS) or name.startswith(f"{PREFIX}.source.")}
        for name, expression in derivations:
            if telling.intersection(expression.compiled.meta.root_names()):
                telling.add(name)
        if event_id is not None and event_id not in telling and event_id in columns.names:
            raise self.document.error(
                (*path, "event_id"),
                f"an id that tells a change of a row from the one before it: leave event_id out and declare the primary_key ({ID} is made of it, the"
                " operation and the place in the database's log), derive one from columns of debezium.source; or say updates: skip, where only the"
                " insertion of a row is an event",
                event_id,
            )

    def _deduplicate_within(self, name: str, stream: Stream) -> int:
        """Return how long ids are kept: a week, or longer where a request is; a second request of a known id would end the join of its labels."""
        asked = [model.label.max_delay for model in self.application.models.values() if model.ask == name]
        needed = 2 * max(asked, default=0)
        if stream.deduplicate is None:
            return max(DEDUPLICATE_WITHIN_MS, needed)
        within = stream.deduplicate.within
        if within < needed:
            expected = f"at least {needed // 1000} s, twice the longest max_delay of the models that ask {name}: for so long a request is remembered"
            raise self.document.error(("streams", name, "deduplicate", "within"), expected, f"{within // 1000} s")
        return within


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file has such a name
        return False
