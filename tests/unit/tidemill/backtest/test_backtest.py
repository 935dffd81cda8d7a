"""Files through every stage in one process: one answer a request, models from the instant they are due; bad input by name."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from campaigns.simulate.trainer import SeededTrainer
from campaigns.simulate.world import FOLDER
from tidemill.backtest.run import BacktestOptions, BacktestResult, backtest
from tidemill.services.cli.__main__ import app
from tidemill.services.cli.backtest_data import DataChoice
from tidemill.services.retraining.processes.job_files import JobRequest
from tidemill.shared.application.planning import load_plan
from tidemill.shared.memory.log import PartitionLog
from tidemill.shared.models.artifacts import ArtifactStore

PLAN = load_plan(FOLDER)
START = 1_700_000_000_000
ORDERS = 400
SLICE_MS = 4_000


def shop_files(folder: Path, seed: int = 1) -> list[str]:
    """Write orders, a second and a bit apart, and verdicts on two of three of them, some seconds later."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    at = START + np.cumsum(rng.integers(200, 400, ORDERS))
    customers = rng.integers(0, 12, ORDERS)
    orders = pd.DataFrame(
        {
            "order_id": [f"o{i}" for i in range(ORDERS)],
            "customer": [f"c{i}" for i in customers],
            "amount": rng.uniform(1, 500, ORDERS).round(2),
            "items": rng.integers(1, 9, ORDERS),
            "channel": rng.choice(["web", "shop", "phone"], ORDERS),
            "ordered_at": at,
        }
    )
    orders.loc[7, "amount"] = -1.0
    judged = np.flatnonzero(rng.random(ORDERS) < 0.66)
    verdicts = pd.DataFrame(
        {
            "verdict_id": [f"v{i}" for i in judged],
            "order_id": [f"o{i}" for i in judged],
            "customer": [f"c{customers[i]}" for i in judged],
            "bad": (rng.random(len(judged)) < 0.3).astype(float),
            "judged_at": at[judged] + rng.integers(2_000, 9_000, len(judged)),
        }
    )
    orders.to_csv(folder / "orders.csv", index=False)
    verdicts.to_json(folder / "judged.jsonl", orient="records", lines=True)
    return [f"orders={folder / 'orders.csv'}", f"verdicts={folder / 'judged.jsonl'}"]


class TrainerByTime(SeededTrainer):
    """Its results follow from the journal time of a request: its id tells of offsets too, which the size of steps moves."""

    def start(self, request: JobRequest) -> None:
        """Begin one."""
        asked = request.retraining
        super().start(replace(request, retraining={**asked, "decision_id": f"{asked['journal_time'] % 10**6:06}"}))


def run(folder: Path, sources: Sequence[str], slice_ms: int = 10_000, **options: object) -> BacktestResult:
    data = DataChoice(sources, **{name: options.pop(name) for name in ("begin_ms", "end_ms") if name in options})  # type: ignore[arg-type]  # options of any type, by name
    chosen = BacktestOptions(data, slice_ms, folder=folder, predictions=folder / "predictions.parquet", allow_rejected=5, **options)  # type: ignore[arg-type]  # options of any type, by name
    trainer = TrainerByTime(PLAN, ArtifactStore(str((folder / "artifacts").absolute())))
    return backtest(FOLDER, chosen, Console(file=io.StringIO()), trainer)


@dataclass(frozen=True)
class Made:
    """A run that several tests look at, where its files, reports and answers lie, and how many records each log held after each that was appended."""

    folder: Path
    result: BacktestResult
    held: Sequence[int] = ()

    @property
    def rows(self) -> pd.DataFrame:
        """The answers."""
        return predictions(self.folder / "kept")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One run in slices of four seconds, with both reports."""
    folder = tmp_path_factory.mktemp("whole")
    report, html = folder / "out" / "report.json", folder / "out" / "report.html"
    held: list[int] = []
    append = PartitionLog.append

    def noting(log: PartitionLog, *arguments: object) -> None:
        append(log, *arguments)  # type: ignore[arg-type]  # options of any type, by name
        held.append(log.end - log.low)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PartitionLog, "append", noting)
        result = run(folder / "kept", shop_files(folder), slice_ms=SLICE_MS, report=report, html=html)
    return Made(folder, result, held)


def test_every_request_has_one_row_and_what_it_says_is_what_the_run_did(made: Made) -> None:
    tmp_path, result, rows = made.folder, made.result, made.rows
    report, html = tmp_path / "out" / "report.json", tmp_path / "out" / "report.html"
    assert rows.columns.tolist()[:3] == ["event_id", "event_time", "score"]
    assert rows.columns.tolist()[3:7] == ["scores", "predicted_label", "lower", "upper"]
    assert rows.columns.tolist()[7:9] == ["expected_error", "expected_squared_error"] and rows[["scores", "lower"]].isna().all(axis=None)
    assert rows.columns.tolist()[9:13] == ["predicted", "model_version", "variant", "degraded"]
    orders = pd.read_csv(tmp_path / "orders.csv").drop(index=7)
    assert rows["event_id"].tolist() == orders["order_id"].tolist()
    assert (rows["event_time"].astype("datetime64[ms]").astype(np.int64) == orders["ordered_at"].to_numpy()).all()
    assert (rows["degraded"] == (rows["variant"] == "default")).all() and 0 < rows["degraded"].sum() < len(rows)
    assert (rows.loc[rows["degraded"], "score"] == 0.1).all()
    assert (rows["predicted"] == (rows["score"] >= 0.5)).all()
    figures = json.loads(report.read_text())
    assert (figures["events_in"], figures["predictions"], figures["rejected_by_reason"]) == (result.events, ORDERS - 1, {"expectation": 1})
    assert figures["degraded"] == int(rows["degraded"].sum()) and figures["promotions"] == result.seen.count(result.seen.deployments, "promoted") > 0
    quality = figures["models"]["fraud"]
    assert sum(block["rows"] for block in quality["blocks"]) == quality["judged_rows"] > 100
    assert {"log_loss", "accuracy", "brier"} < set(quality["blocks"][0]["served"]) and {"auc", "kappa", "f1"} < set(quality["served"])
    assert (quality["kind"], quality["headline"], set(quality["gap"])) == ("binary", "auc", {"auc", "low", "high"})
    page = html.read_text()
    assert "a backtest of shop" in page and "Audit" not in page and "http" not in page.replace("http://www.w3.org", "")


def predictions(folder: Path) -> pd.DataFrame:
    """Read the file, in the order of the requests."""
    rows = pq.read_table(folder / "predictions.parquet").to_pandas()
    return pd.DataFrame(rows.sort_values("event_id", key=lambda ids: ids.str[1:].astype(int), ignore_index=True))


def accuracy_of(tmp_path: Path, rows: pd.DataFrame, versions: Sequence[str]) -> float:
    """Accuracy of the served answers, from the source files alone: an order without a verdict within 20 s is no fraud."""
    verdicts = pd.read_json(tmp_path / "judged.jsonl", lines=True).set_index("order_id")["bad"]
    served = rows[rows["model_version"].isin(versions)]
    return float((served["event_id"].map(verdicts).fillna(0.0) == served["predicted"]).mean())


def test_the_figures_are_those_of_the_source_files(made: Made) -> None:
    rows, quality = made.rows, made.result.figures.quality["fraud"]
    assert quality is not None
    served = rows.loc[rows["model_version"] != "default", "model_version"].unique().tolist()
    assert quality.rows == int((rows["model_version"] != "default").sum())
    assert quality.served["accuracy"] == pytest.approx(accuracy_of(made.folder, rows, served))


@pytest.mark.parametrize("training_ms", [0, 7_000])
def test_a_model_serves_from_the_instant_its_training_ends(tmp_path: Path, made: Made, training_ms: int) -> None:
    """Of the slice in which a training is asked for every request is answered by the model before; with a training time, to the millisecond."""
    if training_ms:
        sources = shop_files(tmp_path)
        end_ms = int(pd.read_csv(tmp_path / "orders.csv")["ordered_at"][ORDERS // 2])
        made = Made(tmp_path, run(tmp_path / "kept", sources, training_ms=training_ms, slice_ms=SLICE_MS, end_ms=end_ms))
    result, rows = made.result, made.rows
    times = rows["event_time"].astype("datetime64[ms]").astype(np.int64).to_numpy()
    promoted = [event for event in result.seen.deployments if event["event"] == "promoted"]
    assert promoted
    first = promoted[0]
    served = times[rows["model_version"] == first["version"]].min()
    before = times[times < served].max()
    due = first["journal_time"] + training_ms if training_ms else (first["journal_time"] // SLICE_MS + 1) * SLICE_MS
    assert before < due <= served


def test_the_result_does_not_depend_on_the_size_of_steps(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.backtest.stages._MAX_BATCH", 23)
    sources = shop_files(tmp_path)
    end_ms = int(pd.read_csv(tmp_path / "orders.csv")["ordered_at"][ORDERS // 2])
    run(tmp_path / "pieces", sources, slice_ms=SLICE_MS, end_ms=end_ms)
    pieces = predictions(tmp_path / "pieces")
    assert ORDERS // 2 - 1 == len(pieces) and pieces["model_version"].nunique() > 1
    pd.testing.assert_frame_equal(made.rows.head(len(pieces)), pieces, check_exact=True)


def test_a_stretch_is_given_alone(tmp_path: Path) -> None:
    sources = shop_files(tmp_path)
    orders = pd.read_csv(tmp_path / "orders.csv")
    begin, end = (int(orders["ordered_at"][row]) for row in (200, 300))
    run(tmp_path / "kept", sources, begin_ms=begin, end_ms=end)
    rows = predictions(tmp_path / "kept")
    assert rows["event_id"].tolist() == [f"o{i}" for i in range(200, 300)]


def test_logs_hold_what_a_slice_makes_and_no_more(made: Made) -> None:
    """Some fourteen orders and verdicts in a slice, and the ends of transactions."""
    assert max(made.held) < 120 and len(made.held) > 1_000


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["backtest", str(FOLDER), *arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", " ").split())


def test_what_is_wrong_with_the_data_is_named(tmp_path: Path) -> None:
    orders, verdicts = shop_files(tmp_path)
    assert "expected either --data STREAM=FILE or --run FOLDER" in refusal()
    assert f"{tmp_path}/absent.csv: expected a file of the stream orders, found none" in refusal("--data", f"orders={tmp_path}/absent.csv")
    assert "expected a stream of shop (orders, verdicts, customers) before the =, found 'payments=" in refusal("--data", "payments=x.csv")
    assert "expected STREAM=FILE, found 'loose.csv'" in refusal("--data", orders, "--data", "loose.csv")
    (tmp_path / "orders.txt").write_text("a")
    assert "expected a file ending in .parquet, .csv" in refusal("--data", f"orders={tmp_path}/orders.txt")
    assert "expected rows of the stream that asks for predictions (orders), found" in refusal("--data", verdicts)
    frame = pd.read_csv(tmp_path / "orders.csv")
    frame.rename(columns={"amount": "ammount"}).to_csv(tmp_path / "wrong.csv", index=False)
    assert "expected columns among order_id, customer, amount" in (text := refusal("--data", f"orders={tmp_path}/wrong.csv")) and "'ammount'" in text
    frame.drop(columns="amount").to_csv(tmp_path / "less.csv", index=False)
    assert "expected a column amount, which has no default in orders's schema" in refusal("--data", f"orders={tmp_path}/less.csv")
    frame.head(0).to_csv(tmp_path / "empty.csv", index=False)
    assert "expected at least one row, found none in orders=" in refusal("--data", f"orders={tmp_path}/empty.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    assert "broken.parquet: expected Parquet with the columns of the stream orders" in refusal("--data", f"orders={tmp_path}/broken.parquet")


def test_what_is_wrong_with_the_options_is_named(tmp_path: Path) -> None:
    orders, _ = shop_files(tmp_path)
    later = "expected --from before --until, found 2024-01-02T00:00:00.000Z and 2024-01-01T00:00:00.000Z"
    assert later in refusal("--data", orders, "--from", "2024-01-02", "--until", "2024-01-01")
    assert "expected rows between --from and --until, found none: the data became known from 2023-11-14" in refusal(
        "--data", orders, "--from", "2024-01-02"
    )
    assert "expected a time such as 2013-03-01T12:00:00Z" in refusal("--data", orders, "--from", "yesterday")
    assert "a duration such as 30s" in refusal("--data", orders, "--training-time", "long")
    assert "expected a positive duration" in refusal("--data", orders, "--slice", "0s")
    assert "expected --run without --from, --until and --slice" in refusal("--run", str(tmp_path), "--slice", "1d")
    assert "expected a run in" in refusal("--run", str(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "expected a new or an empty folder" in refusal("--data", orders, "--keep", str(tmp_path / "full"))


def test_times_that_go_backwards_are_said_and_put_in_order(tmp_path: Path) -> None:
    sources = shop_files(tmp_path)
    frame = pd.read_csv(tmp_path / "orders.csv")
    pd.concat([frame.iloc[100:], frame.iloc[:100]]).to_csv(tmp_path / "orders.csv", index=False)
    said = io.StringIO()
    options = BacktestOptions(DataChoice(sources), 60_000, predictions=tmp_path / "kept" / "predictions.parquet", folder=tmp_path / "kept")
    backtest(FOLDER, options, Console(file=said, width=400), TrainerByTime(PLAN, ArtifactStore(str(tmp_path / "kept" / "artifacts"))))
    assert "the times of orders go backwards once, first at" in said.getvalue() and f"orders.csv:{ORDERS - 98} (from 2023-" in said.getvalue()
    assert predictions(tmp_path / "kept")["event_id"].tolist() == [f"o{i}" for i in range(ORDERS) if i != 7]
