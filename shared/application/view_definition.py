"""Views as their authors write them: entities, windows, joins, aggregates, and rates of labels in one line."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tidemill.shared.application.values import Duration, Frozen, Name, Owned


class Entity(Frozen):
    """Something features are kept about, and the column that names it in each stream."""

    columns: dict[str, str] = Field(alias="from", min_length=1)
    ttl: Annotated[Duration, Field(gt=0)] | None = None


class Window(Frozen):
    """What part of the past an aggregate looks at; written ``3h`` (sliding), ``all``, or as a mapping.

    ``{sliding: 24h, resolution: 1h}`` slides in steps of its resolution, ``{tumbling: 1h}`` is the running hour, ``{hopping: 1h, every: 10m}``
    the hour that closes next, ``{session: 30m}`` the events up to now with no gap longer than that.
    """

    sliding: Duration | None = None
    resolution: Duration | None = None
    tumbling: Duration | None = None
    hopping: Duration | None = None
    every: Duration | None = None
    session: Duration | None = None
    all: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:  # whatever stands in the file
        if given == "all":
            return {"all": True}
        return given if isinstance(given, dict) else {"sliding": given}

    @model_validator(mode="after")
    def _one_kind(self) -> "Window":
        lengths = [length for length in (self.sliding, self.tumbling, self.hopping, self.session) if length is not None]
        if len(lengths) + self.all != 1 or any(length <= 0 for length in lengths):
            raise ValueError("one window, longer than nothing: a duration, all, or {sliding|tumbling|hopping|session: a duration}")
        if (self.every is None) != (self.hopping is None):
            raise ValueError("hopping and every together: {hopping: 1h, every: 10m}")
        if self.resolution is not None and self.sliding is None:
            raise ValueError("resolution with a sliding window: {sliding: 24h, resolution: 1h}")
        for step, length in ((self.every, self.hopping), (self.resolution, self.sliding)):
            if step is not None and length is not None and (step <= 0 or length % step):
                raise ValueError(f"a step that divides the window: {length} ms is not a multiple of {step} ms")
        return self


class Join(Frozen):
    """Where a source record's entities stand when it carries nothing but a request's id: on the request itself.

    Attributes
    ----------
    stream
        The stream of the requests; `on_request` is its column with the id (by default its event id).
    on
        The source's column with the id.
    within
        How long a request is remembered, in journal time.
    """

    stream: Name
    on: str
    on_request: str | None = None
    within: Duration


class View(Owned):
    """Aggregates of one stream per entity. Without `entity` it is over all records.

    Attributes
    ----------
    time
        Where a record stands in the windows: at its event time (but not after its journal time), or at its journal time, when it became known.
    resolution
        Step of the view's sliding windows that declare none; without it they are exact per event.
    """

    entity: Name | None = None
    source: Name
    join: Join | None = None
    time: Literal["event", "journal"] = "event"
    value: str | None = None
    where: str | None = None
    aggregate: tuple[str | dict[str, Any], ...] = Field(min_length=1)
    windows: tuple[Window, ...] = ()
    resolution: Duration | None = None


class LabelRates(Owned):
    """Decayed rates of a model's label, per value of columns of its requests and over all: outcome feedback in one line.

    Attributes
    ----------
    by
        Columns of the asking stream; ``all`` is every request together.
    half_lives
        In time or in labels.
    """

    label: Name
    by: tuple[str, ...] = Field(min_length=1)
    half_lives: tuple[str, ...] = Field(min_length=1)


VIEW_KINDS = ("view", "label_rates")


def _view_kind(given: Any) -> str:  # whatever stands in the file
    return "label_rates" if isinstance(given, LabelRates) or (isinstance(given, dict) and "label" in given) else "view"


AnyView = Annotated[Annotated[View, Tag("view")] | Annotated[LabelRates, Tag("label_rates")], Discriminator(_view_kind)]
