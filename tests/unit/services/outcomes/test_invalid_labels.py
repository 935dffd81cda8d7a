"""A label outside of its model's kind is a dead letter of outcomes, once; the request goes on waiting."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemill.services.outcomes.domain.join import JoinPolicy, OutcomeJoin
from tidemill.services.outcomes.domain.request import At, Request, TimedLabel
from tidemill.services.outcomes.task import OutcomesTask
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.records import Records
from tidemill.shared.runner.task import StepContext

APP = """
app: shop
owner: someone@example.org
partition_by: id
streams:
  orders: {{topic: orders, schema: order.avsc, event_id: id, event_time: at}}
  returns: {{topic: returns, schema: return.avsc, event_id: {event_id}, event_time: at}}
models:
  back:
    kind: {kind}
    ask: orders
    features: [amount]
    label:
      {{stream: returns, join: id, value: {value}, max_delay: 1h, corrections: {corrections}, on_timeout: {on_timeout}, timeout_value: {timeout}}}
    fallback: {{default: {default}}}
"""
SCHEMAS = Path(__file__).parents[4] / "schemas"
DEFAULTS = {
    "event_id": "return_id",
    "kind": "binary",
    "value": "bad",
    "corrections": "first",
    "on_timeout": "unlabelled",
    "timeout": "0",
    "default": "0.5",
}


def plan_of(folder: Path, **changes: str) -> Plan:
    time = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    own = {"order": [{"name": "amount", "type": "double"}], "return": [{"name": "return_id", "type": "string"}, {"name": "bad", "type": "double"}]}
    for name, extra in own.items():
        fields = [{"name": "id", "type": "string"}, time, *extra]
        (folder / f"{name}.avsc").write_text(json.dumps({"type": "record", "name": name, "fields": fields}))
    (folder / "app.yaml").write_text(APP.format(**{**DEFAULTS, **changes}))
    return load_plan(folder)


def written(plan: Plan, values: list[float]) -> tuple[list[dict[str, object]], list[str]]:
    """Dead letters, and the requests that are labelled, of one journal with labels."""
    registry, n = MemorySchemaRegistry(), len(values)
    task, stream = OutcomesTask(plan, registry, 0), plan.streams["returns"]
    columns = {"id": [f"o{i}" for i in range(n)], "return_id": [f"r{i}" for i in range(n)], "bad": values, "_event_id": [f"r{i}" for i in range(n)]}
    zeros = {"_late": [False] * n}
    arrays = [pa.array(columns.get(f.name, zeros.get(f.name, [i for i in range(n)])), from_pandas=False).cast(f.type) for f in stream.entry_arrow]
    encoder = ColumnEncoder(registry, "j", stream.entry_schema)
    entries = list(encoder.encode(pa.RecordBatch.from_arrays(arrays, schema=stream.entry_arrow)))
    journal = Records(plan.topics.journal, 0, np.arange(n), np.arange(n), [f"o{i}".encode() for i in range(n)], entries)
    codec = RecordCodec(registry, "p", (SCHEMAS / "progress.avsc").read_text("utf-8"))
    progress = codec.encode(_progress(plan, n))
    step = task.process([journal, Records(plan.topics.progress("scoring"), 0, np.arange(1), np.arange(1), [b"0"], [progress])], StepContext(0))
    letters = RecordCodec(registry, "r", (SCHEMAS / "rejected.avsc").read_text("utf-8"))
    dead = [letters.decode(v) for e in step.emissions if e.topic == plan.topics.rejected for v in e.values if v is not None]
    again = task.process([], StepContext(0))
    assert not [e for e in again.emissions if e.topic == plan.topics.rejected]
    return dead, sorted(set(task._join.states["back"].early.waiting()))


def _progress(plan: Plan, n: int) -> dict[str, object]:
    schema = json.loads((SCHEMAS / "progress.avsc").read_text("utf-8"))
    zero: dict[str, object] = {"string": "", "int": 0, "long": 0}
    record: dict[str, object] = {}
    for field in schema["fields"]:
        kind = field["type"]
        record[field["name"]] = (
            field["default"] if "default" in field else {} if isinstance(kind, dict) and kind["type"] == "map" else zero.get(str(kind), [])
        )
    return record | {"stage": "scoring", "covered_offset": n, "covered_time": 10**9}


def test_labels_of_another_kind_are_set_aside_one_letter_each(tmp_path: Path) -> None:
    letters, labelled = written(plan_of(tmp_path), [0.0, 2.0, 1.0, float("nan"), float("inf"), 0.5, -0.0])
    assert [letter["source_offset"] for letter in letters] == [1, 3, 4, 5]
    assert {letter["reason"] for letter in letters} == {"invalid_label"} and {letter["stage"] for letter in letters} == {"outcomes"}
    assert "0 or 1" in str(letters[0]["detail"]) and "2.0" in str(letters[0]["detail"])
    assert labelled == ["o0", "o2", "o6"]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_request_with_an_invalid_label_has_not_met_silence(restarts: bool) -> None:
    """`on_timeout: negative` makes no negative of it; a good label that follows still counts."""
    join = OutcomeJoin([JoinPolicy("back", 100, timeout_label=0.0)])
    for name in ("early", "early and mended", "early nobody"):
        join.invalid("back", name, At(0, 0, 0))
    join.label("back", "early and mended", TimedLabel(1.0, 0), At(0, 0, 0))
    for i, name in enumerate(("silent", "invalid", "mended"), 1):
        join.request("back", Request(name, i, 0, 0, 0.5, 0, "v1", 0, "champion"), At(0, 0, i))
    for name in ("invalid", "mended", "nobody"):
        join.invalid("back", name, At(0, 0, 3))
    if restarts:
        blobs = {key: blob for key, blob in join.snapshot().items() if blob is not None}
        join = OutcomeJoin([JoinPolicy("back", 100, timeout_label=0.0)])
        join.load(blobs)
    assert not join.request("back", Request("early", 4, 0, 0, 0.5, 0, "v1", 0, "champion"), At(0, 0, 4))
    (at_once,) = join.request("back", Request("early and mended", 5, 0, 0, 0.5, 0, "v1", 0, "champion"), At(0, 0, 5))
    assert (at_once.status, at_once.revision) == ("labelled", 0)
    (labelled,) = join.label("back", "mended", TimedLabel(1.0, 50), At(50, 0, 6))
    assert (labelled.status, labelled.revision) == ("labelled", 0)
    ended = {outcome.request.request_id: outcome.label for outcome in join.advance(At(101, 0, 7))}
    assert ended == {"silent": TimedLabel(0.0, 100), "invalid": None, "early": None}


def test_a_regression_takes_every_number_that_a_model_can_answer(tmp_path: Path) -> None:
    """The squares of larger ones are infinite: metrics were, and so was the report of a training."""
    letters, labelled = written(plan_of(tmp_path, kind="regression"), [2.0, float("nan"), float("-inf"), 3.4e38, 1e308, -1e308])
    assert [letter["source_offset"] for letter in letters] == [1, 2, 4, 5]
    assert labelled == ["o0", "o3"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value": '"2"'}, "0 or 1"),
        ({"value": '"0.5"'}, "0 or 1"),
        ({"on_timeout": "value", "timeout": "3"}, "0 or 1 (kind: binary), found 3.0"),
        ({"default": "1.5"}, "probability"),
        ({"corrections": "last", "event_id": "id"}, "an id of their own"),
    ],
)
def test_check_refuses_what_can_be_known_without_a_record(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    with pytest.raises(ApplicationError) as refusal:
        plan_of(tmp_path, **changes)
    assert expected in str(refusal.value)


def test_corrections_with_ids_of_their_own_and_true_as_a_label_are_fine(tmp_path: Path) -> None:
    assert plan_of(tmp_path, corrections="last").models["back"].label.corrections == "last"
    plan_of(tmp_path, value='"TRUE"')
    plan_of(tmp_path, corrections="first", event_id="id")
