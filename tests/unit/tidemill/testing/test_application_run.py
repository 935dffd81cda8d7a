"""The public testing module: what a user's suite gets is what a plain loop computes, whatever the batching, and the guide's code runs."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.effort import effort
from tests.models import artifact
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.models.signature import Column
from tidemill.testing import ApplicationRun, ManualClock, build_journal

ROOT = Path(__file__).parents[4]
PAYMENTS = ROOT / "examples" / "payments"
GUIDE = (ROOT / "docs" / "guide" / "testing.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def payments(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.integers(1, 20, count))
    return [
        {
            "payment_id": f"p{i}", "account_id": f"a{rng.integers(3)}", "merchant_id": "m", "amount": float(rng.integers(1, 100)),
            "currency": "EUR", "country": "DE", "event_time": START + timedelta(minutes=int(times[i])),
        }
        for i in range(count)
    ]  # fmt: skip


def published(events: list[dict[str, Any]], every: int) -> ApplicationRun:
    """A run that has taken the events through, so many at once."""
    run = ApplicationRun(PAYMENTS, START.isoformat())
    for number, event in enumerate(events, 1):
        run.clock.set(event["event_time"].isoformat())
        run.publish("payments", event)
        if number % every == 0:
            run.run()
    return run


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_of_the_guide_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(code, "testing.md", "exec"), {"__name__": "guide"})
    assert len(BLOCKS) == 3


def test_features_are_what_a_loop_over_the_events_computes_however_often_it_is_run() -> None:
    events = payments(40)
    expected = []
    for i, event in enumerate(events):
        hour = [e for e in events[: i + 1] if e["account_id"] == event["account_id"] and event["event_time"] - e["event_time"] < timedelta(hours=1)]
        expected.append((event["payment_id"], float(len(hour)), sum(e["amount"] for e in hour)))
    for every in (1, 7, 1_000):
        with published(events, every) as run:
            results = run.run()
            rows = [(v["_request_id"], v["account_spending__count_1h"], v["account_spending__sum_1h"]) for v in results.vectors]
            assert rows == expected, every
            assert [p["request_id"] for p in results.predictions] == [event["payment_id"] for event in events]
            assert {p["score"] for p in results.predictions} == {run.plan.models["fraud"].settings.fallback.default}


def test_a_deployed_model_answers_from_the_next_event_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = artifact(
        "logistic_regression", (Column(name="amount", type="double"), Column(name="account_spending__count_1h", type="double")), "v7"
    )
    events = payments(6)
    with ApplicationRun(PAYMENTS, START.isoformat()) as run:
        for number, event in enumerate(events):
            if number == 3:
                run.run()
                run.deploy("fraud", made)
            run.clock.set(event["event_time"].isoformat())
            run.publish("payments", event)
        answers = run.run().predictions
    assert [answer["model_version"] for answer in answers] == ["default"] * 3 + ["v7"] * 3
    assert {answer["variant"] for answer in answers[3:]} == {"champion"} and len({answer["score"] for answer in answers[3:]}) > 1


def test_what_is_no_event_is_a_dead_letter_with_its_bytes() -> None:
    with ApplicationRun(PAYMENTS) as run:
        run.publish("payments", b"{no json", key="a")
        run.publish("payments", payments(1)[0] | {"event_time": run.clock.now()})
        results = run.run()
    assert [(letter["reason"], letter["value"]) for letter in results.rejected] == [("invalid_json", b"{no json")]
    assert len(results.vectors) == 1


def test_a_time_that_no_date_is_is_the_nearest_one() -> None:
    with ApplicationRun(PAYMENTS) as run:
        run.broker.sink().publish("payments-payments", b"a", b"{no json", 2**60, 0)
        results = run.run()
        run.clock.set("9999-12-31")
        run.clock.advance("2d")
        assert [(letter["reason"], letter["source_timestamp"].year) for letter in results.rejected] == [("invalid_json", 9999)]
        assert run.clock.now().year == 9999


def test_a_journal_has_the_entries_at_the_times_they_became_known() -> None:
    events = payments(5)
    journal = build_journal(PAYMENTS, [(event["event_time"].isoformat(), "payments", event) for event in events])
    group = journal.groups["payments"]
    assert journal.journal_time_ms[group.rows].tolist() == [round(event["event_time"].timestamp() * 1_000) for event in events]
    assert group.columns.column("amount").to_pylist() == [event["amount"] for event in events]


def test_time_does_not_go_back_and_a_mistake_has_its_place(tmp_path: Path) -> None:
    clock = ManualClock("2026-01-05T12:00")
    clock.advance("90s")
    assert clock.now() == START + timedelta(seconds=90)
    with pytest.raises(ValueError, match="does not go back"):
        clock.set("2026-01-05T12:01")
    (tmp_path / "app.yaml").write_text("app: x\n")
    with pytest.raises(ApplicationError, match=r"app\.yaml:1"):
        ApplicationRun(tmp_path)


def test_a_run_is_short_and_no_test_framework_comes_with_it() -> None:
    code = "import sys, tidemill.testing; print([name for name in ('pytest', '_pytest', 'confluent_kafka', 'redis') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "pytest" not in loaded
    with published(payments(3), 1_000) as run:
        run.run()
    with effort() as cost, published(payments(3), 1_000) as run:
        run.run()
    assert cost.calls < 500_000, "170,000 when this was written: some tens of milliseconds"
