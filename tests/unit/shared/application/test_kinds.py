"""Kinds, classes and labels of the application file: what is accepted, and where a mistake is said to stand."""

from pathlib import Path

import pyarrow as pa
import pytest

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import LabelPlan, Plan
from tidemill.shared.application.planning import load_plan

APP = """\
app: shop
owner: someone@example.org
partition_by: id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: id, event_time: at}
  returns: {topic: returns, schema: return.avsc, event_id: return_id, event_time: at}
views:
  rates: {label: back, by: [all], half_lives: [6h]}
models:
  back:
    kind: KIND
    classes: CLASSES
    ask: orders
    features: [amount, rates.*]
    label:
      stream: returns
      join: id
      value: VALUE
      values: MEANINGS
      max_delay: 1h
      on_timeout: TIMEOUT
      timeout_value: LATE
    fallback: {default: DEFAULT}
"""
LINES = {
    key: i + 1
    for i, line in enumerate(APP.splitlines())
    for key in ("KIND", "CLASSES", "VALUE", "MEANINGS", "TIMEOUT", "LATE", "DEFAULT")
    if key in line
}
TIME = '{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}'
COLUMNS = {"word": "string", "digits": "long", "number": "double", "truth": "boolean"}


def plan_of(folder: Path, **changes: str) -> Plan:
    made = {"KIND": "binary", "CLASSES": "[]", "VALUE": "truth", "MEANINGS": "{}", "TIMEOUT": "unlabelled", "LATE": "0", "DEFAULT": "0.5"}
    text = APP
    for key, value in {**made, **changes}.items():
        text = text.replace(key, value)
    (folder / "app.yaml").write_text(text)
    own = ", ".join(f'{{"name": "{name}", "type": ["null", "{kind}"], "default": null}}' for name, kind in COLUMNS.items())
    key = '{"name": "id", "type": "string"}'
    (folder / "order.avsc").write_text(f'{{"type": "record", "name": "o", "fields": [{key}, {TIME}, {{"name": "amount", "type": "double"}}]}}')
    (folder / "return.avsc").write_text(
        f'{{"type": "record", "name": "r", "fields": [{key}, {{"name": "return_id", "type": "string"}}, {TIME}, {own}]}}'
    )
    return load_plan(folder)


def read(label: LabelPlan, values: list[object], kind: pa.DataType) -> list[float | None]:
    """Labels, None where a value is none."""
    labels, good = label.labels(pa.array(values, kind))
    return [one if ok else None for one, ok in zip(labels.tolist(), good.tolist(), strict=True)]


THREE = {"KIND": "multiclass", "CLASSES": "[red, green, blue]", "DEFAULT": "green", "VALUE": "word"}


@pytest.mark.parametrize(
    ("changes", "column", "values", "expected"),
    [
        ({}, "truth", [True, False, None], [1, 0, None]),
        ({"VALUE": "digits"}, "digits", [1, 0, 2, None], [1, 0, None, None]),
        ({"VALUE": "word", "MEANINGS": '{"yes": 1, "no": 0}'}, "word", ["no", "yes", "Yes", "", None], [0, 1, None, None, None]),
        ({"VALUE": "digits", "MEANINGS": "{-1: 0, 1: 1}"}, "digits", [-1, 1, 0], [0, 1, None]),
        ({"VALUE": "number", "MEANINGS": "{1: 0, 2: true}"}, "number", [1.0, 2.0, 1.5, float("nan"), 0.0], [0, 1, None, None, None]),
        ({"VALUE": "number", "MEANINGS": "{0: 1, 1: 0}"}, "number", [-0.0, 0.0, 1.0], [1, 1, 0]),
        (THREE, "word", ["blue", "red", "violet", None], [2, 0, None, None]),
        ({**THREE, "MEANINGS": '{"r": red, "g": green, "b": blue, "B": blue}'}, "word", ["B", "b", "r", "blue"], [2, 2, 0, None]),
        ({**THREE, "CLASSES": "[1, 2, 7]", "VALUE": "digits", "DEFAULT": "7"}, "digits", [7, 1, 3], [2, 0, None]),
        ({**THREE, "CLASSES": '["1", "2.5"]', "VALUE": "number", "DEFAULT": '"1"'}, "number", [2.5, 1.0, 2.0], [1, 0, None]),
        ({**THREE, "CLASSES": '["false", "true"]', "VALUE": "truth", "DEFAULT": "true"}, "truth", [True, False, None], [1, 0, None]),
        ({**THREE, "CLASSES": '["it\'s", Größe]', "DEFAULT": "Größe"}, "word", ["Größe", "it's"], [1, 0]),
        ({"KIND": "regression", "VALUE": "number", "DEFAULT": "-7"}, "number", [1e300, -3.4e38, float("inf"), None], [None, -3.4e38, None, None]),
    ],
)
def test_labels_are_what_is_declared(
    tmp_path: Path, changes: dict[str, str], column: str, values: list[object], expected: list[float | None]
) -> None:
    label = plan_of(tmp_path, **changes).models["back"].label
    kinds = {"word": pa.string(), "digits": pa.int64(), "number": pa.float64(), "truth": pa.bool_()}
    assert read(label, values, kinds[column]) == expected


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"KIND": "multiclass"}, "CLASSES", "names of two or more classes, in an order that stays (kind: multiclass), found no classes"),
        ({**THREE, "CLASSES": "[red]"}, "CLASSES", "found only red"),
        ({**THREE, "CLASSES": "[red, green, red]"}, "CLASSES", "each class once, found red again"),
        ({**THREE, "CLASSES": '[red, ""]'}, "CLASSES", "at least 1 character"),
        ({**THREE, "CLASSES": f"[{', '.join(f'{i:0199}x' for i in range(700))}]"}, "CLASSES", "at most 131,072 bytes together"),
        ({"CLASSES": "[red, green]"}, "CLASSES", "no classes (kind: binary), or kind: multiclass, found classes: red, green"),
        ({"KIND": "ranking"}, "KIND", "'binary', 'multiclass' or 'regression'"),
        ({**THREE, "DEFAULT": "violet"}, "DEFAULT", "a class, or a probability for each (kind: multiclass): red, green, blue, found violet"),
        ({**THREE, "DEFAULT": "{red: 0.5, green: 0.5}"}, "DEFAULT", "a probability for each class, together 1"),
        ({**THREE, "DEFAULT": "0.5"}, "DEFAULT", "a class, or a probability for each (kind: multiclass)"),
        ({"DEFAULT": "2"}, "DEFAULT", "a probability from 0 to 1 (kind: binary)"),
        ({"KIND": "regression", "VALUE": "number", "DEFAULT": "much"}, "DEFAULT", "a finite number of at most 3.4e38 (kind: regression), found much"),
        ({"KIND": "regression", "VALUE": "word"}, "VALUE", "a number or a truth value (kind: regression)"),
        ({"VALUE": "word"}, "VALUE", 'values: {"yes": 1, "no": 0} (kind: binary)'),
        ({"VALUE": "word", "MEANINGS": '{"yes": 2}'}, "MEANINGS", "a meaning: 0 or 1 (kind: binary), found 2"),
        ({**THREE, "MEANINGS": '{"r": rot}'}, "MEANINGS", "a meaning: one of the classes red, green, blue (kind: multiclass), found rot"),
        ({"VALUE": "digits", "MEANINGS": '{"yes": 1}'}, "MEANINGS", "what 'digits' can give, a whole number, each once, found 'yes'"),
        ({"VALUE": "number", "MEANINGS": '{"1": 1, "1.00": 0}'}, "MEANINGS", "each once, found '1.00'"),
        ({"KIND": "regression", "VALUE": "number", "MEANINGS": '{"1": 1}'}, "MEANINGS", "no values (kind: regression)"),
        ({**THREE, "VALUE": "digits"}, "CLASSES", "say which value is which class with label.values, found 'red'"),
        ({**THREE, "VALUE": "at"}, "VALUE", "an expression that is a text, a truth value, a whole number, a number"),
        ({**THREE, "TIMEOUT": "negative"}, "TIMEOUT", "there is no negative class"),
        ({**THREE, "TIMEOUT": "value", "LATE": "violet"}, "LATE", "a label: one of the classes red, green, blue (kind: multiclass), found violet"),
        ({"TIMEOUT": "value", "LATE": "yes"}, "LATE", "a label: 0 or 1 (kind: binary), found 'yes'"),
        ({**THREE, "VALUE": "\"'violet'\""}, "VALUE", "always 'violet'"),
    ],
)
def test_a_mistake_is_said_with_its_line(tmp_path: Path, changes: dict[str, str], key: str, expected: str) -> None:
    with pytest.raises(ApplicationError) as refusal:
        plan_of(tmp_path, **changes)
    assert expected in str(refusal.value)
    assert f"app.yaml:{LINES[key]}:" in str(refusal.value)


def test_silence_may_be_a_class(tmp_path: Path) -> None:
    assert plan_of(tmp_path, **THREE, TIMEOUT="value", LATE="blue").models["back"].label.timeout_value == 2.0


def test_each_class_has_a_label_rate_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **{**THREE, "CLASSES": "[Red, dark green]", "DEFAULT": "Red"})
    assert [feature.name for feature in plan.features] == ["amount", "rates__all_red_6h", "rates__all_dark_green_6h"]
    words = pa.RecordBatch.from_pydict({"word": pa.array(["dark green", "Red", "pink", None])})
    rates = [aggregate.value for aggregate in plan.views[0].aggregates]
    assert [rate.evaluate(words).to_pylist() for rate in rates if rate is not None] == [[0, 1, None, None], [1, 0, None, None]]


def test_a_rate_of_declared_values_is_one_of_their_meaning(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, VALUE="digits", MEANINGS="{2: 0, 1: 1}")
    rate = plan.views[0].aggregates[0].value
    assert rate is not None
    assert rate.evaluate(pa.RecordBatch.from_pydict({"digits": pa.array([1, 2, 0, None])})).to_pylist() == [1, 0, None, None]
    other = plan_of(tmp_path, VALUE="digits", MEANINGS="{2: 1, 1: 0}").views[0].aggregates[0].value
    assert other is not None and other.sql != rate.sql
