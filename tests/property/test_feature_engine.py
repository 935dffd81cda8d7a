"""Every aggregate over every window against the oracle, for random schedules with disorder, labels by id, restarts and any batching."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.feature_oracle import FeatureOracle, Seen
from tests.journals import cut
from tests.long_forms import examples
from tests.restarts import folded_with_restarts
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.shared.application.journal import JournalBatch, JournalGroup
from tidemill.shared.application.plan import ACCUMULATED, KINDS, AggregatePlan, Kind, Plan, ViewPlan
from tidemill.shared.application.planning import load_plan

_ENGINE = Path(__file__).parents[1] / "applications" / "engine"
PLAN = load_plan(_ENGINE)
_START = 1_700_000_000_000


def random_schedule(rng: np.random.Generator, n: int) -> list[Seen]:
    """Payments of a few accounts, some out of order, some late; verdicts that name a payment only, some for none, some before it."""
    journal: list[Seen] = []
    now = _START
    for i in range(n):
        now += int(rng.choice([0, 500, 7_000, 30_000, 400_000], p=[0.1, 0.4, 0.4, 0.09, 0.01]))
        if i and rng.random() < 0.25:
            payment = f"p{int(rng.integers(0, i + 3))}"
            fields: dict[str, object] = {"verdict": f"v{i}", "payment": payment, "account": "-", "bad": float(rng.integers(0, 2))}
            journal.append(Seen("verdicts", 2 * i, now, now - int(rng.integers(0, 5_000)), False, fields))
            continue
        behind = int(rng.choice([-1_000, 0, 20_000, 119_000], p=[0.1, 0.6, 0.2, 0.1]))
        amount = None if rng.random() < 0.1 else float(np.round(rng.choice([1e-2, 7.5, 1e6]) * rng.normal(2, 1), 3))
        merchant = None if rng.random() < 0.05 else f"m{int(rng.integers(0, 6))}"
        fields = {"payment": f"p{i}", "account": f"a{int(rng.integers(0, 3))}", "merchant": merchant, "amount": amount}
        journal.append(Seen("payments", 2 * i, now, now - behind, bool(rng.random() < 0.04), fields))
    return journal


def as_batch(journal: list[Seen]) -> JournalBatch:
    groups = {}
    for stream in PLAN.streams.values():
        rows = [i for i, record in enumerate(journal) if record.stream == stream.name]
        if not rows:
            continue
        columns = []
        for field in stream.entry_arrow:
            entries: list[object] = []
            for i in rows:
                record = journal[i]
                own = {"_journal_time": record.now, "_event_time": record.at, "at": record.at, "_late": record.late, "_event_id": f"{i}"}
                entries.append(own[field.name] if field.name in own else record.fields.get(field.name, 0))
            columns.append(pa.array(entries, pa.int64()).cast(field.type) if pa.types.is_timestamp(field.type) else pa.array(entries, field.type))
        groups[stream.name] = JournalGroup(np.array(rows, np.int64), pa.RecordBatch.from_arrays(columns, schema=stream.entry_arrow))
    index = np.array([PLAN.streams[record.stream].index for record in journal], np.int16)
    offsets, times = np.array([r.offset for r in journal], np.int64), np.array([r.now for r in journal], np.int64)
    return JournalBatch(0, offsets, times, index, [b""] * len(journal), groups)


def hold(oracle: FeatureOracle, view: ViewPlan, aggregate: AggregatePlan, request: Seen, got: float, place: tuple[object, ...]) -> None:
    """Hold an answer against the oracle's, as exactly as its kind promises."""
    truth = oracle.answer(view, aggregate, request)
    if math.isnan(truth):
        assert math.isnan(got), place
    elif aggregate.kind in ("count", "distinct"):
        assert got == truth, place
    elif aggregate.kind == "quantile" and aggregate.window is not None and (aggregate.window.kind != "sliding" or aggregate.window.step_ms):
        # A sketch: right to a few ranks.
        low, high = (oracle.answer(view, replace(aggregate, argument=min(1.0, max(0.0, aggregate.argument + d))), request) for d in (-0.06, 0.06))
        assert low - 1e-9 * abs(low) <= got <= high + 1e-9 * abs(high), place
    elif aggregate.kind in ("difference", "zscore"):
        # The difference of two numbers is as exact as the larger of them.
        assert got == pytest.approx(truth, rel=1e-9, abs=1e-6), place
    else:
        assert got == pytest.approx(truth, rel=1e-9, abs=1e-12), place


@settings(max_examples=examples(12), deadline=None)
@given(seed=st.integers(0, 100_000))
@example(seed=62)  # equal values in a window that a large one has left: no spread at all
def test_every_feature_is_what_the_oracle_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    journal = random_schedule(rng, 150)
    vectors = FeaturesCore(PLAN).process(as_batch(journal)).to_pydict()
    oracle = FeatureOracle(journal)
    requests = [record for record in journal if record.stream == "payments"]
    checked = 0
    for row in rng.choice(len(requests), 25, replace=False).tolist():
        for view in PLAN.views:
            for aggregate in view.aggregates:
                value = vectors[aggregate.feature][row]
                hold(oracle, view, aggregate, requests[row], math.nan if value is None else value, (aggregate.feature, row, seed))
                checked += 1
    assert checked > 3_000


@settings(max_examples=examples(20), deadline=None)
@given(seed=st.integers(0, 100_000), restart=st.sampled_from([0.0, 0.2, 1.0]), budget=st.sampled_from([1, 4_000, 10**9]))
@example(seed=54617, restart=0.2, budget=1)  # a replay from where requests had been written before: these were forgotten too soon
def test_any_batching_and_any_restart_give_the_same_bits(seed: int, restart: float, budget: int) -> None:
    rng = np.random.default_rng(seed)
    journal = as_batch(random_schedule(rng, 400))
    whole = FeaturesCore(PLAN).process(journal)
    together = folded_with_restarts(PLAN, journal, rng, restart, budget, 40)
    for name in whole.schema.names:
        assert together.column(name).equals(whole.column(name)), name


_ARGUMENTS: dict[Kind, str] = {
    "distinct": "{distinct: merchant}", "quantile": "{quantile: 0.7}", "lag": "{lag: 3}", "decayed_sum": "{decayed_sum: {half_life: 2m}}",
    "decayed_count": "{decayed_count: {half_life: 2 events}}", "decayed_mean": "{decayed_mean: {half_life: 2m}}",
    "ratio": "{ratio: [count_1m, count_all]}",
}  # fmt: skip
_WINDOWS = {"exact": "1m", "stepped": "{sliding: 10m, resolution: 1m}", "tumbling": "{tumbling: 5m}", "session": "{session: 1m}", "everything": "all"}


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """An application with one view that asks for every kind there is over every kind of window: a new kind is in it by its name."""
    folder = shutil.copytree(_ENGINE, tmp_path_factory.mktemp("kinds") / "engine")
    asked = ", ".join(_ARGUMENTS.get(kind, kind) for kind in KINDS)
    view = f"  each: {{entity: account, source: payments, value: amount, aggregate: [{asked}], windows: [{', '.join(_WINDOWS.values())}]}}"
    text = (folder / "app.yaml").read_text(encoding="utf-8")
    (folder / "app.yaml").write_text(text.replace("views:\n", f"views:\n{view}\n").replace('["exact.*"', '["each.*", "exact.*"'), encoding="utf-8")
    return load_plan(folder)


def test_every_kind_there_is_conforms_over_every_window(every_kind: Plan) -> None:
    rng = np.random.default_rng(8)
    journal = random_schedule(rng, 200)
    (view,) = (view for view in every_kind.views if view.name == "each")
    assert {aggregate.kind for aggregate in view.aggregates} == set(KINDS)
    over: dict[str, set[str]] = {}
    for aggregate in view.aggregates:
        if aggregate.window is not None:
            over.setdefault(aggregate.kind, set()).add(aggregate.feature.removeprefix(f"each__{aggregate.kind}_"))
    assert set(over) == set(ACCUMULATED) and {len(windows) for windows in over.values()} == {len(_WINDOWS)}
    whole = FeaturesCore(every_kind).process(as_batch(journal))
    together = folded_with_restarts(every_kind, as_batch(journal), rng, 0.3, 4_000, 30)
    columns, oracle = whole.to_pydict(), FeatureOracle(journal)
    requests = [record for record in journal if record.stream == "payments"]
    for aggregate in view.aggregates:
        assert together.column(aggregate.feature).equals(whole.column(aggregate.feature)), aggregate.feature
        assert any(value is not None for value in columns[aggregate.feature]), f"{aggregate.feature} has answers"
        for row in rng.choice(len(requests), 8, replace=False).tolist():
            value = columns[aggregate.feature][row]
            hold(oracle, view, aggregate, requests[row], math.nan if value is None else value, (aggregate.feature, row))


def test_reading_an_entity_says_what_a_request_would_be_told_and_changes_nothing() -> None:
    journal = as_batch(random_schedule(np.random.default_rng(5), 300))
    whole, read = FeaturesCore(PLAN), FeaturesCore(PLAN, followed=True)
    first, second = cut(journal, 0, 200), cut(journal, 200, 300)
    whole.process(first)
    read.process(first)
    assert set(read.touched()) >= {"account", "merchant"} and not read.touched()
    for _ in range(3):
        values = read.read("account", ["a0", "nobody"], int(first.journal_time_ms[-1]))
    names = [a.feature for view in PLAN.views if view.entity == "account" for a in view.aggregates]
    assert values.shape == (2, len(names)) and values[0, names.index("exact__count_all")] > 0
    assert np.isnan(values[1]).all()
    assert read.process(second).equals(whole.process(second))
