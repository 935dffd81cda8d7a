"""Producers that write otherwise than before: what ingestion saw of it, told to the models that it concerns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tidemill.services.drift.domain.findings import Coordinates, Finding, Severity
from tidemill.shared.application.lineage import Lineage
from tidemill.shared.avro.arrow_types import int64_ms
from tidemill.shared.avro.schema_fields import FieldChange
from tidemill.shared.instant import utc

JSON = -1
_TOLD_KEPT = 500
_WORDS_KEPT = 20
_ALARMING_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class SchemaNews:
    """A record of `<app>-schema-changes` at its place in the merged order, or those of several partitions as one."""

    place: int
    stream: str
    schema_id: int
    previous_id: int
    first_ms: int
    records: int
    refused: int
    of: int
    changes: tuple[FieldChange, ...]

    def with_changes(self, changes: Sequence[FieldChange]) -> "SchemaNews":
        """Return it with other changes."""
        return SchemaNews(**{**self._values(), "changes": tuple(changes)})

    def joined(self, other: "SchemaNews") -> "SchemaNews":
        """Return both as one: counts add up, changes are told once."""
        known = {(one.field, one.change) for one in self.changes}
        more = tuple(one for one in other.changes if (one.field, one.change) not in known)
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("records", "refused", "of")}
        return SchemaNews(**{**self._values(), **counts, "first_ms": min(self.first_ms, other.first_ms), "changes": self.changes + more})

    def snapshot(self) -> dict[str, Any]:
        """State as plain texts and numbers."""
        return {**self._values(), "changes": [[getattr(one, name) for name in FieldChange.__slots__] for one in self.changes]}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "SchemaNews":
        """From a snapshot."""
        return cls(**{**state, "changes": tuple(FieldChange(*values) for values in state["changes"])})

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def schema_news(places: Iterable[int], batch: pa.RecordBatch) -> list[SchemaNews]:
    """Read records of `<app>-schema-changes`."""
    first = int64_ms(batch.column("first_seen")).tolist()
    numbers = ("schema_id", "previous_id", "records", "refused", "of")
    return [
        SchemaNews(
            place, row["stream"], first_ms=since, changes=tuple(FieldChange(**one) for one in row["changes"]), **{name: row[name] for name in numbers}
        )
        for place, since, row in zip(places, first, batch.select(["stream", *numbers, "changes"]).to_pylist(), strict=True)
    ]


@dataclass(slots=True)
class SchemaWatch:
    """Collects what comes of a day from all partitions, and tells it once when the day is closed.

    Attributes
    ----------
    waiting
        Of the day that is not over.
    told
        What was told last: of a stream's schema id, or of a field of its JSON.
    """

    waiting: list[SchemaNews] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)

    def close(self) -> list[SchemaNews]:
        """Return what is new in the day that is over, one for each stream and schema."""
        by_subject: dict[tuple[str, int], SchemaNews] = {}
        for news in self.waiting:
            key = (news.stream, news.schema_id)
            by_subject[key] = by_subject[key].joined(news) if key in by_subject else news
        self.waiting = []
        said = [news for news in map(self._untold, by_subject.values()) if news is not None]
        self.told = dict(list(self.told.items())[-_TOLD_KEPT:])
        return said

    def _untold(self, news: SchemaNews) -> SchemaNews | None:
        if news.schema_id != JSON:
            return news if self._tell(f"{news.stream} {news.schema_id}", "seen") else None
        changes = [one for one in news.changes if self._tell(f"{news.stream} {one.field}", one.change)]
        return news.with_changes(changes) if changes else None

    def _tell(self, what: str, change: str) -> bool:
        is_new = self.told.pop(what, "") != change
        self.told[what] = change
        return is_new

    def snapshot(self) -> dict[str, Any]:
        """State as plain lists and texts."""
        return {"waiting": [one.snapshot() for one in self.waiting], "told": self.told}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.waiting, self.told = [SchemaNews.load(one) for one in state["waiting"]], dict(state["told"])


@dataclass(frozen=True, slots=True)
class ModelColumns:
    """The streams and source columns (``stream.column``) that a model is made of; of its label stream every column counts."""

    model: str
    streams: frozenset[str]
    columns: frozenset[str]
    label_stream: str

    @classmethod
    def of(cls, model: str, ask: str, label_stream: str, lineage: Mapping[str, Lineage]) -> "ModelColumns":
        """From the lineage of its features."""
        columns = frozenset(column for one in lineage.values() for column in one.columns)
        streams = frozenset(stream for one in lineage.values() for stream in one.streams) | {column.partition(".")[0] for column in columns}
        return cls(model, streams | {ask} | ({label_stream} if label_stream else set()), columns, label_stream)

    def finding(self, at: Coordinates, news: SchemaNews) -> Finding | None:
        """Return what a change is to the model; None where it reads nothing of the stream.

        A warning where a column that it reads is lost or has another type, or where records are refused; an alarm where most of them are, and they
        are a hundredth of the day's: a few that somebody sent by mistake wake nobody.
        """
        if news.stream not in self.streams:
            return None
        broken = [one for one in news.changes if one.column and (one.effect == "lost" or one.change == "retyped")]
        hurt = [one for one in broken if self._reads(news.stream, one.column)]
        severity: Severity = "warning" if hurt or news.refused else "info"
        share = news.records / news.of if news.of else 0.0
        if 2 * news.refused > news.records and share >= _ALARMING_SHARE:
            severity = "alarm"
        writer = "json" if news.schema_id == JSON else f"schema {news.schema_id}"
        evidence = {"share": share, "records": float(news.records), "refused": float(news.refused), "since_ms": float(news.first_ms)}
        if news.schema_id != JSON:
            evidence |= {"schema_id": float(news.schema_id), "previous_id": float(news.previous_id)}
        columns = tuple(dict.fromkeys(one.column for one in (hurt or news.changes) if one.column))
        return Finding(self.model, at, "schema_change", news.stream, writer, severity, share, 0.0, _words(news, share), evidence, columns=columns)

    def _reads(self, stream: str, column: str) -> bool:
        return stream == self.label_stream or f"{stream}.{column}" in self.columns


def _words(news: SchemaNews, share: float) -> str:
    since = utc(news.first_ms).strftime("%Y-%m-%d %H:%M:%S")
    part = f"{share:.1%} of the day's records" + (f", {news.refused} of them refused" if news.refused else "")
    if news.schema_id == JSON:
        return f"fields of JSON in {news.stream} have changed since {since} UTC ({part}): {_listed(news.changes)}"
    of = f"{news.stream} is written with schema {news.schema_id}, before with {news.previous_id}, since {since} UTC ({part})"
    return f"{of}: {_listed(news.changes) or 'names and types of its fields are the same'}"


def _listed(changes: Sequence[FieldChange]) -> str:
    words = [_change(one) for one in sorted(changes, key=lambda one: (one.effect == "none", one.field))]
    return "; ".join(words[:_WORDS_KEPT]) + (f"; and {len(words) - _WORDS_KEPT} more" if len(words) > _WORDS_KEPT else "")


def _change(one: FieldChange) -> str:
    effect = {"lost": f", column {one.column} has no field any more", "read": f", read as {one.column}", "none": ", not read"}[one.effect]
    if one.change == "renamed":
        return f"{one.before} renamed {one.now}{effect}"
    if one.change == "retyped":
        return f"{one.field} is {one.now}, was {one.before}{effect}"
    kind = one.now or one.before
    return f"{one.field} {one.change}{f' ({kind})' if kind else ''}{effect}"
