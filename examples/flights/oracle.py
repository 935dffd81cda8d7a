"""An independent oracle of the flights features: pandas and NumPy on the source tables, by availability time, never from the journal.

It shares no code with ingestion and features. It reads the application file for the *names* of views, windows and streams; what the file's
SQL means is written down here a second time, and SQL it does not know is refused, so a change of the application must come here too.

What a request at availability T may see: the records that come before it when all streams are sorted by availability (ties: order of the
streams in the application file, then order of publication), and itself. Refused records and repeated event ids do not count at all; records
further behind the newest event time of their stream than the allowed lateness do not enter views. Windows are (T - w, T]; a record stands in
them at its event time, or at its availability where that is earlier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from tidemill.examples.flights.oracle_aggregates import Answer, RecordHistory, aggregate

_LOOK_AHEAD = (1, 2, 3, 5, 8, 13, 21, 10**9)
_RULES: Mapping[str, Callable[[pd.DataFrame], Any]] = {
    "distance > 0 AND distance < 6000": lambda frame: (frame["distance"] > 0) & (frame["distance"] < 6000),
    "carrier IS NOT NULL": lambda frame: frame["carrier"].notna(),
}
_DERIVED: Mapping[str, Callable[[pd.DataFrame], Any]] = {
    "origin || '-' || dest": lambda frame: frame["origin"] + "-" + frame["dest"],
    "local_minute / 60": lambda frame: frame["local_minute"] / 60.0,
    "CASE WHEN arr_delay > 15 THEN 1.0 ELSE 0.0 END": lambda frame: (frame["arr_delay"] > 15).astype(float),
}


@dataclass(frozen=True, slots=True)
class SourceTable:
    """What was published to one raw topic, in that order: well-formed records, the deliberately bad, repeated and late ones included.

    Attributes
    ----------
    frame
        The stream's columns; times as datetimes (UTC) or milliseconds.
    available_ms : int64 array, shape (rows,)
        When each record became available: its Kafka timestamp.
    """

    frame: pd.DataFrame
    available_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OracleResult:
    """Outcome of a comparison.

    Attributes
    ----------
    requests, values, mismatches
        Requests drawn; their feature values compared; those that differ.
    future_records
        Vectors that saw something from their future. Among the drawn ones: a value differs from what the past gives and equals what it
        would be had the next 1, 2, 3, 5, ... or all later records of the same entity been seen. (When every value equals what the past
        alone gives, nothing of the future can be in it.) Among *all* vectors: the journal time is later than the availability of the
        event, so that later records had come before it.
    sensitive_values
        Values that would have changed had the next later record been seen: the power of the comparison to find a leak.
    misplaced
        Vectors without a source record, accepted requests without a vector, and vectors that come twice.
    examples
        The first differences, in words.
    """

    requests: int
    values: int
    mismatches: int
    future_records: int
    sensitive_values: int
    misplaced: int
    examples: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Accepted records of a stream in the order of availability, with their places among all streams' records."""

    frame: pd.DataFrame
    available_ms: NDArray[np.int64]
    event_ms: NDArray[np.int64]
    place: NDArray[np.int64]
    late: NDArray[np.bool_]


class FlightsOracle:
    """Every feature of any request of the flights application, from source tables.

    Parameters
    ----------
    application
        Folder with ``app.yaml``.
    tables
        By stream name; every stream of the application.
    """

    def __init__(self, application: Path, tables: Mapping[str, SourceTable]) -> None:
        self._app: dict[str, Any] = yaml.safe_load((application / "app.yaml").read_text(encoding="utf-8"))
        if missing := set(self._app["streams"]) - set(tables):
            raise ValueError(f"expected a table for every stream, missing: {', '.join(sorted(missing))}")
        self._streams = self._sequenced({name: self._accepted(name, tables[name]) for name in self._app["streams"]})
        asks = {model["ask"] for model in self._app["models"].values()}
        if len(asks) != 1:
            raise ValueError(f"expected models that ask one stream, got {sorted(asks)}")
        self._ask = asks.pop()
        asked = self._streams[self._ask]
        self._id = self._app["streams"][self._ask]["event_id"]
        self._row = {name: row for row, name in enumerate(asked.frame[self._id])}
        self._histories = {view: self._history(view) for view in self._app.get("views", {})}
        self._references = {name: self._latest_rows(name) for name, stream in self._app["streams"].items() if stream.get("kind") == "reference"}

    @property
    def requests(self) -> Sequence[str]:
        """Event ids of the accepted requests, in order."""
        return list(self._row)

    def available_ms(self, request: str) -> int:
        """Availability of a request."""
        return int(self._streams[self._ask].available_ms[self._row[request]])

    def features(self, request: str, ahead: int = 0) -> dict[str, Answer]:
        """Every feature of a request; `ahead` lets it see so many later records of each entity (to recognise a leak)."""
        row, asked = self._row[request], self._streams[self._ask]
        now, place = int(asked.available_ms[row]), int(asked.place[row])
        event = asked.frame.iloc[row]
        derived = self._app["streams"][self._ask].get("derive", {})
        answers = {name: _event_answer(event[name], exact=name not in derived) for name in asked.frame.columns}
        for name, rows_of in self._references.items():
            answers |= self._reference_answers(name, rows_of, event, now, place, ahead)
        for view, histories in self._histories.items():
            key = event[self._entity_column(view, self._ask)]
            history = None if pd.isna(key) else histories.get(key, RecordHistory.empty())
            answers |= self._view_answers(view, history, now, place, ahead)
        return answers

    def _accepted(self, name: str, table: SourceTable) -> _Stream:
        stream = self._app["streams"][name]
        frame = table.frame.reset_index(drop=True)
        available = np.asarray(table.available_ms, dtype=np.int64)
        order = np.argsort(available, kind="stable")
        frame, available = frame.iloc[order].reset_index(drop=True), available[order]
        for column, sql in stream.get("derive", {}).items():
            frame = frame.assign(**{column: _meaning(_DERIVED, sql)(frame)})
        good = np.ones(len(frame), dtype=bool)
        for rule in stream.get("expect", []):
            if rule.get("otherwise", "reject") == "reject":
                good &= np.asarray(_meaning(_RULES, rule["check"])(frame), dtype=bool)
        if stream.get("event_id"):
            kept = frame.loc[good, stream["event_id"]]
            good[kept.index[kept.duplicated(keep="first")]] = False
        frame, available = frame[good].reset_index(drop=True), available[good]
        event = milliseconds(frame[stream["event_time"]])
        newest = np.maximum.accumulate(np.minimum(event, available))
        behind = np.concatenate([[0], newest[:-1] - event[1:]]) if len(event) else np.zeros(0, np.int64)
        late = behind > duration_ms(stream.get("allowed_lateness", "0s"))
        return _Stream(frame, available, event, np.zeros(0, np.int64), late)

    def _sequenced(self, streams: Mapping[str, _Stream]) -> dict[str, _Stream]:
        """Give every record its place: availability, then order of streams, then order of publication."""
        available = np.concatenate([stream.available_ms for stream in streams.values()])
        number = np.concatenate([np.full(len(stream.frame), i) for i, stream in enumerate(streams.values())])
        place = np.empty(len(available), dtype=np.int64)
        place[np.lexsort((number, available))] = np.arange(len(available))
        return {
            name: _Stream(stream.frame, stream.available_ms, stream.event_ms, place[number == i], stream.late)
            for i, (name, stream) in enumerate(streams.items())
        }

    def _entity_column(self, view: str, stream: str) -> str:
        return str(self._app["entities"][self._app["views"][view]["entity"]]["from"][stream])

    def _history(self, view: str) -> dict[str, RecordHistory]:
        """Records of the view's source by entity: on time, and of a known entity."""
        spec = self._app["views"][view]
        if "where" in spec:
            raise ValueError(f"view {view}: the oracle knows no filters")
        source = self._streams[spec["source"]]
        keys = source.frame[self._entity_column(view, spec["source"])]
        columns = {column for item in spec["aggregate"] if (column := _value_column(spec, item)) is not None}
        values = {column: source.frame[column].to_numpy(dtype=np.float64) for column in columns}
        histories = {}
        for key, rows in pd.Series(np.arange(len(keys)))[~source.late].groupby(keys[~source.late].to_numpy()):
            at = rows.to_numpy()
            stands = np.minimum(source.event_ms[at], source.available_ms[at])
            histories[str(key)] = RecordHistory(
                source.place[at], source.available_ms[at], stands, {column: own[at] for column, own in values.items()}
            )
        return histories

    def _latest_rows(self, name: str) -> dict[str, NDArray[np.int64]]:
        keys = self._streams[name].frame[self._app["streams"][name]["key"]]
        return {str(key): rows.to_numpy() for key, rows in pd.Series(np.arange(len(keys))).groupby(keys.to_numpy())}

    def _reference_answers(
        self, name: str, rows_of: Mapping[str, NDArray[np.int64]], event: Any, now: int, place: int, ahead: int
    ) -> dict[str, Answer]:
        spec, stream = self._app["streams"][name], self._streams[name]
        rows = rows_of.get(event[spec["key"]], np.zeros(0, np.int64))
        seen = min(int(np.searchsorted(stream.place[rows], place)) + ahead, len(rows))
        # The newest event time counts; of equal ones, the later row.
        newest = stream.event_ms[rows[:seen]][::-1]
        row = int(rows[seen - 1 - int(np.argmax(newest))]) if seen else -1
        fresh = row >= 0 and now - stream.event_ms[row] <= duration_ms(spec["max_age"])
        columns = [column for column in stream.frame.columns if column not in (spec["key"], spec["event_time"])]
        return {f"{name}__{column}": _event_answer(stream.frame[column].iloc[row]) if fresh else Answer(None) for column in columns}

    def _view_answers(self, view: str, history: RecordHistory | None, now: int, place: int, ahead: int) -> dict[str, Answer]:
        spec = self._app["views"][view]
        ttl = self._app["entities"][spec["entity"]].get("ttl")
        alive = None if history is None else history.until(place, ahead).alive(now, duration_ms(ttl) if ttl else None).in_time()
        answers = {}
        for item in spec["aggregate"]:
            kind, _ = _parts(item)
            column = _value_column(spec, item)
            for suffix, length in _lengths(spec, item):
                answers[f"{view}__{kind}{suffix}"] = Answer(None) if alive is None else aggregate(kind, alive, column, length, now)
        return answers


def compare(oracle: FlightsOracle, vectors: pd.DataFrame, requests: int = 1000, seed: int = 0, first_examples: int = 10) -> OracleResult:
    """Compare random requests' vectors, value by value, with the oracle.

    Texts, counts, extremes, last values and what the source tables say literally must be equal; computed numbers to a relative 1e-9 (plus
    the rounding bound of one-pass sums, which matters only where values cancel).

    Parameters
    ----------
    vectors
        All vectors of the run: `_request_id`, `_journal_time` (datetimes or milliseconds) and the features; None or NaN is missing.
    requests, seed
        How many to draw, and how.
    """
    by_id = vectors.drop_duplicates("_request_id").set_index("_request_id")
    known = [request for request in oracle.requests if request in by_id.index]
    misplaced = len(vectors) - len(by_id) + len(by_id) - len(known) + len(oracle.requests) - len(known)
    times = pd.Series(milliseconds(by_id["_journal_time"]), index=by_id.index)
    ahead_of_time = {request for request in known if int(times[request]) > oracle.available_ms(request)}
    generator = np.random.default_rng(seed)
    drawn = generator.choice(len(known), size=min(requests, len(known)), replace=False) if known else np.zeros(0, np.int64)
    names = [column for column in vectors.columns if not column.startswith("_")]
    values = mismatches = sensitive = 0
    future, examples = set(ahead_of_time), list[str]()
    for request in (known[i] for i in sorted(drawn.tolist())):
        expected, later = oracle.features(request), oracle.features(request, ahead=1)
        if unknown := [name for name in names if name not in expected]:
            raise ValueError(f"expected features of the application file, the vectors also have {', '.join(unknown)}")
        came = by_id.loc[request].to_dict()
        wrong = [name for name in names if not expected[name].equals(came[name])]
        values += len(names)
        mismatches += len(wrong)
        sensitive += sum(not expected[name].equals(later[name].value) for name in names)
        looks_ahead = (oracle.features(request, ahead) for ahead in _LOOK_AHEAD) if wrong else ()
        if any(seen[name].equals(came[name]) for seen in looks_ahead for name in wrong):
            future.add(request)
        for name in wrong[: max(0, first_examples - len(examples))]:
            examples.append(f"{request} {name}: expected {expected[name].value!r}, the vector has {came[name]!r}")
    return OracleResult(len(drawn), values, mismatches, len(future), sensitive, misplaced, tuple(examples))


def milliseconds(column: Any) -> NDArray[np.int64]:
    """Times as int64 milliseconds since the epoch, from datetimes (UTC) or milliseconds."""
    series = pd.Series(column)
    if pd.api.types.is_datetime64_any_dtype(series):
        if series.dt.tz is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(series.to_numpy().astype("datetime64[ms]").astype(np.int64))
    return np.asarray(series.to_numpy(), dtype=np.int64)


@cache
def duration_ms(words: str) -> int:
    """Milliseconds of ``2h``, ``30d``, ..."""
    for unit, size in (("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)):
        if words.endswith(unit) and words[: -len(unit)].replace(".", "", 1).isdigit():
            return round(float(words[: -len(unit)]) * size)
    raise ValueError(f"expected a duration such as 2h, found {words!r}")


def duration_name(length_ms: int) -> str:
    """How a feature's name gives a duration: days from two on, else the greatest unit that divides it."""
    days, rest = divmod(length_ms, 86_400_000)
    if rest == 0 and days >= 2:
        return f"{days}d"
    unit, size = next((unit, size) for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)) if length_ms % size == 0)
    return f"{length_ms // size}{unit}"


def _parts(item: Any) -> tuple[str, Any]:
    return (item, None) if isinstance(item, str) else next(iter(item.items()))


def _lengths(spec: Mapping[str, Any], item: Any) -> list[tuple[str, int | None]]:
    """End of the feature's name, and window or half-life, of everything one aggregate stands for."""
    kind, argument = _parts(item)
    if kind in ("last", "time_since_last"):
        return [("", None)]
    lengths = [argument["half_life"]] if kind == "decayed_mean" else spec["windows"]
    return [("_all", None) if length == "all" else (f"_{duration_name(duration_ms(length))}", duration_ms(length)) for length in lengths]


def _meaning(meanings: Mapping[str, Callable[[pd.DataFrame], Any]], sql: str) -> Callable[[pd.DataFrame], Any]:
    if sql not in meanings:
        raise ValueError(f"the oracle does not know what {sql!r} means; write it down in examples/flights/oracle.py, independently of the compiler")
    return meanings[sql]


def _value_column(spec: Mapping[str, Any], item: Any) -> str | None:
    kind, argument = _parts(item)
    if kind in ("count", "time_since_last"):
        return None
    return str(argument) if kind == "last" and argument is not None else str(spec["value"])


def _event_answer(value: Any, exact: bool = True) -> Answer:
    if pd.isna(value):
        return Answer(None)
    return Answer(value) if isinstance(value, str) else Answer(float(value) if isinstance(value, int | float | np.number) else None, exact)
