"""A label's join and a reference stream's key have a type that can meet the request's: keys meet by their texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.planning import load_plan

APPLICATION = """
app: shop
owner: shop@example.org
partition_by: customer
streams:
  orders: {topic: orders, schema: orders.avsc, event_id: order_id, event_time: at}
  shops: {topic: shops, schema: shops.avsc, kind: reference, key: shop, event_time: at, max_age: 9d}
  returns: {topic: returns, schema: returns.avsc, event_id: return_id, event_time: at, non_finite: null}
models:
  returned:
    ask: orders
    features: [amount, "shops.*"]
    label: {stream: returns, join: order, value: "returned", max_delay: 1d}
    fallback: {default: 0.1}
"""
DATE = {"type": "int", "logicalType": "date"}


def decimal(scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": scale}


def application(folder: Path, order_id: Any, join: Any, shop: Any = "string", key: Any = "string", text: str = APPLICATION) -> Path:
    common = {"customer": "string", "at": {"type": "long", "logicalType": "timestamp-millis"}}
    columns = {
        "orders": {"order_id": order_id, "shop": shop, "amount": "double", **common},
        "shops": {"shop": key, "size": "double", **common},
        "returns": {"return_id": "string", "order": join, "returned": "boolean", **common},
    }
    for name, fields in columns.items():
        declared = {"type": "record", "name": name.capitalize(), "fields": [{"name": one, "type": kind} for one, kind in fields.items()]}
        (folder / f"{name}.avsc").write_text(json.dumps(declared))
    (folder / "app.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("one", "other"),
    [(decimal(8), decimal(2)), (decimal(2), "long"), ("double", decimal(2)), (DATE, "int"), ("long", "boolean"), ("boolean", DATE)],
)
def test_keys_that_never_meet_are_refused(tmp_path: Path, one: Any, other: Any) -> None:
    with pytest.raises(ApplicationError, match=r"order of returns of a type that meets order_id of orders \(.*\): the same, or text, found order, "):
        load_plan(application(tmp_path, one, other))
    with pytest.raises(ApplicationError, match=r"shop of shops of a type that meets shop of orders \(.*\): the same, or text, found shop, "):
        load_plan(application(tmp_path, "string", "string", one, other))
    # Nobody reads the reference stream.
    load_plan(application(tmp_path, "string", "string", one, other, APPLICATION.replace(', "shops.*"', "")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (decimal(2), decimal(2)),
        (decimal(0), "long"),
        ("long", "double"),
        ("int", "float"),
        ("string", "long"),
        (DATE, "string"),
        ("boolean", "string"),
    ],
)
def test_keys_that_may_meet_are_taken(tmp_path: Path, one: Any, other: Any) -> None:
    load_plan(application(tmp_path, one, other, other, one))


def test_null_without_quotes_is_what_becomes_of_numbers_that_are_not_finite(tmp_path: Path) -> None:
    plan = load_plan(application(tmp_path, "string", "string"))
    assert not plan.streams["returns"].rejects_non_finite


VIEW = """
entities:
  customer: {from: {orders: customer}}
views:
  returned: {entity: customer, source: returns, aggregate: [count], windows: [1h], join: {stream: orders, on: order, within: 9d}}
models:"""


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("string", "bytes", r"on: a column that identifies a request: .*, found order, binary"),
        ("string", {"type": "array", "items": "string"}, r"on: a column that identifies a request: .*, found order, list"),
        ("bytes", "string", r"on_request: a column that identifies a request: .*, found shop, binary"),
        (decimal(8), decimal(2), r"order of a type that meets shop of orders \(.*\): the same, or text, found order, "),
    ],
)
def test_a_view_joins_by_keys_that_may_meet(tmp_path: Path, one: Any, other: Any, says: str) -> None:
    text = APPLICATION.replace("models:", VIEW.replace("on: order", "on: order, on_request: shop")).replace("join: order,", "join: return_id,")
    text = text.replace(', "shops.*"', "")
    load_plan(application(tmp_path, "string", "long", "double", text=text))
    with pytest.raises(ApplicationError, match=says):
        load_plan(application(tmp_path, "string", other, one, text=text))
