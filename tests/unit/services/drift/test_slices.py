"""Slices: quality against pandas and SciPy, faults of one slice only, any batching, restart anywhere, a bounded number."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.planted_faults import FAULT, PROMOTED, Fault, Table, said_of
from tests.unit.services.drift.stream import APP, DAY, season, shop
from tests.unit.services.drift.test_task import Pipeline, decoded
from tidemill.services.drift.domain.findings import Finding, HealthRecord
from tidemill.services.drift.domain.incident import IncidentUpdate
from tidemill.services.drift.domain.slice_names import MOST_SLICES, SliceNames
from tidemill.services.drift.domain.slice_requests import SliceRequests

SLICED = APP.replace("    label:", "    slices: [country]\n    label:")
Bools = NDArray[np.bool_]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(shop(tmp_path_factory.mktemp("slices"), SLICED), season(days=11, per_day=200, drifting=8))


@pytest.fixture(scope="module")
def whole(pipeline: Pipeline) -> list[tuple[str, bytes]]:
    return pipeline.run(1)


def test_quality_by_slice_is_what_pandas_and_scipy_say(pipeline: Pipeline, whole: list[tuple[str, bytes]]) -> None:
    _, health = decoded(pipeline, whole)
    outcomes, vectors = pd.DataFrame(pipeline.rows.outcomes), pd.DataFrame(pipeline.rows.vectors)
    rows = outcomes.merge(vectors[["_request_id", "country"]], left_on="request_id", right_on="_request_id")
    rows["day"] = rows.journal_time // DAY
    rows["loss"] = -np.log(np.where(rows.label > 0, rows.score, 1 - rows.score))
    rows["right"] = (rows.label == rows.predicted).astype(float)
    judged = 0
    for one in health:
        known = rows[rows.journal_time < one["window_end"]]
        counts = known.country.value_counts()
        by_slice = {part["slice"]: part for part in one["slices"]}
        asked = vectors[(vectors._journal_time >= one["window_start"]) & (vectors._journal_time < one["window_end"])]
        for name, part in by_slice.items():
            country = name.removeprefix("country=")
            mine, own = known[known.country == country], part["metrics"]
            assert own["labels"] == counts.get(country, 0) and own["requests"] == (asked.country == country).sum()
            assert part["judged"] == (own["labels"] >= 200) == ("loss" in own), "what is too small is shown as not judged"
            if not part["judged"]:
                continue
            judged += 1
            for column, metric in (("loss", "loss"), ("right", "accuracy")):
                mean = mine[column].mean()
                assert own[metric] == pytest.approx(mean)
                by_day = mine.groupby("day")[column].agg(["sum", "count"])
                if len(by_day) >= 7:
                    residual = by_day["sum"] - mean * by_day["count"]
                    error = np.sqrt(len(by_day) / (len(by_day) - 1) * (residual**2).sum()) / len(mine)
                    half = stats.t.ppf(0.975, len(by_day) - 1) * error
                else:
                    half = stats.norm.ppf(0.975) * mine[column].std(ddof=0) / np.sqrt(len(mine))
                high = mean + half if metric == "loss" else min(1.0, mean + half)
                assert (own[f"{metric}_low"], own[f"{metric}_high"]) == (pytest.approx(max(0.0, mean - half)), pytest.approx(high))
    assert judged > 15
    assert {part["slice"] for part in health[-2]["slices"]} == {"country=de", "country=fr", "country=it", "country=new"}


def test_any_batches_and_restarts_say_the_same_of_slices(pipeline: Pipeline, whole: list[tuple[str, bytes]]) -> None:
    topics = pipeline.plan.topics

    def by_topic(said: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
        return {topic: [value for name, value in said if name == topic] for topic in (topics.drift, topics.health, topics.found_incidents)}

    assert by_topic(pipeline.run(2, steps=60)) == by_topic(whole)
    assert by_topic(pipeline.run(3, restarts=(4, 12, 19), snapshot_every=3)) == by_topic(whole)


def values(rows: Table, after: Bools, generator: np.random.Generator) -> None:
    """Of one row in ten, the Spanish ones, some lack their weight, are beyond a range, and get no label; Italian speeds are in other units.

    Of the whole that is less than each bound: 7 % more missing, 3 % beyond the range, a label share lower by .1, a speed of 1.1 times.
    """
    spain = after & (rows.country == "es")
    rows.columns["weight"][spain & (generator.random(len(after)) < 0.7)] = np.nan
    rows.columns["late_mean"][spain & (generator.random(len(after)) < 0.3)] = 9.0
    rows.columns["speed"][after & (rows.country == "it")] *= 1.609344
    rows.labelled[spain] = False


def rows_and_all(rows: Table, after: Bools, generator: np.random.Generator) -> None:
    """Six of seven French rows do not come, a quarter of all, which is within a day's variation; weight comes empty in all countries."""
    rows.kept[after & (rows.country == "fr") & (generator.random(len(after)) > 1 / 7)] = False
    rows.columns["weight"][after & (generator.random(len(after)) < 0.67)] = np.nan


FAULTS: dict[Fault, dict[tuple[str, str, str], str]] = {
    values: {
        ("missing", "weight", "country=es"): "column:orders.weight",
        ("range", "late_mean", "country=es"): "stream:returns",
        ("units", "speed", "country=it"): "column:orders.speed",
        ("label_share", "returns", "country=es"): "stream:returns",
    },
    # What all rows have in common is not repeated slice by slice.
    rows_and_all: {("volume", "orders", "country=fr"): "stream:orders"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_some_slices_are_told_with_their_slice_and_the_whole_is_not_accused(fault: Fault) -> None:
    said = said_of(fault, 0, slices=("country",))
    sliced = [one for one in said if isinstance(one, Finding) and one.part]
    # With their labels the number of labels falls, too.
    accused = {(one.kind, one.subject, one.part) for one in sliced if one.kind != "labels"}
    assert accused == set(FAULTS[fault]), [one.detail for one in sliced]
    assert all(one.at.time_ms > FAULT * DAY for one in sliced), "nothing is said of slices in order"
    incidents = [one.fields for one in said if isinstance(one, IncidentUpdate) and one.fields["opened"] > FAULT * DAY]
    for (_, subject, part), root in FAULTS[fault].items():
        mine = [one for one in incidents if one["root"] == root]
        assert f"{subject} in {part}" in mine[-1]["subjects"]
        assert fault is rows_and_all or (part in mine[0]["likely_cause"] and part in mine[0]["detail"])
    last = [one for one in said if isinstance(one, HealthRecord)][-1]
    assert [part["values_judged"] for part in last.slices] == [True] * 4
    judged = [part["metrics"] for part in last.slices if part["judged"]]
    assert judged and all(one["loss_low"] < one["loss"] < one["loss_high"] for one in judged)


def german_speeds(rows: Table, after: Bools, generator: np.random.Generator) -> None:
    """German speeds are in other units."""
    rows.columns["speed"][after & (rows.country == "de")] *= 1.609344


def test_other_units_of_a_slice_are_named_anew_by_a_champion_that_is_promoted_a_day_after_them() -> None:
    """As a part of what is usual, the broken day would hide the factor until a day lies still farther away."""
    said = said_of(german_speeds, 2, slices=("country",), promoted=(PROMOTED, FAULT + 1.2))
    named = [one for one in said if isinstance(one, Finding) and one.kind == "units"]
    assert [(one.subject, one.part, one.at.time_ms) for one in named] == [("speed", "country=de", (FAULT + days) * DAY) for days in (1, 2)]
    assert all("miles to kilometres" in one.detail for one in named)


def test_the_number_of_slices_is_bounded_and_the_first_that_come_are_named() -> None:
    names = SliceNames(("shop",))
    batch = pa.RecordBatch.from_pydict({"shop": [None, *(f"s{i % 100}" for i in range(300))]})
    codes = names.encode(batch)[:, 0]
    assert codes[:4].tolist() == [-1, 0, 1, 2] and codes.max() == MOST_SLICES - 1
    assert (codes == -1).sum() == 1 + 3 * (100 - MOST_SLICES)
    one_by_one = SliceNames(("shop",))
    assert [int(one_by_one.encode(batch.slice(i, 1))[0, 0]) for i in range(batch.num_rows)] == codes.tolist()
    assert one_by_one.unnamed == names.unnamed == [3 * (100 - MOST_SLICES)]
    assert names.release([5]) == [5]
    again = names.encode(pa.RecordBatch.from_pydict({"shop": ["s99", "s5"]}))
    assert again[:, 0].tolist() == [5, -1]
    loaded = SliceNames(("shop",))
    loaded.load(names.snapshot())
    assert loaded.names == names.names


def test_requests_are_known_by_partition_and_offset_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.services.drift.domain.slice_requests._REQUESTS_KEPT", 50)
    generator, requests, truth = np.random.default_rng(0), SliceRequests(2), dict[tuple[int, int], list[int]]()
    offset = {0: 0, 1: 0}
    for _ in range(20):
        partition = generator.integers(0, 2, 9)
        offsets = []
        for number in partition.tolist():
            offset[number] += int(generator.integers(1, 5))
            offsets.append(offset[number])
        codes = generator.integers(-1, 5, (9, 2))
        requests.add(partition, np.array(offsets), codes)
        truth |= {(p, o): c for p, o, c in zip(partition.tolist(), offsets, codes.tolist(), strict=True)}
    again = SliceRequests(2)
    again.load(requests.snapshot())
    kept = {number: sorted(o for p, o in truth if p == number)[-50:] for number in (0, 1)}
    for one in (requests, again):
        places = [*truth, (0, 10**9), (7, 1)]
        known = one.of(np.array([p for p, _ in places]), np.array([o for _, o in places])).tolist()
        expected: list[Any] = [truth[place] if place in truth and place[1] in kept[place[0]] else [-1, -1] for place in places]
        assert known == expected
