"""Served quality counts every request once, with the last that became known of it, and stands beside static and always-refit on the same requests."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from tests.models import artifact
from tidemill.demo.quality import DAY_MS, compare, labelled
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
    found = labelled(pl.DataFrame(rows, schema=names, orient="row").to_arrow(), "m")
    frame = pd.DataFrame(rows, columns=names)
    frame = frame[(frame.model == "m") & (frame.status != "unmatched") & frame.label.isin([0, 1])]
    expected = frame.groupby(names[1:3]).label.last().to_dict()
    assert {(row[1], row[2]): row[4] for row in found.rows()} == expected == {(0, 1): 1, (0, 2): 0, (0, 4): 1, (1, 4): 0, (0, 6): 1}


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
    found = compare(events, outcomes, vectors, store, "m")
    assert found is not None and found.rows == n
    refit = np.select([unjudged == name for name in scores], list(scores.values()))
    for figures, expected in ((found.served, served), (found.static, scores["v1"]), (found.refit, refit)):
        assert figures["auc"] == pytest.approx(roc_auc_score(label, expected))
    assert found.refit_gap.estimate == pytest.approx(found.served["auc"] - found.refit["auc"])
    assert found.refit_gap.low <= found.refit_gap.estimate <= found.refit_gap.high and len(found.refit_auc) == len(found.weeks_ms)
    assert compare([], outcomes, vectors, store, "m") is None
