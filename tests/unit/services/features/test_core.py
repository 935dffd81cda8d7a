"""Every aggregate of the flights application against pandas, request by request."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.journals import random_journal
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import JournalBatch
from tidemill.shared.application.plan import AggregatePlan, Plan, ViewPlan
from tidemill.shared.application.planning import load_plan

pytestmark = pytest.mark.lasts(15)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(Path(__file__).parents[4] / "examples" / "flights")


@pytest.fixture(scope="module")
def journal(plan: Plan) -> JournalBatch:
    return random_journal(plan, 1_500, np.random.default_rng(3), step_ms=3_600_000)


def frame(journal: JournalBatch, stream: str) -> pd.DataFrame:
    group = journal.groups[stream]
    columns: pd.DataFrame = group.columns.to_pandas()
    return columns.assign(row=group.rows, at=journal.journal_time_ms[group.rows])


def milliseconds(time: pd.Timestamp) -> int:
    return int(time.value // 1_000_000)


def expected(view: ViewPlan, aggregate: AggregatePlan, source: pd.DataFrame, entity: str | None, row: int, now: int, value: str | None) -> float:
    if entity is None:
        return math.nan
    seen = source[(source.row <= row) & (source[view.entity_columns[view.source]] == entity) & ~source["_late"]]
    if view.ttl_ms is not None:
        gap = seen["at"].diff() > view.ttl_ms
        seen = seen[gap.cumsum() == gap.sum()]
        if len(seen) and now - seen["at"].iloc[-1] > view.ttl_ms:
            seen = seen.iloc[:0]
    if aggregate.kind == "time_since_last":
        return (now - seen["at"].iloc[-1]) / 1000 if len(seen) else math.nan
    if aggregate.window is not None and aggregate.window.kind == "sliding":
        seen = seen[seen["at"] > now - aggregate.window.length_ms]
    if aggregate.kind == "count":
        return float(len(seen))
    assert value is not None
    values = seen[value].astype(float)
    known = values.dropna()
    if aggregate.kind == "last":
        return float(known.iloc[-1]) if len(known) else math.nan
    if aggregate.kind == "decayed_mean":
        assert aggregate.half_life_ms is not None
        weights = 0.5 ** ((now - seen.loc[known.index, "at"]) / aggregate.half_life_ms)
        return float((known * weights).sum() / weights.sum()) if len(known) else math.nan
    if not len(known):
        return math.nan
    return float(getattr(known, aggregate.kind)())


def test_every_view_agrees_with_pandas(plan: Plan, journal: JournalBatch) -> None:
    vectors = FeaturesCore(plan).process(journal).to_pandas()
    asks = frame(journal, "departures").reset_index(drop=True)
    chosen = np.random.default_rng(0).choice(len(asks), 40, replace=False)
    checked = 0
    for view in plan.views:
        source = frame(journal, view.source)
        for aggregate in view.aggregates:
            value = aggregate.value.sql if aggregate.value is not None else None
            for i in chosen.tolist():
                entity = asks.loc[i, view.entity_columns["departures"]]
                truth = expected(view, aggregate, source, entity if isinstance(entity, str) else None, asks.loc[i, "row"], asks.loc[i, "at"], value)
                got = vectors.loc[i, aggregate.feature]
                if math.isnan(truth):
                    assert math.isnan(got), (aggregate.feature, i, got)
                else:
                    assert got == pytest.approx(truth, rel=1e-9, abs=1e-9), (aggregate.feature, i)
                checked += 1
    assert checked > 1_000


def test_the_latest_reference_row_counts_until_it_is_too_old(plan: Plan, journal: JournalBatch) -> None:
    vectors = FeaturesCore(plan).process(journal).to_pandas()
    asks, weather = frame(journal, "departures"), frame(journal, "weather")
    max_age = plan.streams["weather"].max_age_ms or 0
    rows: list[dict[str, Any]] = [dict(zip(map(str, weather.columns), row, strict=True)) for row in weather.itertuples(index=False, name=None)]
    for i, ask in enumerate(asks.itertuples()):
        # The newest event time counts, of equal ones the later row; a deletion leaves nothing.
        latest: dict[str, Any] | None = None
        for row in (row for row in rows if row["row"] < ask.row and row["origin"] == ask.origin):
            if row["_deleted"] or latest is None or row["_event_time"] >= latest["_event_time"]:
                latest = None if row["_deleted"] else row
        fresh = latest is not None and int(str(ask.at)) - milliseconds(latest["_event_time"]) <= max_age
        truth = latest["temp"] if latest is not None and fresh else math.nan
        assert vectors.loc[i, "weather__temp"] == truth or (math.isnan(truth) and math.isnan(vectors.loc[i, "weather__temp"]))


def test_one_vector_per_request_in_journal_order(plan: Plan, journal: JournalBatch) -> None:
    vectors = FeaturesCore(plan).process(journal)
    rows = journal.groups["departures"].rows
    assert vectors.column("_journal_offset").to_pylist() == journal.offsets[rows].tolist()
    assert vectors.column("_request_id").to_pylist() == journal.groups["departures"].columns.column("_event_id").to_pylist()
