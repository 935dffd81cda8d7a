"""What a promotion brought is the difference in loss on the next 5,000 labelled requests, held to scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from tests.linear_models import linear_artifact, linear_scores
from tidemill.demo.judged_requests import JudgedRequests, judged_requests
from tidemill.demo.promotion_effects import NEXT_REQUESTS, PromotionEffect, promotion_effects
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import ArtifactStore

DAY = 86_400_000
ROWS, PER_DAY = 12_000, 500
WEIGHTS = {"right": np.array([[1.0], [-1.0]]), "near": np.array([[1.02], [-1.0]]), "wrong": np.array([[-1.0], [1.0]])}


def _effects(folder: Path, kind: Kind, log: list[tuple[str, str, int]], margin: float = 0.005, per_day: int = PER_DAY) -> tuple[list[Any], Any]:
    """Effects of a log of (event, version, first request answered after it); the requests' features and labels."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(ROWS, 2)).astype(np.float32).astype(float)
    line = features @ WEIGHTS["right"][:, 0]
    labels = line + generator.normal(size=ROWS) if kind.name == "regression" else (generator.random(ROWS) < 1 / (1 + np.exp(-line))).astype(float)
    store, sequences, events = ArtifactStore(str(folder)), np.zeros(ROWS, np.int64), []
    for sequence, (event, version, first) in enumerate(log):
        address = store.put(linear_artifact(kind.name, WEIGHTS[version], version, ()).to_bytes())
        events.append({"event": event, "version": version, "sequence": sequence, "artifact_sha256": address, "threshold": 0.5, "journal_time": first})
        sequences[first:] = sequence
    batch = pa.RecordBatch.from_pydict({"f0": features[:, 0], "f1": features[:, 1]})
    times = np.arange(ROWS) // per_day * DAY
    requests = JudgedRequests(kind, pl.DataFrame({"row": np.arange(ROWS)}), batch, labels, times, sequences, None)
    return promotion_effects(events, requests, store, margin, DAY), (features, labels)


def test_the_next_requests_are_scored_by_both_champions(tmp_path: Path) -> None:
    log = [("promoted", "right", 0), ("registered", "wrong", 2_000), ("promoted", "wrong", 3_000), ("promoted", "near", 4_000)]
    (harmful, useful), (features, labels) = _effects(tmp_path, Binary(), log)
    scores = {version: linear_scores("binary", features, weights) for version, weights in WEIGHTS.items()}
    for effect, new, old, first in ((harmful, "wrong", "right", 3_000), (useful, "near", "wrong", 4_000)):
        rows = slice(first, first + NEXT_REQUESTS)
        expected = log_loss(labels[rows], scores[new][rows]) - log_loss(labels[rows], scores[old][rows])
        assert (effect.version, effect.predecessor, effect.requests, effect.at_ms) == (new, old, NEXT_REQUESTS, first)
        assert effect.difference.estimate == pytest.approx(expected, rel=1e-4)
        assert effect.difference.low < expected < effect.difference.high
    assert harmful.is_harmful and harmful.figures()["harmful"] and not useful.is_harmful


def test_a_difference_within_the_margin_is_no_harm(tmp_path: Path) -> None:
    (effect,), _ = _effects(tmp_path, Binary(), [("promoted", "right", 0), ("promoted", "near", 1_000)])
    assert abs(effect.difference.estimate) < 0.005 and not effect.is_harmful
    # The same difference does harm once less than it is allowed.
    (strict,), _ = _effects(tmp_path, Binary(), [("promoted", "right", 0), ("promoted", "near", 1_000)], margin=effect.difference.low - 1e-6)
    assert strict.is_harmful


def test_a_promotion_after_a_roll_back_replaces_what_was_rolled_back_to(tmp_path: Path) -> None:
    log = [("promoted", "right", 0), ("promoted", "wrong", 1_000), ("rolled_back", "right", 2_000), ("promoted", "near", 3_000)]
    effects, _ = _effects(tmp_path, Binary(), log)
    assert [(effect.version, effect.predecessor, effect.is_harmful) for effect in effects] == [("wrong", "right", True), ("near", "right", False)]


def test_of_numbers_the_margin_is_a_share_of_the_old_loss(tmp_path: Path) -> None:
    (effect,), (features, labels) = _effects(tmp_path, Regression(), [("promoted", "right", 0), ("promoted", "near", 9_000)], margin=0.01)
    old = mean_squared_error(labels[9_000:], linear_scores("regression", features, WEIGHTS["right"])[9_000:])
    assert effect.requests == ROWS - 9_000 and effect.allowed == pytest.approx(0.01 * old, rel=1e-5) and not effect.is_harmful


def test_two_days_are_not_judged(tmp_path: Path) -> None:
    (effect,), _ = _effects(tmp_path, Binary(), [("promoted", "right", 0), ("promoted", "wrong", 11_000)])
    assert isinstance(effect, PromotionEffect) and effect.requests == 1_000
    assert np.isnan(effect.difference.low) and not effect.is_harmful


def test_a_promotion_that_no_labelled_request_follows_has_no_effect(tmp_path: Path) -> None:
    assert _effects(tmp_path, Binary(), [("promoted", "right", 0), ("promoted", "wrong", ROWS)])[0] == []


def test_the_next_requests_are_the_next_in_time_whatever_order_the_archive_has_them_in() -> None:
    """The files of a lake are in no order."""
    n = 200
    shuffled = np.random.default_rng(0).permutation(n)
    outcomes = pa.table(
        {
            "model": ["m"] * n, "journal_partition": [0] * n, "request_journal_offset": np.arange(n), "request_journal_time": np.arange(n) * DAY,
            "status": ["labelled"] * n, "label": np.arange(n) % 2, "revision": [0] * n, "deployment_sequence": [1] * n,
        }
    ).take(pa.array(np.random.default_rng(1).permutation(n)))  # fmt: skip
    vectors = pa.table({"_journal_partition": [0] * n, "_journal_offset": shuffled, "f0": shuffled.astype(float)})
    requests = judged_requests(outcomes, vectors, "m", Binary(), 0)
    assert requests is not None and (requests.times_ms == np.arange(n) * DAY).all()
    assert (requests.vectors.column("f0").to_numpy() == np.arange(n)).all() and (requests.labels == np.arange(n) % 2).all()
