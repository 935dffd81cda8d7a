"""Models of three classes and of numbers: what they answer, in any batching, and which artifacts are refused by name."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.kind_events import SPECIES, species_model, species_scores, weight_model
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression
from tidemill.shared.models.artifacts import Artifact, ArtifactError
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Signature

ROWS = np.random.default_rng(3).uniform(1, 6, (101, 2)).astype(np.float32)


def test_three_classes_have_a_probability_each_in_any_batching() -> None:
    scorer = OnnxScorer(Artifact.from_bytes(species_model().to_bytes()))
    scores = scorer.score_matrix(ROWS)
    assert scores == pytest.approx(species_scores(ROWS.astype(float)), abs=1e-6)
    edges = [0, 1, 2, 9, 41, 42, 101]
    assert np.array_equal(np.concatenate([scorer.score_matrix(ROWS[a:b]) for a, b in pairwise(edges)]), scores)
    assert scorer.kind == Multiclass(SPECIES)
    assert scorer.signature.to_json() == species_model().signature.to_json()


def test_a_number_comes_with_its_interval() -> None:
    scorer = OnnxScorer(Artifact.from_bytes(weight_model().to_bytes()))
    assert scorer.score_matrix(ROWS[:, :1]) == pytest.approx(ROWS[:, 0] * 0.6 + 1.5, rel=1e-6)
    assert (scorer.kind, scorer.signature.interval) == (Regression(), (-2.0, 3.0))
    assert weight_model(interval_lower=None, interval_upper=None).signature.interval is None


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [
        (
            species_model(kind="binary", classes=(), parity_scores=(0.5,) * 8),
            r"a graph that answers with kind binary, found scores of shape \(32, 3\)",
        ),
        (species_model(kind="regression", classes=(), parity_scores=(0.5,) * 8), "a graph that answers with kind regression"),
        (species_model(classes=("a", "b"), parity_scores=((0.5, 0.5),) * 8), "a graph that answers with kind multiclass with the 2 classes a, b"),
        (species_model(parity_scores=(0.5,) * 8), r"expected parity scores of shape \(8, 3\), found \(8,\)"),
        (species_model(parity_scores=((0.2, 0.3, 0.5),) * 8), "parity rows differ"),
        (weight_model(kind="multiclass", classes=("a", "b"), interval_lower=None, interval_upper=None), "kind multiclass with the 2 classes a, b"),
    ],
)
def test_a_graph_that_answers_something_else_is_refused(artifact: Artifact, expected: str) -> None:
    with pytest.raises(ArtifactError, match=expected):
        OnnxScorer(artifact)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "multiclass"}, "two or more different classes"),
        ({"classes": ("a", "b")}, "no classes"),
        ({"interval_lower": None}, "both ends"),
        ({"interval_lower": 4.0}, "finite ends in their order"),
        ({"interval_upper": float("inf")}, "finite ends in their order"),
        ({"kind": "binary"}, "kind: binary"),
    ],
)
def test_a_signature_that_contradicts_itself_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        weight_model(**changes)


def test_an_artifact_of_before_there_were_kinds_is_binary() -> None:
    known = weight_model(kind="binary", interval_lower=None, interval_upper=None)
    record = json.loads(known.signature.to_json())
    for name in ("kind", "classes", "interval_lower", "interval_upper"):
        del record[name]
    assert Signature.model_validate_json(json.dumps(record)).to_json() == known.signature.to_json()
