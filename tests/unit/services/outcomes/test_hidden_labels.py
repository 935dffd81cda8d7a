"""Silence about a request whose answer has hidden its label means nothing; what was marked stays with the outcome."""

import pyarrow as pa
import pytest

from tidemill.services.outcomes.domain.join import JoinPolicy, OutcomeJoin
from tidemill.services.outcomes.domain.known_classes import KnownClasses
from tidemill.services.outcomes.domain.request import At, Request, TimedLabel
from tidemill.services.outcomes.domain.served_numbers import ServedNumbers
from tidemill.shared.avro.arrow_types import arrow_schema
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.kinds.binary import Binary
from tidemill.shared.kinds.multiclass import Multiclass

SCHEMA = arrow_schema(message_schema("prediction"))
POLICY = JoinPolicy("fraud", 100, 0.0, numbers=2, has_control_share=True)


def request(name: str, offset: int, propensity: float, control: float) -> Request:
    return Request(name, offset, offset, offset, 0.9, int(propensity < 1), "v", 1, "champion", (propensity, control))


@pytest.mark.parametrize("restarts", [False, True])
def test_silence_is_a_label_only_where_nobody_has_acted(restarts: bool) -> None:
    join = OutcomeJoin([POLICY])
    for one in (request("blocked", 1, 0.05, 0.0), request("control", 2, 0.05, 1.0), request("passed", 3, 1.0, 0.0), request("told", 4, 0.05, 0.0)):
        join.request("fraud", one, At(one.time_ms, 0, one.offset))
    if restarts:
        blobs = {key: blob for key, blob in join.snapshot().items() if blob is not None}
        join = OutcomeJoin([POLICY])
        join.load(blobs)
    (told,) = join.label("fraud", "told", TimedLabel(1.0, 5), At(6, 0, 6))
    labels = {one.request.request_id: None if one.label is None else one.label.value for one in join.advance(At(1_000, 0, 9))}
    assert labels == {"blocked": None, "control": 0.0, "passed": 0.0}
    columns = ServedNumbers(KnownClasses({"fraud": Binary()}), ["fraud"]).outcome_columns([told])
    assert columns["control"].to_pylist() == [False] and columns["propensity"].to_pylist() == [0.05]


def test_marks_pass_from_predictions_to_outcomes_beside_the_classes() -> None:
    kind = Multiclass(("ok", "fraud"))
    served = ServedNumbers(KnownClasses({"m": kind, "plain": Binary()}), ["m"])
    common: dict[str, object] = {field.name: None if field.nullable else 0 for field in SCHEMA}
    common |= {"request_id": "r", "model_version": "v", "variant": "champion"}
    scores = {"scores": {"ok": 0.25, "fraud": 0.75}, "predicted_label": "fraud", "predicted": 1}
    rows = [common | scores | {"model": "m", "control": True, "propensity": 0.05}, common | {"model": "plain"}, common | scores | {"model": "m"}]
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    predicted, numbers = served.columns(["m", "plain", "m"], batch)
    assert predicted == [1, 0, 1] and numbers[0] == (0.25, 0.75, 0.05, 1.0) and numbers[1] == ()
    join = OutcomeJoin([JoinPolicy("m", 100, numbers=4, has_control_share=True)])
    outcomes = []
    for i, row in ((0, numbers[0]), (2, numbers[2])):
        join.request("m", Request(f"r{i}", i, i, i, 0.75, 1, "v", 1, "champion", row), At(i, 0, i))
        outcomes += join.label("m", f"r{i}", TimedLabel(1.0, 5), At(10 + i, 0, 10 + i))
    columns = served.outcome_columns(outcomes)
    assert columns["control"].to_pylist() == [True, None] and columns["propensity"].to_pylist() == [0.05, None]
    assert dict(columns["scores"][0].as_py()) == {"ok": 0.25, "fraud": 0.75} and columns["predicted_label"].to_pylist() == ["fraud", "fraud"]
