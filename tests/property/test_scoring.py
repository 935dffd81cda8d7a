"""Scoring: any batching gives the records of one by one, for every family, many models, several asking streams."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.many_models import COUNTRIES, CURRENCIES, write_application
from tests.long_forms import examples
from tests.models import artifact
from tidemill.services.scoring.domain.core import Predictions, ScoringCore
from tidemill.services.scoring.domain.serving import Serving
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.models.onnx_scorer import OnnxScorer
from tidemill.shared.models.signature import Column

pytestmark = pytest.mark.lasts(8)

ROWS = 80


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = write_application(tmp_path_factory.mktemp("models"), 6)
    for number in (2, 5):  # asked by the other stream
        file = folder / "models" / f"risk_{number:03}.yaml"
        features = "features: [amount]"
        lines = [f"  {features}" if line.lstrip().startswith("features:") else line for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines).replace("ask: payments", "ask: chargebacks"))
    return load_plan(folder)


@pytest.fixture(scope="module")
def vectors(plan: Plan) -> pa.RecordBatch:
    rng = np.random.default_rng(4)
    values = {
        "_request_id": [f"r{i}" for i in range(ROWS)], "_ask": rng.choice(["payments", "chargebacks"], ROWS, p=[0.8, 0.2]),
        "_event_time": np.arange(ROWS), "_journal_partition": np.zeros(ROWS), "_journal_offset": np.arange(ROWS) * 3,
        "_journal_time": np.arange(ROWS) + 5, "_late": np.zeros(ROWS, bool), "currency": rng.choice([*CURRENCIES, "XXX"], ROWS),
        "country": rng.choice(COUNTRIES, ROWS),
    }  # fmt: skip
    columns = []
    for field in plan.vector_arrow:
        column = pa.array(values[field.name] if field.name in values else rng.normal(1, 3, ROWS))
        missing = pa.array(rng.random(ROWS) < 0.1)
        column = pa.compute.if_else(missing, pa.scalar(None, column.type), column) if field.nullable else column
        columns.append((column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=plan.vector_arrow)


@pytest.fixture(scope="module")
def serving(plan: Plan) -> dict[str, Serving]:
    """Narrow and wide forests, a logistic regression, a model without a champion, one per stream without."""
    served = {}
    for name, family, rounds in (("risk_000", "lightgbm", 0.4), ("risk_001", "logistic_regression", 0.5), ("risk_002", "lightgbm", 0.6)):
        types = {feature.name: feature.type for feature in plan.features}
        codes = {value: i / 7 for i, value in enumerate((*CURRENCIES, *COUNTRIES))}
        columns = tuple(
            Column(name=feature, type=types[feature], codes=codes if types[feature] == "string" else {}, unknown=0.3)
            for feature in plan.models[name].features
        )
        columns = columns if len(columns) > 1 else columns * 2  # the training data need two columns
        served[name] = Serving(f"v-{name}", 3, rounds, OnnxScorer(artifact(family, columns)[0]), None)
    return {**served, "risk_003": Serving("v9", 8, 0.5, None, "model_failed")}


def rows_of(predictions: Predictions) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = predictions.batch.to_pylist()
    return rows


@settings(max_examples=examples(40), deadline=None)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=12))
def test_any_batching_gives_the_records_of_one_by_one(plan: Plan, vectors: pa.RecordBatch, serving: dict[str, Serving], cuts: list[int]) -> None:
    core = ScoringCore(plan)
    one_by_one = [row for i in range(ROWS) for row in rows_of(core.process(vectors.slice(i, 1), serving))]
    edges = [0, *sorted(cuts), ROWS]
    batched = [row for a, b in pairwise(edges) for row in rows_of(core.process(vectors.slice(a, b - a), serving))]
    assert batched == one_by_one


def test_every_request_is_answered_by_every_model_that_asks_its_stream_in_order(
    plan: Plan, vectors: pa.RecordBatch, serving: dict[str, Serving]
) -> None:
    answers = ScoringCore(plan).process(vectors, serving)
    asked = list(zip(vectors.column("_request_id").to_pylist(), vectors.column("_ask").to_pylist(), strict=True))
    expected = [(request, name) for request, ask in asked for name, model in plan.models.items() if model.ask == ask]
    assert [(row["request_id"], row["model"]) for row in rows_of(answers)] == expected
    assert vectors.column("_request_id").take(pa.array(answers.requests)).to_pylist() == [request for request, _ in expected]


def test_one_model_among_many_says_what_it_says_alone(plan: Plan, vectors: pa.RecordBatch, serving: dict[str, Serving]) -> None:
    together = rows_of(ScoringCore(plan).process(vectors, serving))
    for name in plan.models:
        alone = rows_of(ScoringCore(plan, [name]).process(vectors, serving))
        assert alone == [row for row in together if row["model"] == name]
    scores = {name: [row["score"] for row in together if row["model"] == name] for name in plan.models}
    own = serving["risk_000"].scorer
    assert isinstance(own, OnnxScorer)
    asked = vectors.filter(pa.compute.equal(vectors.column("_ask"), "payments"))
    assert scores["risk_000"] == own.score(asked).tolist()
    assert set(scores["risk_004"]) == {0.01}
