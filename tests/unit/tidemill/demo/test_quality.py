"""Served quality counts every request once, with the last that became known of it, and stands beside static and always-refit on the same requests."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, roc_auc_score

from tests.linear_models import linear_artifact, linear_scores
from tests.models import artifact
from tidemill.demo.judged_requests import labelled
from tidemill.demo.quality import DAY_MS, compare, refits_in_service
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import ArtifactStore
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column


def test_silence_and_corrections_are_labels() -> None:
    rows = [
        ("m", 0, 1, "labelled", 1.0, 0),
        ("m", 0, 2, "timeout", 0.0, 0),
        ("m", 0, 3, "timeout", None, 0),
        ("m", 0, 4, "timeout", 0.0, 0),
        ("m", 0, 4, "corrected", 1.0, 1),
        ("m", 1, 4, "labelled", 0.0, 0),
        ("m", 0, -1, "unmatched", 1.0, 0),
        ("other", 0, 5, "labelled", 1.0, 0),
        ("m", 0, 1, "corrected", 0.0, 1),
        ("m", 0, 1, "corrected", 1.0, 2),
        ("m", 0, 6, "timeout", None, 0),
        ("m", 0, 6, "corrected", 1.0, 1),
        ("m", 0, 7, "labelled", 7.0, 0),
    ]
    names = ["model", "journal_partition", "request_journal_offset", "status", "label", "revision"]
    answers = labelled(pl.DataFrame(rows, schema=names, orient="row").to_arrow(), "m", Binary())
    frame = pd.DataFrame(rows, columns=names)
    frame = frame[(frame.model == "m") & (frame.status != "unmatched") & frame.label.isin([0, 1])]
    expected = frame.groupby(names[1:3]).label.last().to_dict()
    assert {(row[1], row[2]): row[4] for row in answers.rows()} == expected == {(0, 1): 1, (0, 2): 0, (0, 4): 1, (1, 4): 0, (0, 6): 1}


def test_served_static_and_always_refit_are_of_the_same_requests(tmp_path: Path) -> None:
    """v1 promoted, v2 refused, v3 promoted, v4 refused: always-refit is v1, v2, v3, v4 in turn."""
    store, columns = ArtifactStore(str(tmp_path)), tuple(Column(name=f"f{i}", type="double") for i in range(3))
    made = {f"v{i}": artifact("logistic_regression", columns[: 3 if i % 2 else 2], f"v{i}")[0] for i in range(1, 5)}
    events: list[dict[str, Any]] = []
    asked_at = {"v1": 10, "v2": 20, "v3": 30, "v4": 40}
    for version, model in made.items():
        name = "promoted" if version in ("v1", "v3") else "gate_refused"
        for event in ("registered", name):
            shared = {"model": "m", "version": version, "artifact_sha256": store.put(model.to_bytes()), "threshold": 0.5}
            events.append(shared | {"event": event, "sequence": len(events), "journal_time": asked_at[version] * DAY_MS})
    generator = np.random.default_rng(0)
    n = 3_000
    features = {f"f{i}": generator.normal(size=n) for i in range(3)}
    day = np.sort(generator.integers(11, 50, n))
    # v3 answers from day 31 on: it was promoted on day 30.
    sequence, unjudged = np.where(day > 31, 5, 1), np.select([day > 40, day > 31, day > 20], ["v4", "v3", "v2"], "v1")
    label = (features["f0"] + generator.normal(size=n) > 0).astype(float)
    batch = pa.RecordBatch.from_pydict(features)
    scores = {name: OnnxScorer(model).score(batch) for name, model in made.items()}
    served = np.where(sequence == 5, scores["v3"], scores["v1"])
    outcomes = pa.table(
        {
            "model": ["m"] * n, "journal_partition": [0] * n, "request_journal_offset": np.arange(n), "request_journal_time": day * DAY_MS,
            "status": ["labelled"] * n, "label": label, "revision": [0] * n, "deployment_sequence": sequence, "score": served,
            "predicted": (served > 0.5).astype(int),
        }
    )  # fmt: skip
    vectors = pa.table({"_journal_partition": [0] * n, "_journal_offset": np.arange(n), **features})
    quality = compare(events, outcomes, vectors, store, "m", Binary(), 0.005)
    assert quality is not None and quality.rows == n
    refit = np.select([unjudged == name for name in scores], list(scores.values()))
    for figures, expected in ((quality.served, served), (quality.static, scores["v1"]), (quality.refit, refit)):
        assert figures["auc"] == pytest.approx(roc_auc_score(label, expected))
    assert quality.refit_gap.estimate == pytest.approx(quality.served["auc"] - quality.refit["auc"])
    assert quality.refit_gap.low <= quality.refit_gap.estimate <= quality.refit_gap.high
    assert len(quality.curves()[2]) == len(quality.begins_ms) == len(np.unique(day // 7))
    assert compare([], outcomes, vectors, store, "m", Binary(), 0.005) is None


def _run(kind: Kind, folder: Path, labels: np.ndarray, features: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
    """Compare the first of two models with the second, which was promoted on day 30, over days 11 to 50."""
    generator = np.random.default_rng(3)
    store, n = ArtifactStore(str(folder)), len(labels)
    width, interval = kind.width, {"interval_lower": -2.0, "interval_upper": 1.0} if kind.name == "regression" else {}
    weights = {"v1": generator.normal(size=(2, width)), "v2": np.eye(2, width) + 0.1}
    events: list[dict[str, Any]] = []
    for promoted, version in ((10, "v1"), (30, "v2")):
        model = linear_artifact(kind.name, weights[version], version, kind.classes, **interval)
        shared = {
            "model": "m",
            "version": version,
            "artifact_sha256": store.put(model.to_bytes()),
            "threshold": 0.5,
            "journal_time": promoted * DAY_MS,
        }
        events += [shared | {"event": event, "sequence": len(events) + i} for i, event in enumerate(("registered", "promoted"))]
    day = np.sort(generator.integers(11, 50, n))
    sequence = np.where(day > 30, 3, 1)
    scores = {version: linear_scores(kind.name, features, own) for version, own in weights.items()}
    chosen = sequence == 3
    served = np.where(chosen[:, None] if kind.classes else chosen, scores["v2"], scores["v1"])
    ends = [pa.array(served + end) if kind.name == "regression" else pa.nulls(n, pa.float64()) for end in (-1.5, 1.5)]
    maps = [list(zip(kind.classes, row, strict=True)) for row in served.tolist()] if kind.classes else [None] * n
    outcomes = pa.table(
        {
            "model": ["m"] * n, "journal_partition": [0] * n, "request_journal_offset": np.arange(n), "request_journal_time": day * DAY_MS,
            "status": ["labelled"] * n, "label": labels, "revision": [0] * n, "deployment_sequence": sequence,
            "score": served.max(axis=1) if kind.classes else served, "predicted": kind.decide(served, 0.5),
            "scores": pa.array(maps, pa.map_(pa.string(), pa.float64())), "lower": ends[0], "upper": ends[1],
        }
    )  # fmt: skip
    vectors = pa.table({"_journal_partition": [0] * n, "_journal_offset": np.arange(n), "f0": features[:, 0], "f1": features[:, 1]})
    return compare(events, outcomes, vectors, store, "m", kind, 0.005), {"served": served, "static": scores["v1"], "refit": served}


def test_three_classes_are_compared(tmp_path: Path) -> None:
    """The middle class has no name in the alphabet's order, and an unknown label is no row."""
    generator = np.random.default_rng(4)
    features = generator.normal(size=(2_000, 2))
    kind = Multiclass(("low", "high", "even"))
    labels = np.argmax(np.c_[features, np.zeros(2_000)] + generator.gumbel(size=(2_000, 3)), axis=1).astype(float)
    labels[5] = 7.0
    quality, scores = _run(kind, tmp_path, labels, features)
    known = labels != 7.0
    assert quality.rows == 1_999 and quality.headline == "auc"
    for name, own in scores.items():
        figures = getattr(quality, name)
        assert figures["auc"] == pytest.approx(roc_auc_score(labels[known], own[known], multi_class="ovr"), abs=1e-4)
        assert figures["log_loss"] == pytest.approx(log_loss(labels[known], own[known]), abs=1e-4)
        assert figures["accuracy"] == pytest.approx(float((own[known].argmax(axis=1) == labels[known]).mean()), abs=1e-3)
        assert "coverage" not in figures
    assert quality.gap.estimate == pytest.approx(quality.served["auc"] - quality.static["auc"]) and quality.gap.low > 0
    assert quality.refit_gap.estimate == pytest.approx(0, abs=1e-4)


def test_numbers_are_compared(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    features = generator.normal(size=(2_000, 2))
    labels = features[:, 0] + generator.normal(size=2_000)
    quality, scores = _run(Regression(), tmp_path, labels, features)
    assert quality.rows == 2_000 and quality.headline == "mean_absolute_error"
    ends = {"served": (-1.5, 1.5), "static": (-2.0, 1.0), "refit": (-2.0, 1.0)}
    for name, own in scores.items():
        figures, (low, high) = getattr(quality, name), ends[name]
        assert figures["mean_absolute_error"] == pytest.approx(mean_absolute_error(labels, own), rel=1e-5)
        assert figures["r2"] == pytest.approx(r2_score(labels, own), rel=1e-4, abs=1e-5)
        assert figures["coverage"] == pytest.approx(float(((own + low <= labels) & (labels <= own + high)).mean()), abs=1e-3)
        assert figures["interval_width"] == pytest.approx(3.0)
    assert quality.gap.high < 0
    served = quality.curves()[0]
    assert len(served) == len(quality.blocks) == 7 and np.isfinite(served).all()


def test_a_candidate_that_had_to_go_through_stages_would_have_answered_from_its_training_on_if_none_were_judged() -> None:
    def event(sequence: int, name: str, version: str, at: int, decision: str) -> dict[str, Any]:
        return {"sequence": sequence, "event": name, "version": version, "journal_time": at, "decision_id": decision}

    events = [
        event(0, "registered", "v1", 5, "a"), event(1, "promoted", "v1", 5, "a"), event(2, "registered", "v2", 20, "b"),
        event(3, "canary", "v2", 20, "b"), event(4, "promoted", "v2", 40, "trial"), event(5, "registered", "v3", 60, "c"),
        event(6, "canary", "v3", 60, "c"), event(7, "stepped_back", "v3", 70, "other"),
    ]  # fmt: skip
    times, sequences = np.array([10, 15, 21, 30, 41, 59, 61, 80]), np.array([1, 1, 3, 1, 4, 4, 6, 4])
    candidates, refits = refits_in_service(events, times, sequences)
    assert [one["version"] for one in candidates] == ["v1", "v2", "v3"] and refits.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
