"""Three classes and numbers go the same way: a first model, its refit, a recipe that passes the gate, and one that does not."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.retraining.domain.examples import DAY_MS, Examples
from tidemill.services.retraining.domain.succession import first_model, successor
from tidemill.services.retraining.domain.training_context import TrainingContext
from tidemill.shared.application.model import Model
from tidemill.shared.application.plan import declared_kind
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.onnx_scorer import OnnxScorer

DAYS, PER_DAY, HOUR_MS = 90, 100, 3_600_000
CLASSES = {"kind": "multiclass", "classes": ["a", "b", "c"], "fallback": {"default": "a"}}
NUMBERS = {"kind": "regression", "fallback": {"default": 0.0}}
FAMILY = {"multiclass": "logistic_regression", "regression": "ridge_regression"}


def bench(asked: dict[str, object]) -> TrainingContext:
    random, n = np.random.default_rng(7), DAYS * PER_DAY
    times = np.sort(random.integers(0, DAYS * DAY_MS, n))
    x, y = random.normal(size=n), random.normal(size=n)
    if asked["kind"] == "regression":
        labels = 3 * x - y + random.normal(size=n)
    else:
        logits = np.stack([1.5 * x, 1.5 * y, np.zeros(n)], axis=1) + random.gumbel(size=(n, 3))
        labels = logits.argmax(axis=1).astype(np.float64)
    settings = Model.model_validate({
        "ask": "s", "features": ["x", "y"], "label": {"stream": "l", "join": "id", "value": "v", "max_delay": "2h"}, "slices": ["x"],
        "retraining": {"schedule": "14d"}, "training": {"families": [FAMILY[str(asked["kind"])]], "trials": 2, "windows_days": [0], "min_rows": 500},
        **asked,
    })  # fmt: skip
    kind: Kind = declared_kind(settings)
    rows = Examples(pa.RecordBatch.from_pydict({"x": pa.array(x), "y": pa.array(y)}), times, times + HOUR_MS // 2, labels)
    served = np.full((n, *([kind.width] if kind.classes else [])), np.nan)
    return TrainingContext("m", "v", settings, kind, rows, served, "digest", DAYS * DAY_MS, HOUR_MS)


@pytest.mark.lasts(4)
@pytest.mark.parametrize("asked", [CLASSES, NUMBERS])
def test_the_gate_takes_every_kind(asked: dict[str, object]) -> None:
    mine = bench(asked)
    first = first_model(replace(mine, end_ms=45 * DAY_MS))
    assert first.verdict.passed, first.verdict.reason
    champion = OnnxScorer(first.artifact)
    answered = replace(mine, served=champion.score(mine.examples.features), incumbent=first.recipe.text)
    again = successor(replace(answered, is_admitted=True, is_searched=False), champion)
    assert again.verdict.passed and again.details["admission"] == "refit of an admitted recipe"
    doubted = successor(answered, champion)
    assert doubted.verdict.passed and doubted.details["admission"] == "gate", doubted.verdict.reason
    assert doubted.figures["log_e"] > np.log(100) and doubted.figures["slices_judged"] == 0
    # What served knew the labels.
    knowing = mine.examples.labels * 1.0
    if mine.kind.classes:
        knowing = np.where(np.arange(3) == knowing[:, None], 0.9, 0.05)
    refused = successor(replace(answered, served=knowing), champion)
    assert not refused.verdict.passed and "non-inferiority" in refused.verdict.reason
