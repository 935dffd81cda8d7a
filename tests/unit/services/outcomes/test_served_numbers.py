"""What other kinds serve beside the score: through rows, checkpoints and changed classes it stays what was served."""

import math
import random

import pyarrow as pa
import pytest

from tidemill.services.outcomes.domain.join import JoinPolicy, Outcome, OutcomeJoin
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.packed_rows import ROWS
from tidemill.services.outcomes.domain.request import At, Request, TimedLabel
from tidemill.services.outcomes.domain.served_numbers import ServedNumbers
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass
from tidemill.shared.kinds.regression import Regression

SCHEMA = arrow_schema(message_schema("prediction"))


@pytest.mark.parametrize("restarts", [False, True])
def test_numbers_come_out_of_packed_rows_and_checkpoints_bit_for_bit(restarts: bool) -> None:
    generator = random.Random(5)
    policies = [JoinPolicy("three", 10**9, numbers=3), JoinPolicy("plain", 10**9)]
    join = OutcomeJoin(policies)
    served, blobs = {}, {}
    for i in range(ROWS + 300):
        numbers = (generator.random(), math.pi / (i + 1), float("nan") if i % 7 == 0 else generator.random())
        request = Request(f"r{i}", i, i, i, numbers[0], i % 3, "v1", 4, "champion", numbers)
        served[f"r{i}"] = request
        join.request("three", request, At(i, 0, i))
        join.request("plain", request._replace(numbers=()), At(i, 0, i))
    if restarts:
        blobs = {key: blob for key, blob in join.snapshot().items() if blob is not None}
        join = OutcomeJoin(policies)
        join.load(blobs)
    for name in ("r0", "r7", f"r{ROWS - 1}", f"r{ROWS + 299}"):
        (three,) = join.label("three", name, TimedLabel(1.0, 50), At(9_999, 0, 9_999))
        (plain,) = join.label("plain", name, TimedLabel(1.0, 50), At(9_999, 0, 9_999))
        assert repr(three.request) == repr(served[name]) and plain.request.numbers == ()


def predictions(*rows: tuple[str, dict[str, float] | None, int, str | None, float | None]) -> pa.RecordBatch:
    zero: dict[str, object] = {name: 0 for name in SCHEMA.names} | {
        "request_id": "r",
        "model_version": "v",
        "variant": "champion",
        "reason": None,
        "control": None,
    }
    made = [
        {**zero, "model": model, "scores": scores, "predicted": index, "predicted_label": name, "lower": low, "upper": low, "score": 0.5}
        for model, scores, index, name, low in rows
    ]
    return pa.RecordBatch.from_pylist(made, schema=SCHEMA)


def test_classes_are_found_by_their_names_whatever_order_they_were_served_in() -> None:
    served = ServedNumbers(KnownClasses({"colour": Multiclass(("red", "green", "blue")), "weight": Regression(), "plain": Binary()}))
    batch = predictions(
        ("colour", {"red": 0.1, "green": 0.2, "blue": 0.7}, 2, "blue", None),
        ("weight", None, 0, None, 1.5),
        ("colour", {"green": 0.75, "red": 0.25}, 0, "green", None),
        ("plain", None, 1, None, None),
        ("colour", {"violet": 1.0}, 0, "violet", None),
        ("colour", None, 1, None, None),
        ("weight", None, 0, None, None),
    )
    models = batch.column("model").to_pylist()
    predicted, numbers = served.columns(models, batch)
    assert predicted == [2, 0, 1, 1, -1, -1, 0]
    assert numbers[0] == (0.1, 0.2, 0.7) and numbers[1] == (1.5, 1.5) and numbers[3] == ()
    assert numbers[2][:2] == (0.25, 0.75) and all(map(math.isnan, (numbers[2][2], *numbers[4], *numbers[5], *numbers[6])))
    outcomes = [
        Outcome(model, At(0, 0, i), Request("r", i, 0, 0, 0.5, index, "v", 0, "champion", own), "labelled", TimedLabel(2.0, 0), 0, 0)
        for i, (model, index, own) in enumerate(zip(models, predicted, numbers, strict=True))
    ]
    columns = {name: column.to_pylist() for name, column in served.outcome_columns(outcomes).items()}
    assert columns["scores"] == [
        [("red", 0.1), ("green", 0.2), ("blue", 0.7)], None, [("red", 0.25), ("green", 0.75)], None, None, None, None,
    ]  # fmt: skip
    assert columns["predicted_label"] == ["blue", None, "green", None, None, None, None]
    assert columns["label_class"] == ["blue", None, "blue", None, "blue", "blue", None]
    assert columns["lower"] == columns["upper"] == [None, 1.5, None, None, None, None, None]


def test_binary_models_alone_need_nothing() -> None:
    served = ServedNumbers(KnownClasses({"plain": Binary()}))
    assert served.columns(["plain"], predictions(("plain", None, 1, None, None))) == ([1], [()])
    assert {column.null_count for column in served.outcome_columns([]).values()} == {0}
