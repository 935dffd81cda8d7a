"""A stream as its authors write it: one raw topic, its schema, and what every record of it should meet."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tidemill.shared.application.values import Columns, Duration, Frozen, Name, Owned, TimeFormat, parse_duration

Fate = Literal["skip", "reject", "event"]


class Expectation(Frozen):
    """A condition every record should meet; a record for which it is not true is rejected or flagged."""

    name: str
    check: str
    otherwise: Literal["reject", "flag"] = "reject"


class Deduplication(Frozen):
    """How long a copy of an event may come after it and still be recognised, in journal time. Ids are kept for that long."""

    within: Duration


class Stream(Owned):
    """One raw topic. A reference stream is state by key (weather at an airport); an event stream is a sequence of facts.

    Attributes
    ----------
    times
        How columns of times are written in JSON and in files, where no Avro schema says it.
    nulls
        Texts of a CSV file that mean that there is no value; an empty cell always does.
    envelope
        ``debezium``: records are changes of a table's rows, and the columns are those of the row.
    primary_key
        Debezium: the table's columns that identify a row.
    updates, deletes
        Debezium, event streams: whether a changed or a deleted row is an event.
    decimals
        Debezium in JSON: what a text in a column of decimals is.
    """

    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    schema_file: str = Field(alias="schema")
    kind: Literal["event", "reference"] = "event"
    event_id: str | None = None
    event_time: str | None = None
    key: str | None = None
    allowed_lateness: Duration = 0
    allowed_skew: Duration = parse_duration("5m")
    future: Literal["reject", "flag"] = "reject"
    non_finite: Literal["null", "reject"] = "null"
    on_flood: Literal["throttle", "pause"] = "throttle"
    deduplicate: Deduplication | None = None
    max_age: Duration | None = None
    derive: dict[Name, str] = Field(default={})
    expect: tuple[Expectation, ...] = ()
    times: dict[str, TimeFormat] = Field(default={})
    nulls: tuple[str, ...] = ()
    envelope: Literal["debezium"] | None = None
    primary_key: Columns = ()
    updates: Fate | None = None
    deletes: Fate | None = None
    decimals: Literal["base64", "number"] | None = None

    @field_validator("non_finite", mode="before")
    @classmethod
    def _null_is_a_word_here(cls, given: object) -> object:
        """YAML reads `non_finite: null`, as it is documented, as no value."""
        return "null" if given is None else given

    @model_validator(mode="after")
    def _complete(self) -> "Stream":
        if self.envelope is None:
            for name in ("primary_key", "updates", "deletes", "decimals"):
                if getattr(self, name):
                    raise ValueError(f"no {name} without envelope: debezium")
        elif self.kind == "reference" and (self.updates or self.deletes or self.primary_key):
            raise ValueError("no updates, deletes or primary_key: a reference stream has one row by key, which updates replace and deletions delete")
        if self.event_time is None and self.envelope is None:
            raise ValueError("event_time: the column that says when it happened")
        if self.kind == "event" and self.event_id is None and not self.primary_key:
            if self.envelope is not None:
                raise ValueError("event_id, or primary_key: the table's columns that identify a row; then debezium.id identifies the change")
            raise ValueError("event_id: the column that identifies an event")
        if self.kind == "reference" and (self.key is None or self.max_age is None):
            raise ValueError("key and max_age: how a reference row is found and how long it is good")
        if self.kind == "reference" and self.deduplicate is not None:
            raise ValueError("no deduplicate: a row of a reference stream replaces the one before it")
        return self
