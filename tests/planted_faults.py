"""A generated stream with a champion, faults planted into it, and the incidents that drift makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.services.drift.domain.fold import DriftFold, DriftRecord
from tidemill.services.drift.domain.incident import IncidentUpdate
from tidemill.services.drift.domain.loss_verdict import LossSettings
from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows, PredictionRows, VectorRows
from tidemill.services.drift.domain.schema_changes import SchemaNews
from tidemill.services.drift.domain.stream_ends import EndNews
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.application.lineage import Lineage
from tidemill.shared.avro.schema_fields import FieldChange
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.regression import Regression

DAY = 86_400_000
HOUR = 3_600_000
DAYS, PROMOTED, FAULT = 75, 56, 64
PER_DAY = 400
TYPES = {"amount": "double", "weight": "double", "speed": "double", "temp": "double", "country": "string", "late_mean": "double"}
LINEAGE = {
    **{name: Lineage(frozenset({f"orders.{name}"}), "", frozenset({"orders"})) for name in ("amount", "weight", "speed", "country")},
    "temp": Lineage(frozenset({"weather.temp"}), "", frozenset({"weather"})),
    "late_mean": Lineage(frozenset({"returns.bad", "orders.country"}), "late", frozenset({"returns"})),
}
Float64 = NDArray[np.float64]


@dataclass
class Table:
    """Rows of the whole stream, in order of their requests; faults change them in place.

    `rewritten` and `ended` are what ingestion tells of a day. `other` is the share of rows whose labels follow another relation than the model's,
    `flipped` are those whose labels come the wrong way round.
    """

    day: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    columns: dict[str, Float64]
    country: NDArray[np.object_]
    kept: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    other: Float64
    flipped: NDArray[np.bool_]
    label: Float64 = field(default_factory=lambda: np.empty(0))
    expected: Float64 = field(default_factory=lambda: np.empty((0, 2)))
    rewritten: dict[int, SchemaNews] = field(default_factory=dict)
    ended: dict[int, EndNews] = field(default_factory=dict)


def table(seed: int, days: int = DAYS) -> Table:
    """A stream whose days have a weather and a level of their own, and whose labels are drawn from a model's own scores."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), PER_DAY)
    n = len(day)
    level = {name: generator.normal(0, 0.08, days)[day] for name in TYPES}
    weather = np.zeros(days)
    for i in range(1, days):
        weather[i] = 0.6 * weather[i - 1] + generator.normal(0, 0.8)
    columns = {
        "amount": generator.gamma(3.0, 200.0, n) * np.exp(level["amount"]),
        "weight": 50 + 10 * generator.normal(level["weight"], 1, n),
        "speed": generator.lognormal(level["speed"], 0.6, n),
        "temp": 15 + 4 * weather[day] + generator.normal(0, 2, n),
        "late_mean": np.clip(0.3 + 0.1 * generator.normal(level["late_mean"], 1, n), 0, 1),
    }
    columns["late_mean"][generator.random(n) < 0.1] = np.nan
    time = day * DAY + np.sort(generator.integers(0, DAY, (days, PER_DAY)), axis=1).ravel()
    country = generator.choice(np.array(["de", "fr", "it", "es"], dtype=object), n, p=[0.4, 0.3, 0.2, 0.1])
    return Table(day, time.astype(np.int64), columns, country, np.ones(n, bool), generator.random(n) > 0.03, np.zeros(n), np.zeros(n, bool))


def null(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """A column comes empty in two rows of three."""
    rows.columns["weight"][after & (generator.random(len(after)) < 0.67)] = np.nan


def units(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Kilometres in place of miles."""
    rows.columns["amount"][after] *= 1.609344


def covariate(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Another distribution within the old range, and nothing broken."""
    rows.columns["amount"][after] = generator.gamma(6.0, 200.0, int(after.sum()))


def idle(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Another distribution, within the old range, of a column that the model does not use, when two weeks of its answers are known."""
    late = rows.day >= PROMOTED + 13
    rows.columns["weight"][late] = 56 + 5 * generator.normal(0, 1, int(late.sum()))


def outage(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """No labels any more."""
    rows.labelled[after] = False


def category(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """A country that was never there, in a fifth of the rows."""
    rows.country[after & (generator.random(len(after)) < 0.2)] = "new"


def volume(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """One row of seven is left."""
    rows.kept[after & (generator.random(len(after)) > 1 / 7)] = False


def ends(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """The stream of requests ends within a day."""
    rows.kept[rows.time_ms >= FAULT * DAY + 7 * HOUR] = False


def flips(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """A fifth of the labels of 5,000 rows come the wrong way round."""
    some = np.flatnonzero(after)[:5_000]
    rows.flipped[some[generator.random(len(some)) < 0.2]] = True


def abrupt(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Labels follow another relation from one day to the next; the inputs are as they were."""
    rows.other[after] = 1.0


def gradual(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Labels move to another relation within a week."""
    rows.other[after] = np.minimum(1.0, (rows.time_ms[after] / DAY - FAULT) / 7)


def two(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Two columns break at once."""
    null(rows, after, generator)
    units(rows, after, generator)


def schema_change(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """The producer's new schema has neither weight nor speed; a third of the first day's records come with the old one."""
    for name in ("weight", "speed"):
        rows.columns[name][after & ((rows.day > FAULT) | (generator.random(len(after)) < 0.67))] = np.nan
    lost = tuple(FieldChange(name, "dropped", "double", "", name, "lost") for name in ("weight", "speed"))
    rows.rewritten[FAULT] = SchemaNews(0, "orders", 12, 7, FAULT * DAY + HOUR, 268, 0, 400, (*lost, FieldChange("gift", "added", "", "boolean")))


def nothing(rows: Table, after: NDArray[np.bool_], generator: np.random.Generator) -> None:
    """Stationary."""


Fault = Callable[[Table, NDArray[np.bool_], np.random.Generator], None]
EXPECTED: dict[str, tuple[Fault, dict[str, str]]] = {
    "null": (null, {"column:orders.weight": "missing"}),
    "units": (units, {"column:orders.amount": "units"}),
    "covariate": (covariate, {"column:orders.amount": "feature"}),
    "idle": (idle, {}),
    "outage": (outage, {"stream:returns": "labels"}),
    "category": (category, {"column:orders.country": "category"}),
    "volume": (volume, {"stream:orders": "volume"}),
    "ends": (ends, {"stream:orders": "freshness"}),
    "flips": (flips, {"model:m": "loss"}),
    "abrupt": (abrupt, {"model:m": "loss"}),
    "gradual": (gradual, {"model:m": "loss"}),
    "two": (two, {"column:orders.weight": "missing", "column:orders.amount": "units"}),
    "schema_change": (schema_change, {"stream:orders": "schema_change"}),
    "nothing": (nothing, {}),
}


@cache
def incidents(fault: Fault, seed: int) -> Sequence[IncidentUpdate]:
    """Return what is said of incidents on a stream with a fault from day 64 on; several tests look at one stream."""
    return [one for one in said_of(fault, seed) if isinstance(one, IncidentUpdate)]


def said_of(
    fault: Fault,
    seed: int,
    slices: tuple[str, ...] = (),
    error_of: Callable[[Table], Float64] | None = None,
    promoted: Sequence[float] = (PROMOTED,),
) -> list[DriftRecord]:
    """Return all that is said of a stream with a fault from day 64 on.

    With `error_of`, the absolute error that is to be expected of each row, the model answers with a number that errs so (normal errors) and says it.
    A champion begins to answer on each of the days `promoted`.
    """
    rows, generator = table(seed), np.random.default_rng(seed + 1_000)
    fault(rows, rows.day >= FAULT, generator)
    amount = np.nan_to_num(rows.columns["amount"] / 600 - 1)
    score = 1 / (1 + np.exp(-(-1.0 + 0.8 * np.tanh(amount))))
    relation = np.where(generator.random(len(score)) < rows.other, 1 / (1 + np.exp(-(0.2 - 0.8 * np.tanh(amount)))), score)
    kind: Kind = Binary()
    if error_of is not None:
        kind, expected = Regression(), error_of(rows)
        rows.expected = np.column_stack([expected, np.pi / 2 * expected**2])
    rows.label = ((generator.random(len(score)) < relation) ^ rows.flipped).astype(np.float64)
    if error_of is not None:
        rows.label = score + np.sqrt(rows.expected[:, 1]) * generator.normal(size=len(score))
    delay = (2 * HOUR * generator.lognormal(0, 0.5, len(score))).astype(np.int64)
    loss = LossSettings(kind=kind, max_delay_ms=DAY)
    settings = WatchSettings("m", "orders", tuple(TYPES), kind, 10**9, loss, label_stream="returns", slices=slices)
    fold = DriftFold([settings], TYPES, LINEAGE)
    said: list[DriftRecord] = []
    places = np.flatnonzero(rows.kept)
    known = np.where(rows.labelled, rows.time_ms + delay, rows.time_ms + DAY)
    for day in range(DAYS):
        asked = places[rows.day[places] == day]
        due = places[(known[places] // DAY == day) & (rows.day[places] <= day)]
        due = due[np.argsort(known[due], kind="stable")]
        news = [rows.rewritten[day]] if day in rows.rewritten else []
        ends = [rows.ended[day]] if day in rows.ended else []
        said += fold.absorb(*_day(rows, score, delay, asked, due, known, promoted), schemas=news, ends=ends)
    return said + fold.advance(DAYS * DAY)


def _day(
    rows: Table,
    score: Float64,
    delay: NDArray[np.int64],
    asked: NDArray[np.int64],
    due: NDArray[np.int64],
    known: NDArray[np.int64],
    promoted: Sequence[float],
) -> tuple[MergedCoordinates, VectorRows, PredictionRows, OutcomeRows]:
    n, m = len(asked), len(due)
    times = np.concatenate([rows.time_ms[asked], rows.time_ms[asked], known[due]])
    offsets = np.concatenate([asked, asked, due + 10_000_000])
    ranks = np.concatenate([np.zeros(n), np.ones(n), np.full(m, 2)])
    order = np.lexsort((ranks, offsets, times))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    zeros = np.zeros(len(order), np.int64)
    at = MergedCoordinates(np.arange(len(order)), times[order], zeros, offsets[order])

    def placed(begin: int, end: int) -> MergedCoordinates:
        return MergedCoordinates(place[begin:end], times[begin:end], zeros[begin:end], offsets[begin:end])

    def texts(value: str, count: int) -> NDArray[np.object_]:
        return np.full(count, value, dtype=object)

    columns = {name: pa.array(values[asked], from_pandas=True) for name, values in rows.columns.items()}
    batch = pa.RecordBatch.from_pydict({name: columns[name] if name in columns else pa.array(rows.country[asked]) for name in TYPES})
    vectors = VectorRows(placed(0, n), texts("orders", n), batch, np.full(n, 500.0))
    names = np.array(["default", *(f"v{number + 1}" for number in range(len(promoted)))], dtype=object)
    champions = [np.searchsorted(np.array(promoted) * DAY, rows.time_ms[some], side="right") for some in (asked, due)]
    served = [names[one] for one in champions]
    variant = [np.where(one > 0, "champion", "default").astype(object) for one in champions]
    sequence = np.where(champions[0] > 0, champions[0], -1).astype(np.int64)
    nothing_known = pa.nulls(n, pa.map_(pa.string(), pa.float64()))
    predicted = PredictionRows(
        placed(n, 2 * n), texts("m", n), served[0], variant[0], sequence, score[asked], (score[asked] > 0.5).astype(np.int64),
        np.full(n, 20, np.int64), nothing_known, np.full(n, np.nan), np.full(n, np.nan),
        *(rows.expected[asked].T if len(rows.expected) else np.full((2, n), np.nan)),
    )  # fmt: skip
    has = rows.labelled[due]
    outcomes = OutcomeRows(
        placed(2 * n, 2 * n + m), due, rows.time_ms[due], texts("m", m), served[1], variant[1],
        np.where(has, "labelled", "timeout").astype(object), np.zeros(m, np.int64), score[due], (score[due] > 0.5).astype(np.int64),
        np.where(has, rows.label[due], np.nan), np.where(has, delay[due], np.nan).astype(np.float64),
        pa.nulls(m, pa.map_(pa.string(), pa.float64())), np.full(m, np.nan), np.full(m, np.nan), np.ones(m),
        pa.nulls(m, pa.string()),
    )  # fmt: skip
    return at, vectors, predicted, outcomes


def judged(fault: Fault, expected: dict[str, str], seed: int) -> tuple[list[str], list[str]]:
    """Return what was missed, and the roots and kinds of incidents that are false."""
    newest = {one.fields["incident_id"]: one.fields for one in incidents(fault, seed)}
    right = {
        one["root"] for one in newest.values() if one["root"] in expected and expected[one["root"]] in one["kinds"] and one["opened"] >= FAULT * DAY
    }
    false = [f"{one['root']} {one['kinds']} day {one['opened'] / DAY:.1f}: {one['detail']}" for one in newest.values() if one["root"] not in right]
    return sorted(set(expected) - right), false
