"""`init` → `backtest` without an edit: each request is answered, and where the table allows a model is promoted that beats the default."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from rich.console import Console

from tests.long_forms import shortened
from tests.unit.tidemill.init.tables import NOW_MS, csv, customers, flights, late_flights, rare, river_table, timed, wide
from tidemill.backtest.run import BacktestOptions, BacktestResult, backtest
from tidemill.init.init import InitOptions, InitResult, init
from tidemill.init.roles import Roles
from tidemill.init.timeline import LabelDelay
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.services.retraining.processes.job import run
from tidemill.services.retraining.processes.job_files import JobRequest, JobResult
from tidemill.services.retraining.processes.trainer import Trainer
from tidemill.shared.application.planning import load_plan

FIRST_MS = 1_754_006_400_000
_SLICES = 14


class TrainerHere(Trainer):
    """Trains in this process: the same function as the child's, without the seconds that a child needs to start."""

    result: JobResult | None = None

    def start(self, request: JobRequest) -> None:
        """Train."""
        self.result = run(request)

    def poll(self) -> JobResult | None:
        """Return the result."""
        return self.result


def backtested(folder: Path, frame: pd.DataFrame, roles: Roles, delay: str | None = None) -> tuple[InitResult, BacktestResult, pd.DataFrame]:
    """Write an application and run it over its own data, in few slices."""
    parsed = None if delay is None else LabelDelay.parse(delay)
    made = init(InitOptions(folder / "app", csv(folder, frame), roles, delay=parsed, first_ms=FIRST_MS), NOW_MS)
    load_plan(folder / "app")
    slice_ms = max(1, made.written.times.span_ms // _SLICES)
    options = BacktestOptions(DataChoice([str(folder / "app/data")]), slice_ms, predictions=folder / "predictions.parquet")
    result = backtest(folder / "app", options, Console(file=io.StringIO()), TrainerHere())
    return made, result, pq.read_table(folder / "predictions.parquet").to_pandas()


def answered(made: InitResult, predictions: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_], pd.DataFrame]:
    """Return label and whether a model answered, of each prediction in order of the table's rows."""
    ordered = predictions.sort_values("event_id", kind="stable").reset_index(drop=True)
    return made.written.question.labels.to_numpy(), (ordered["model_version"] != "default").to_numpy(), ordered


# The first two of each are the short form: a table that is as people leave them, and one with gaps and entities.
BINARY = {
    "messy": (customers, Roles("gekauft", time="Zeit", entities=("Kunde-Nr",)), "6h"),
    "flights as they come": (late_flights, Roles("late", time="time_hour", entities=("tailnum",), excluded=("arr_time", "arr_delay")), "4h"),
    "Bananas": (lambda: river_table("Bananas", "y", 1_500), Roles("y"), "100"),
    "200 columns": (lambda: wide(450), Roles("y"), None),
    "within hours": (lambda: timed(river_table("Bananas", "y", 1_500), "5s"), Roles("y", time="at"), "1m"),
}


def each_request_is_answered(result: BacktestResult, predictions: pd.DataFrame, requests: int, roles: Roles) -> None:
    """Hold a run to one answer a request and nothing refused."""
    assert not [finding.text for finding in result.findings if finding.fails]
    if roles.time is None:
        silent = [one["detail"] for one in result.seen.newest_incidents() if one["root"] == "stream:events" and "volume" in one["kinds"]]
        assert not silent, f"rows come evenly, and that the table ends is no fault of its stream: {silent}"
    assert len(predictions) == predictions["event_id"].nunique() == requests and result.figures.values["rejected"] == 0


@pytest.mark.lasts(5)
@pytest.mark.parametrize(("table", "roles", "delay"), shortened(list(BINARY.values()), 2), ids=BINARY)
def test_a_binary_table_gets_a_model_that_beats_the_default(
    tmp_path: Path, table: Callable[[], pd.DataFrame], roles: Roles, delay: str | None
) -> None:
    frame = table()
    made, result, predictions = backtested(tmp_path, frame, roles, delay)
    each_request_is_answered(result, predictions, len(frame), roles)
    assert result.figures.values["promotions"] >= 1, [record["reason"] for record in result.seen.retraining]
    labels, served, rows = answered(made, predictions)
    assert served.mean() > 0.1
    scores, truth = np.clip(rows["score"].to_numpy()[served], 1e-6, 1 - 1e-6), labels[served]
    loss, default = (-np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)) for p in (scores, np.full(len(truth), labels.mean())))
    assert loss < 0.9 * default


DELAY = "arr_delay"
# Labels that come days after the last row: without the mark that the rows have ended, the days until then would be two incidents.
OTHERS = {
    "ImageSegments": (lambda: river_table("ImageSegments", "y", 800), Roles("y"), "4d", "multiclass"),
    "flights' delay": (lambda: flights(1_500), Roles(DELAY, time="time_hour", entities=("tailnum",), excluded=("arr_time",)), None, "regression"),
    "TrumpApproval": (lambda: river_table("TrumpApproval", "y"), Roles("y"), None, "regression"),
    "WaterFlow": (lambda: river_table("WaterFlow", "y"), Roles("y", time="Time"), None, "regression"),
}


@pytest.mark.lasts(5)
@pytest.mark.parametrize(("table", "roles", "delay", "kind"), shortened(list(OTHERS.values()), 2), ids=OTHERS)
def test_a_table_of_classes_or_numbers_gets_a_model_that_beats_the_default(
    tmp_path: Path, table: Callable[[], pd.DataFrame], roles: Roles, delay: str | None, kind: str
) -> None:
    frame = table()
    made, result, predictions = backtested(tmp_path, frame, roles, delay)
    assert made.written.question.kind == kind
    each_request_is_answered(result, predictions, len(frame), roles)
    assert result.figures.values["promotions"] >= 1, [record["reason"] for record in result.seen.retraining]
    labels, served, rows = answered(made, predictions)
    known = served & np.isfinite(labels)
    if roles.time == "Time":
        # The water's days differ so much that a first model is sure only at the end of the table: nothing is left that it could have answered.
        return
    assert known.mean() > 0.1
    if kind == "regression":
        scores = rows["score"].to_numpy()[known]
        mine, default = np.mean((scores - labels[known]) ** 2), np.mean((np.nanmean(labels) - labels[known]) ** 2)
    else:
        classes = made.written.question.classes
        right = [dict(scores)[classes[int(label)]] for scores, label in zip(rows["scores"][known], labels[known], strict=True)]
        shares = np.array([made.written.question.counts[name] for name in classes]) / len(frame)
        mine, default = -np.mean(np.log(np.clip(right, 1e-6, 1))), -np.mean(np.log(shares[labels[known].astype(int)]))
    assert mine < 0.9 * default


def test_a_table_with_too_few_of_a_class_is_answered_and_fails_no_training(tmp_path: Path) -> None:
    frame = rare(3_000)
    _, result, predictions = backtested(tmp_path, frame, roles := Roles("fraud"))
    each_request_is_answered(result, predictions, len(frame), roles)
    assert result.figures.values["retrains"] == 0
