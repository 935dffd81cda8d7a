"""Predictions of every kind are explained, and what cannot be is told by its reason."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import logit, softmax

from tests.models import data
from tests.unit.shared.models.test_explained_batches import CLASSES, booster, explainer
from tidemill.services.explanations.domain.explaining import explain_predictions
from tidemill.services.explanations.explainers import Explainers
from tidemill.shared.avro.messages import message_codec, message_encoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.models.artifacts import Artifact, ArtifactStore
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.explanation import Explainer
from tidemill.shared.models.export import lightgbm_to_onnx

ROWS = 30
ALL = np.ones(ROWS, np.bool_)


class Asked:
    """A model of a kind, vectors, and what it answers to them."""

    def __init__(self, kind: str, calibration: Calibration | None = None) -> None:
        self.matrix = data(300, 6, 1)[0]
        self.explainer = explainer(lightgbm_to_onnx(booster(kind), 6), kind, self.matrix[:8], calibration)
        rows = self.matrix[8 : 8 + ROWS]
        self.vectors = pa.RecordBatch.from_pydict({f"c{i}": pa.array(rows[:, i].astype(float), from_pandas=True) for i in range(6)})
        self.given = self.explainer.scorer.score_matrix(rows)
        predicted = self.given.argmax(axis=1) if self.given.ndim == 2 else (self.given >= 0.5).astype(int) * (kind == "binary")
        self.predictions = pa.RecordBatch.from_pydict(
            {
                **{name: [f"{name} {i}" for i in range(ROWS)] for name in ("request_id", "model", "model_version")},
                **{name: pa.array([0] * ROWS, pa.int64()) for name in ("journal_offset", "deployment_sequence")},
                **{name: pa.array([0] * ROWS, pa.timestamp("ms")) for name in ("journal_time", "event_time")},
                "journal_partition": pa.array([0] * ROWS, pa.int32()),
                "variant": ["champion"] * ROWS,
                "score": self.given if self.given.ndim == 1 else self.given[np.arange(ROWS), predicted],
                "predicted": pa.array(predicted.tolist(), pa.int32()),
                "predicted_label": pa.array([CLASSES[i] if kind == "multiclass" else None for i in predicted], pa.string()),
            }
        )

    def told(self, has_vector: Any = ALL, explainer: Explainer | None = None, top: int = 2, **changes: Any) -> list[dict[str, Any]]:
        """Explain, and read what is written."""
        answers = self.predictions
        for name, column in changes.items():
            answers = answers.set_column(answers.schema.get_field_index(name), name, pa.array(column))
        registry = MemorySchemaRegistry()
        batch = explain_predictions(answers, self.vectors, has_vector, explainer or self.explainer, top)
        codec = message_codec(registry, "t", "explanation")
        return [codec.decode(value) for value in message_encoder(registry, "t", "explanation").encode(batch)]


@pytest.mark.parametrize(
    ("kind", "link", "calibration"),
    [
        ("binary", "logit", Calibration(link="logit", slope=0.8, offsets=(0.3,))),
        ("multiclass", "softmax", Calibration(link="softmax", slope=0.7, offsets=(0.1, 0.0, -0.1))),
        ("regression", "identity", Calibration(link="identity", slope=12.0, offsets=(100.0,))),
    ],
)
def test_every_kind_adds_up_to_what_was_served(kind: str, link: str, calibration: Calibration) -> None:
    asked = Asked(kind, calibration)
    told = asked.told()
    whole = asked.told(top=6)
    for row, (one, full) in enumerate(zip(told, whole, strict=True)):
        assert (one["not_explained"], one["link"], one["method"], one["rest_features"]) == (None, link, "tree", 4)
        assert full["contributions"][:2] == one["contributions"] and full["rest"] == 0.0
        total = one["base"] + sum(part["contribution"] for part in one["contributions"]) + one["rest"]
        if kind == "multiclass":
            others = asked.explainer.explain_rows(asked.matrix[8 + row : 9 + row].repeat(3, axis=0), [0, 1, 2])
            margins = others.base + others.contributions.sum(axis=1)
            assert total == pytest.approx(margins[one["predicted"]], abs=1e-6) and one["predicted_label"] == CLASSES[one["predicted"]]
            assert softmax(margins)[one["predicted"]] == pytest.approx(one["score"], abs=1e-6)
        else:
            assert total == pytest.approx(logit(one["score"]) if kind == "binary" else one["score"], abs=1e-6)
        values = {part["feature"]: part["number"] for part in full["contributions"]}
        assert values == {name: asked.vectors.column(name)[row].as_py() for name in values}, "missing values, too"


def test_texts_are_told_as_texts() -> None:
    asked = Asked("binary")
    signature = asked.explainer.scorer.signature
    column = signature.columns[0].model_copy(update={"type": "string", "codes": {"high": 2.0, "low": -2.0}})
    spoken = asked.explainer.scorer
    spoken.signature = signature.model_copy(update={"columns": (column, *signature.columns[1:])})
    spoken.columns = spoken.signature.columns
    words = pa.array(["high" if i % 2 else "low" for i in range(ROWS)])
    asked.vectors = asked.vectors.set_column(0, "c0", words)
    scores = spoken.score_matrix(spoken.signature.encode(asked.vectors))
    told = asked.told(score=scores, top=6)
    for one, word in zip(told, words.to_pylist(), strict=True):
        part = next(part for part in one["contributions"] if part["feature"] == "c0")
        assert (part["text"], part["number"]) == (word, None)


def test_what_cannot_be_explained_says_why() -> None:
    asked = Asked("binary")
    some = ALL.copy()
    some[3] = False
    scores = asked.given.copy()
    scores[5] += 1e-9
    told = asked.told(some, variant=["default" if row == 1 else "canary" for row in range(ROWS)], score=scores)
    assert {row: one["not_explained"] for row, one in enumerate(told) if one["not_explained"]} == {1: "fallback", 3: "vector", 5: "score"}
    assert all(len(one["contributions"]) == (0 if one["not_explained"] else 2) for one in told)
    narrow = replace_vectors(asked, asked.vectors.drop_columns(["c4"]))
    assert {one["not_explained"] for one in narrow} == {"vector"}
    bent = Asked("binary", Calibration(link="logit", knots=(0.0, 0.5, 1.0), levels=(0.1, 0.4, 0.9)))
    assert {one["not_explained"] for one in bent.told()} == {"calibration"}


def replace_vectors(asked: Asked, vectors: pa.RecordBatch) -> list[dict[str, Any]]:
    before, asked.vectors = asked.vectors, vectors
    try:
        return asked.told()
    finally:
        asked.vectors = before


def test_parts_that_do_not_add_up_are_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked("binary")
    whole = asked.explainer.explain_rows

    def wrong(matrix: Any, answers: Any) -> Any:
        explained = whole(matrix, answers)
        return replace(explained, adds_up=np.arange(len(matrix)) != 2)

    monkeypatch.setattr(asked.explainer, "explain_rows", wrong)
    assert [row for row, one in enumerate(asked.told()) if one["not_explained"] == "parts"] == [2]


def test_a_version_that_is_not_there_is_looked_for_again_after_a_minute(tmp_path: Any) -> None:
    asked, store = Asked("binary"), ArtifactStore(str(tmp_path))
    explainers, told = Explainers(store, 1), explain_predictions
    assert explainers.of("m", "v", 1_000) is None
    assert {reason.as_py() for reason in told(asked.predictions, asked.vectors, ALL, None, 2).column("not_explained")} == {"artifact"}
    scorer = asked.explainer.scorer
    store.put(Artifact(scorer.signature, lightgbm_to_onnx(booster("binary"), 6)).to_bytes())
    assert explainers.of("m", "v", 60_999) is None, "not yet"
    explainer = explainers.of("m", "v", 61_000)
    assert explainer is not None and explainers.of("m", "v", 61_001) is explainer
