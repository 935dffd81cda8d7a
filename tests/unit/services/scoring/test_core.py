from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.journals import random_journal
from tests.models import artifact
from tidemill.services.features.domain.core import FeaturesCore
from tidemill.services.scoring.domain.core import ScoringCore
from tidemill.services.scoring.domain.panel import ANSWERS
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.kind import Kind
from tidemill.shared.models.blocks import Blocks, rows_of
from tidemill.shared.models.calibration import Calibration
from tidemill.shared.models.error_forest import ErrorForest
from tidemill.shared.models.forest import Forest
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(Path(__file__).parents[4] / "examples" / "flights")


@pytest.fixture(scope="module")
def vectors(plan: Plan) -> pa.RecordBatch:
    return FeaturesCore(plan).process(random_journal(plan, 400, np.random.default_rng(1)))


def test_without_a_model_every_request_gets_the_default_and_the_reason(plan: Plan, vectors: pa.RecordBatch) -> None:
    answers = ScoringCore(plan).process(vectors, {}).batch
    assert answers.column("request_id").equals(vectors.column("_request_id"))
    assert set(answers.column("score").to_pylist()) == {0.24}
    assert set(answers.column("reason").to_pylist()) == {"no_model"}
    assert set(answers.column("variant").to_pylist()) == {"default"}


CALIBRATION = Calibration(link="logit", slope=0.8, offsets=(-0.7,), knots=(0.0, 0.4, 1.0), levels=(0.01, 0.3, 0.9))


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_a_champion_answers_with_its_score_and_its_place_in_the_log(
    plan: Plan, vectors: pa.RecordBatch, family: str, calibration: Calibration | None
) -> None:
    columns = tuple(Column(name=name, type="double") for name in ("distance", "hour", "origin_late__mean_3h"))
    plain, _, raw = artifact(family, columns)
    calibrated = raw[:8] if calibration is None else calibration.apply(raw[:8])
    scorer = OnnxScorer(artifact(family, columns, calibration=calibration, parity_scores=tuple(calibrated.tolist()))[0])
    uncalibrated = OnnxScorer(plain).score(vectors)
    assert np.array_equal(scorer.score(vectors), uncalibrated if calibration is None else calibration.apply(uncalibrated))
    serving = Serving("v1", 7, 0.4, scorer, None)
    answers = ScoringCore(plan).process(vectors, {"late_arrival": serving}).batch.to_pylist()
    truth = scorer.score(vectors)
    assert [answer["score"] for answer in answers] == truth.tolist()
    assert [answer["predicted"] for answer in answers] == (truth >= 0.4).astype(int).tolist()
    assert {(answer["model_version"], answer["deployment_sequence"], answer["variant"], answer["reason"]) for answer in answers} == {
        ("v1", 7, "champion", None)
    }


class Broken:
    kind: Kind = Binary()
    columns: tuple[Column, ...] = (Column(name="distance", type="double"),)
    forest: Forest | None = None
    calibration: Calibration | None = None
    errors: ErrorForest | None = None

    def score_blocks(self, blocks: Blocks, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.where(np.arange(len(rows_of(blocks, positions))) % 2, np.nan, 0.9)


def test_a_score_that_is_no_number_is_answered_with_the_default(plan: Plan, vectors: pa.RecordBatch) -> None:
    answers = ScoringCore(plan).process(vectors, {"late_arrival": Serving("v2", 1, 0.5, Broken(), None)}).batch.to_pylist()
    assert [answer["score"] for answer in answers[:2]] == [0.9, 0.24]
    assert [answer["reason"] for answer in answers[:2]] == [None, "model_failed"]


@pytest.mark.parametrize("score", [5.0, -0.01, 1e308, -1e308, np.inf])
def test_a_score_that_is_no_probability_is_answered_with_the_default(
    plan: Plan, vectors: pa.RecordBatch, score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of a model in 64 bits ended drift, and 5.0 was served as a probability."""
    model = Broken()
    monkeypatch.setattr(model, "score_blocks", lambda *given: np.where(np.arange(len(rows_of(*given))) % 2, score, 1.0005))
    answers = ScoringCore(plan).process(vectors, {"late_arrival": Serving("v2", 1, 0.5, model, None)}).batch.to_pylist()
    assert [answer["score"] for answer in answers[:2]] == [1.0005, 0.24], "a rounding of leaves is an answer all the same"
    assert [(answer["reason"], answer["variant"], answer["predicted"]) for answer in answers[:2]] == [
        (None, "champion", 1),
        ("model_failed", "default", 0),
    ]
    assert [answer["model_version"] for answer in answers[:2]] == ["v2", "default"]


def test_answers_have_the_columns_of_their_schema() -> None:
    assert arrow_schema(message_schema("prediction")).equals(ANSWERS)
