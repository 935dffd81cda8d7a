"""Planted faults: the right cause is named first."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.unit.services.retraining.test_job import BEGIN_MS, DAY_MS, MODEL, World
from tidemill.offline.diagnosis import AnsweredWindow, Diagnosis, diagnose
from tidemill.services.cli.__main__ import app
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.models.artifacts import Artifact

Float64 = NDArray[np.float64]
ROWS = 4_000


def relation(x: Float64, y: Float64) -> Float64:
    """The true rate; the stretch where y is large is all but a coin."""
    return np.asarray(1 / (1 + np.exp(-np.where(y > 1, 0.1 * x, 3 * x))))


def score(batch: pa.RecordBatch) -> Float64:
    """The model knows the truth; a missing x counts as 0."""
    x, y = (np.nan_to_num(batch.column(i).to_numpy(zero_copy_only=False).astype(float)) for i in range(2))
    return relation(x, y)


def window(seed: int, change: Callable[[dict[str, Float64], np.random.Generator], None] | None = None) -> AnsweredWindow:
    rng = np.random.default_rng(seed)
    rows = {"x": rng.normal(size=ROWS), "y": rng.normal(size=ROWS), "noise": rng.normal(size=ROWS)}
    if change is not None:
        change(rows, rng)
    truth = rows.pop("truth", None)
    rate = relation(rows["x"], rows["y"]) if truth is None else truth
    labels = (rng.random(ROWS) < rate).astype(float)
    turned = rows.pop("turned", np.zeros(ROWS)) > 0
    hidden = rows.pop("hidden", np.zeros(ROWS)) > 0
    labels[turned] = 1 - labels[turned]
    columns = {name: pa.array(np.where(hidden, np.nan, values) if name == "x" else values, from_pandas=True) for name, values in rows.items()}
    batch = pa.RecordBatch.from_pydict(columns)
    return AnsweredWindow(batch, labels, score(batch), np.arange(ROWS) // 200, ROWS, ROWS, 3.6e6)


def null_feature(rows: dict[str, Float64], rng: np.random.Generator) -> None:
    rows["hidden"] = (rng.random(ROWS) < 0.5).astype(float)


def covariate(rows: dict[str, Float64], rng: np.random.Generator) -> None:
    rows["y"] = rng.normal(1.0, 1.0, ROWS)


def flipped(rows: dict[str, Float64], rng: np.random.Generator) -> None:
    rows["turned"] = (rng.random(ROWS) < 0.2).astype(float)


def concept(rows: dict[str, Float64], rng: np.random.Generator) -> None:
    rows["truth"] = 1 / (1 + np.exp(-np.where(rows["y"] > 1, 0.1, 1.0) * 2.5 * rows["noise"]))


def fault(change: Callable[[dict[str, Float64], np.random.Generator], None] | None, seed: int) -> Diagnosis:
    return diagnose(Binary(), window(2 * seed), window(2 * seed + 1, change), score)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("change", "kind"), [(null_feature, "data"), (covariate, "feature"), (flipped, "label"), (concept, "concept")])
def test_the_planted_cause_comes_first(change: Callable[[dict[str, Float64], np.random.Generator], None], kind: str, seed: int) -> None:
    one = fault(change, seed)
    assert one.is_worse and one.causes[0].kind == kind, one.causes
    assert one.causes[0].loss > 0.6 * one.rise
    assert sum(cause.loss for cause in one.causes) == pytest.approx(one.rise)


def test_the_evidence_is_what_was_planted() -> None:
    assert fault(flipped, 4).causes[0].evidence["share of labels turned round"] == pytest.approx(0.2, abs=0.03)
    nulls = fault(null_feature, 4).causes[0]
    assert nulls.words == "newly missing inputs: x" and nulls.evidence["missing x"] == pytest.approx(0.5, abs=0.03)
    moved = fault(covariate, 4)
    assert "y above all" in moved.causes[0].words and moved.shifts[0].column == "y"


def test_nothing_is_a_drop_where_nothing_changed_and_few_rows_are_refused() -> None:
    assert sum(fault(None, seed).is_worse for seed in range(5, 11)) <= 1
    few = window(1)
    few = AnsweredWindow(few.features.slice(0, 50), few.labels[:50], few.scores[:50], few.day[:50], 50, 50, 0.0)
    with pytest.raises(ValueError, match=r"expected 200 labelled answers in the current window, found 50: take a longer one \(--since\)"):
        diagnose(Binary(), window(2), few, score)


def test_a_worse_model_is_named_where_the_one_before_would_have_done_better() -> None:
    reference, current = window(1), window(2)
    worse = AnsweredWindow(current.features, current.labels, 1 - current.scores * 0.5, current.day, ROWS, ROWS, 0.0)
    one = diagnose(Binary(), reference, worse, score, score)
    assert one.causes[0].kind == "model" and one.causes[0].loss == pytest.approx(one.rise, rel=0.2)


def test_windows_that_hardly_overlap_are_not_divided_into_inputs_and_relation() -> None:
    def elsewhere(rows: dict[str, Float64], rng: np.random.Generator) -> None:
        rows["y"] = rng.normal(8.0, 1.0, ROWS)

    one = fault(elsewhere, 3)
    assert [cause.kind for cause in one.causes] == ["undivided"] and one.causes[0].loss == pytest.approx(one.rise)
    assert "hardly overlap" in one.causes[0].words


@pytest.mark.lasts(5)
def test_the_command_reads_the_archive_and_writes_a_page(tmp_path: Path) -> None:
    """Labels that are turned round from day 45 on, on a lake that the services' tables make."""
    world = World(tmp_path)
    world.archive(30)
    first = world.train(30, "bootstrap")
    late = world.times >= BEGIN_MS + 45 * DAY_MS
    world.labels = np.where(late & (np.random.default_rng(1).random(len(late)) < 0.35), 1 - world.labels, world.labels)
    # The lake's answers bear the version "v": it is on record under that name.
    made = Artifact.from_bytes(world.store.get(first.artifact_sha256))
    world.store.put(Artifact(made.signature.model_copy(update={"version": "v"}), made.onnx).to_bytes())
    world.archive(60, world.scores(first))
    words = ["diagnose", str(tmp_path), MODEL, "--lake", str(tmp_path / "lake")]
    since = datetime.fromtimestamp(BEGIN_MS / 1e3 + 45 * 86_400, UTC).strftime("%Y-%m-%d")
    done = CliRunner().invoke(app, [*words, "--since", since, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert f"{MODEL} v: the loss has risen" in lines[0] and lines[1].startswith("label: ")
    page = (tmp_path / "page.html").read_text()
    assert "<h1>Diagnosis of sent_back</h1>" in page and "http" not in page
    given = json.loads(CliRunner().invoke(app, [*words, "--since", since, "--json"]).stdout)
    assert given["diagnosis"]["causes"][0]["kind"] == "label"
    few = CliRunner().invoke(app, [*words, "--since", "2100-01-01"])
    assert (few.exit_code == 1 and "expected 200 labelled answers in the" in few.output) or "fallback" in few.output
    wrong = CliRunner().invoke(app, ["diagnose", str(tmp_path), "nope"])
    assert wrong.exit_code == 2 and f"expected one of {MODEL}, got nope" in wrong.output
