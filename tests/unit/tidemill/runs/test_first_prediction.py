"""The first prediction of a run is shown once, when there is one."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.kind_events import START, THREE_CLASSES, flowers
from tidemill.runs.first_prediction import FirstPrediction
from tidemill.runs.watch import RunState
from tidemill.shared.runner.progress import Progress
from tidemill.testing import ApplicationRun

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"


def test_it_is_shown_once_with_its_score_and_when_it_came() -> None:
    shown = io.StringIO()
    with ApplicationRun(PAYMENTS) as run:
        first = FirstPrediction(run.plan, run.broker, run.registry, 100.0, Console(file=shown, width=200), lambda: 141.2)
        first.look(RunState())
        assert first.after_s is None and not shown.getvalue(), "nothing is there yet"
        for number in (7, 8):
            fields = {"payment_id": f"p{number}", "account_id": "a", "merchant_id": "m", "amount": 5.0, "currency": "EUR", "country": "DE"}
            run.publish("payments", fields | {"event_time": run.clock.now()})
            run.clock.advance("1m")
        run.run()
        seen = RunState(progress={("scoring", 0): Progress("scoring", 0, outputs={run.plan.topics.predictions: 2})})
        first.look(seen)
        first.look(seen)
    assert shown.getvalue() == "First prediction after 41 s: fraud of p7 0.04 (by default: no model is trained yet)\n"
    assert first.after_s == pytest.approx(41.2)


def test_of_a_run_that_goes_on_only_new_ones_count() -> None:
    shown = io.StringIO()
    with ApplicationRun(PAYMENTS) as run:
        counted = 0
        for name in ("old", "new"):
            if name == "new":
                first = FirstPrediction(run.plan, run.broker, run.registry, 0.0, Console(file=shown, width=200), lambda: 3.0, only_new=True)
                first.look(RunState(progress={("scoring", 0): Progress("scoring", 0, outputs={run.plan.topics.predictions: counted})}))
                assert first.after_s is None
            fields = {"payment_id": name, "account_id": "a", "merchant_id": "m", "amount": 5.0, "currency": "EUR", "country": "DE"}
            run.publish("payments", fields | {"event_time": run.clock.now()})
            run.clock.advance("1m")
            run.run()
            counted += 1
        first.look(RunState(progress={("scoring", 0): Progress("scoring", 0, outputs={run.plan.topics.predictions: counted})}))
    assert shown.getvalue() == "First prediction after 3 s: fraud of new 0.04 (by default: no model is trained yet)\n"


def test_a_class_is_shown_by_its_name() -> None:
    shown = io.StringIO()
    with ApplicationRun(THREE_CLASSES, START.isoformat()) as run:
        first = FirstPrediction(run.plan, run.broker, run.registry, 0.0, Console(file=shown, width=200), lambda: 3.0)
        run.publish("flowers", flowers(1)[0][0])
        run.run()
        first.look(RunState(progress={("scoring", 0): Progress("scoring", 0, outputs={run.plan.topics.predictions: 1})}))
    assert shown.getvalue() == "First prediction after 3 s: species of f0 versicolor 0.5 (by default: no model is trained yet)\n"
