"""Health weighs labels by the control share, and passes over what became of requests that were acted on."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from tidemill.services.drift.domain.quality import WindowRows
from tidemill.services.drift.domain.recent_labels import MetricBound, RecentLabels
from tidemill.services.drift.domain.rows import MergedCoordinates, OutcomeRows, outcome_rows
from tidemill.services.drift.domain.watch import ModelWatch
from tidemill.services.drift.domain.watch_settings import WatchSettings
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary

SCHEMA = arrow_schema(message_schema("outcome"))
N, SHARE = 600, 0.1


def outcomes() -> tuple[OutcomeRows, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(4)
    score = random.random(N)
    label, hides, control = (random.random(N) < score).astype(float), score > 0.7, random.random(N) < SHARE
    common: dict[str, object] = {field.name: None if field.nullable else 0 for field in SCHEMA}
    common |= {"request_id": "r", "model": "m", "status": "labelled", "model_version": "v1", "variant": "champion"}
    rows = [
        common
        | {"score": score[i], "predicted": int(hides[i]), "label": label[i], "request_journal_offset": i, "delay_ms": 5}
        | {"control": bool(control[i]), "propensity": SHARE if hides[i] else 1.0}
        for i in range(N)
    ]
    at = MergedCoordinates(np.arange(N), np.full(N, 10), np.zeros(N, np.int64), np.arange(N))
    weight = np.where(hides, control / SHARE, 1.0)
    return outcome_rows(at, pa.RecordBatch.from_pylist(rows, schema=SCHEMA)), label, score, weight


def test_health_and_bounds_are_weighted() -> None:
    rows, label, score, weight = outcomes()
    assert rows.weight == pytest.approx(weight)
    watch = ModelWatch(WatchSettings("m", "ask", (), Binary(), bootstrap_labels=10**9))
    for part in (slice(0, 250), slice(250, N)):
        chosen = np.zeros(N, np.bool_)
        chosen[part] = True
        watch.outcomes(rows, chosen)
    window = WindowRows.load(watch.window.snapshot())
    figures, seen = window.figures(Binary()), weight > 0
    own = {"sample_weight": weight[seen]}
    assert figures["labels"] == seen.sum() and figures["timeouts"] == 0
    assert figures["auc"] == pytest.approx(roc_auc_score(label[seen], score[seen], **own))
    assert figures["log_loss"] == pytest.approx(log_loss(label[seen], score[seen], **own))
    assert figures["positive_rate"] == pytest.approx(np.average(label, weights=weight))
    assert abs(figures["positive_rate"] - label.mean()) < 0.06 < abs(label[score <= 0.7].mean() - label.mean())
    recent = RecentLabels((MetricBound("auc", 0.99, is_floor=True),), int(seen.sum()))
    recent.absorb(Binary(), rows, seen)
    (judged,) = recent.judged(Binary())
    assert judged.value == pytest.approx(figures["auc"]) and judged.broken
