"""The oracle agrees with ingestion and features on made-up flights with bad, repeated and late records, and finds what is planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tidemill.examples.flights.oracle import FlightsOracle, SourceTable, compare, duration_ms, duration_name
from tidemill.services.features.task import FeaturesTask
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Emission, Records
from tidemill.shared.runner.task import StepContext

pytestmark = pytest.mark.lasts(20)

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"
HOUR = 3_600_000
START = 1_357_000_000_000
CONTEXT = StepContext(now_ms=0)


def tables(seed: int, count: int = 900, days: int = 75) -> dict[str, SourceTable]:
    """Flights on whole minutes (so that availabilities tie), a quarter of them of an aircraft that comes rarely."""
    generator = np.random.default_rng(seed)
    asked = START + np.sort(generator.integers(0, days * 24 * 6, count)) * 600_000
    departures = pd.DataFrame(
        {
            "flight_id": [f"f{i}" for i in range(count)],
            "scheduled_departure": asked,
            "carrier": pd.Series(generator.choice(["UA", "B6", "DL"], count)).where(generator.random(count) > 0.02, None),
            "flight": generator.integers(1, 999, count),
            "tailnum": pd.Series(generator.choice([f"N{i}" for i in range(12)], count)).where(generator.random(count) > 0.1, None),
            "origin": generator.choice(["EWR", "JFK", "LGA"], count),
            "dest": generator.choice(["SFO", "ORD", "MIA"], count),
            "distance": np.where(generator.random(count) < 0.03, -1.0, generator.integers(100, 3000, count)),
            "sched_block_min": np.where(generator.random(count) < 0.1, np.nan, 180.0),
            "local_minute": generator.integers(0, 1440, count),
            "weekday": generator.integers(0, 7, count),
            "plane_year": 2000.0,
            "seats": np.nan,
        }
    )
    asked_at = asked.copy()
    behind = generator.random(count) < 0.05
    departures["scheduled_departure"] = np.where(behind, asked - 5 * HOUR, asked)
    again = generator.choice(count, 30, replace=False)
    departures = pd.concat([departures, departures.iloc[again]], ignore_index=True)
    asked_at = np.concatenate([asked_at, asked_at[again] + 600_000])
    landed = generator.choice(count, int(count * 0.95), replace=False)
    delay = generator.integers(-30, 200, landed.size).astype(float)
    arrivals = departures.iloc[landed][["flight_id", "carrier", "tailnum", "origin", "dest"]].reset_index(drop=True)
    landed_at = asked[landed] + 3 * HOUR + generator.integers(0, 30, landed.size) * 600_000
    arrivals = arrivals.assign(actual_arrival=landed_at, arr_delay=delay, dep_delay=np.where(generator.random(landed.size) < 0.1, np.nan, delay - 5))
    arrivals["actual_arrival"] = np.where(generator.random(landed.size) < 0.05, landed_at - 9 * HOUR, landed_at)
    hours = np.arange(days * 24)
    weather = pd.concat(
        [pd.DataFrame({"origin": o, "observed": START + hours * HOUR, "temp": generator.normal(50, 9, hours.size)}) for o in ("EWR", "JFK", "LGA")]
    )
    weather = weather[generator.random(len(weather)) > 0.4].reset_index(drop=True)
    for column in ("dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"):
        weather[column] = np.where(generator.random(len(weather)) < 0.2, np.nan, generator.normal(10, 2, len(weather)))
    parts = {"departures": (departures, asked_at), "arrivals": (arrivals, landed_at), "weather": (weather, weather["observed"].to_numpy() + HOUR)}
    ordered = {name: (frame.iloc[order], at[order]) for name, (frame, at) in parts.items() for order in [np.argsort(at, kind="stable")]}
    return {name: SourceTable(frame.reset_index(drop=True), at) for name, (frame, at) in ordered.items()}


def vectors(sources: dict[str, SourceTable]) -> pd.DataFrame:
    """What ingestion and features make of the sources."""
    plan, registry = load_plan(FLIGHTS), MemorySchemaRegistry()
    ingestion, features = IngestionTask(plan, registry, 0, "replay"), FeaturesTask(plan, registry, 0)
    inputs = []
    for name, table in sources.items():
        stream = plan.streams[name]
        encoder = ColumnEncoder(registry, f"{stream.topic}-raw", stream.user_schema)
        batch = pa.RecordBatch.from_pandas(table.frame.astype(object).where(table.frame.notna(), None), schema=encoder.arrow, preserve_index=False)
        keys = [str(key).encode() for key in table.frame[stream.key]]
        times = np.append(table.available_ms, START + 400 * 24 * HOUR)
        inputs.append(Records(stream.topic, 0, np.arange(len(times)), times, [*keys, HEARTBEAT_KEY], [*encoder.encode(batch), None]))
    journal = [one for one in ingestion.process(inputs, CONTEXT).emissions if one.topic == plan.topics.journal]
    step = features.process([_records(journal)], CONTEXT)
    values = [value for one in step.emissions for value in one.values]
    frame: pd.DataFrame = ColumnDecoder(registry, plan.vector_schema).decode(values).batch.to_pandas()
    return frame


def _records(emissions: list[Emission]) -> Records:
    keys, values = [key for one in emissions for key in one.keys], [value for one in emissions for value in one.values]
    return Records(emissions[0].topic, 0, np.arange(len(values)), np.zeros(len(values), np.int64), keys, values)


@pytest.fixture(scope="module")
def sources() -> dict[str, SourceTable]:
    return tables(1)


@pytest.fixture(scope="module")
def made(sources: dict[str, SourceTable]) -> pd.DataFrame:
    return vectors(sources)


@pytest.fixture(scope="module")
def oracle(sources: dict[str, SourceTable]) -> FlightsOracle:
    return FlightsOracle(FLIGHTS, sources)


def test_agrees_with_the_pipeline(oracle: FlightsOracle, made: pd.DataFrame) -> None:
    result = compare(oracle, made, requests=400, seed=3)
    assert (result.mismatches, result.future_records, result.misplaced, result.examples) == (0, 0, 0, ())
    assert result.requests == 400 and result.values == 400 * (len(made.columns) - 7)
    assert result.sensitive_values > 2000 and 700 < len(oracle.requests) < 900


def test_finds_a_wrong_value(oracle: FlightsOracle, made: pd.DataFrame) -> None:
    wrong = made.copy()
    wrong.loc[5, "route_delay__sum_24h"] = 12345.0
    wrong.loc[6, "weather__temp"] = np.nan if wrong["weather__temp"].notna()[6] else 1.0
    wrong.loc[7, "carrier"] = "XX"
    result = compare(oracle, wrong[:100], requests=10**6)
    assert result.requests == 100
    assert (result.mismatches, result.future_records, len(result.examples)) == (3, 0, 3)
    assert any("route_delay__sum_24h" in example and "12345" in example for example in result.examples)


def test_finds_a_leak(sources: dict[str, SourceTable], oracle: FlightsOracle) -> None:
    early = dict(sources) | {"arrivals": replace(sources["arrivals"], available_ms=sources["arrivals"].available_ms - 3 * HOUR)}
    result = compare(oracle, vectors(early), requests=40)
    assert result.future_records > 10 and result.mismatches > 100


def test_finds_a_vector_that_was_asked_too_late(oracle: FlightsOracle, made: pd.DataFrame) -> None:
    moved = made.copy()
    times = moved["_journal_time"].to_numpy().copy()
    times[3] += np.timedelta64(60_000, "ms")
    moved["_journal_time"] = times
    assert compare(oracle, moved, requests=10).future_records == 1


def test_counts_vectors_out_of_place(oracle: FlightsOracle, made: pd.DataFrame) -> None:
    lost_and_twice = pd.concat([made.iloc[1:], made.iloc[[9]], made.iloc[[4]].assign(_request_id="nobody")], ignore_index=True)
    assert compare(oracle, lost_and_twice, requests=10).misplaced == 3


def test_refuses_what_it_does_not_know(sources: dict[str, SourceTable], oracle: FlightsOracle, made: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="also have surprise"):
        compare(oracle, made.assign(surprise=1.0), requests=1)
    with pytest.raises(ValueError, match="missing: weather"):
        FlightsOracle(FLIGHTS, {name: table for name, table in sources.items() if name != "weather"})
    (tmp_path / "app.yaml").write_text((FLIGHTS / "app.yaml").read_text().replace("local_minute / 60", "local_minute / 61"))
    with pytest.raises(ValueError, match="does not know what 'local_minute / 61' means"):
        FlightsOracle(tmp_path, sources)


@pytest.mark.parametrize(("length", "name"), [("1d", "24h"), ("2d", "2d"), ("7d", "7d"), ("90m", "90m"), ("60m", "1h"), ("30s", "30s")])
def test_names_of_durations(length: str, name: str) -> None:
    assert duration_name(duration_ms(length)) == name
