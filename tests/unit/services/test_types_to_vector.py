"""Every type that `check` accepts goes from Avro and from JSON through the journal to the vector and the lake; the others it names."""

import datetime as dt
import decimal
import io
import json
import uuid
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from tests.orders_application import ORDERS, order_schema, write_orders
from tidemill.services.features.task import FeaturesTask
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header
from tidemill.shared.lake.tables import Lake
from tidemill.shared.log.records import Records, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW = 1_760_000_000_000
NAME = uuid.UUID("0123abcd-0123-4567-89ab-0123456789ab")
DAY = dt.date(2020, 5, 1)
DAYS = (DAY - dt.date(1970, 1, 1)).days
# Type, what fastavro writes, what JSON says, what the vector has of it (a number or text; None: no feature).
CARRIED: dict[str, tuple[Any, Any, Any, Any]] = {
    "text": ("string", "é", "é", "é"),
    "whole": ("long", 2**40, 2**40, float(2**40)),
    "small": ("int", -7, -7, -7.0),
    "wide": ("double", 0.1, 0.1, 0.1),
    "narrow": ("float", 0.5, 0.5, 0.5),
    "truth": ("boolean", True, True, 1.0),
    "raw": ("bytes", b"\xff", "\xff", None),
    "name": ({"type": "string", "logicalType": "uuid"}, NAME, str(NAME).upper(), str(NAME)),
    "money": ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, decimal.Decimal("-12.34"), "-12.34", -12.34),
    "fixed_money": (
        {"type": "fixed", "name": "Money", "size": 8, "logicalType": "decimal", "precision": 12, "scale": 2}, decimal.Decimal("5.10"), 5.1, 5.1,
    ),
    "code": ({"type": "fixed", "name": "Code", "size": 2}, b"ab", "ab", None),
    "currency": ({"type": "enum", "name": "Currency", "symbols": ["EUR", "USD"]}, "USD", "USD", "USD"),
    "day": ({"type": "int", "logicalType": "date"}, DAY, "2020-05-01", float(DAYS)),
    "time_ms": ({"type": "int", "logicalType": "time-millis"}, dt.time(1, 2, 3), "01:02:03", None),
    "time_us": ({"type": "long", "logicalType": "time-micros"}, dt.time(1, 2, 3), "01:02:03", None),
    "stamp_us": ({"type": "long", "logicalType": "timestamp-micros"}, dt.datetime(2020, 5, 1, tzinfo=dt.UTC), "2020-05-01", None),
    "local_ms": ({"type": "long", "logicalType": "local-timestamp-millis"}, dt.datetime(2020, 5, 1), "2020-05-01", None),  # noqa: DTZ001 - local
    "local_us": ({"type": "long", "logicalType": "local-timestamp-micros"}, dt.datetime(2020, 5, 1), "2020-05-01", None),  # noqa: DTZ001 - local
    "numbers": ({"type": "array", "items": "double"}, [1.0, 2.0], [1, 2.0], None),
    "texts": ({"type": "array", "items": ["null", "string"]}, ["a", None], ["a", None], None),
    "by_name": ({"type": "map", "values": "long"}, {"a": 1}, {"a": 1}, None),
    "items": (
        {"type": "array", "items": {"type": "record", "name": "Item", "fields": [{"name": "sku", "type": "string"}]}},
        [{"sku": "x"}], [{"sku": "x"}], None,
    ),
}  # fmt: skip
ADDRESS = {
    "type": "record", "name": "Address",
    "fields": [{"name": "city", "type": "string"}, {"name": "since", "type": {"type": "int", "logicalType": "date"}}],
}  # fmt: skip
SCHEMA = order_schema(
    [
        *({"name": name, "type": declared} for name, (declared, *_) in CARRIED.items()),
        *({"name": f"maybe_{name}", "type": ["null", f"{declared['name']}" if isinstance(declared, dict) and "name" in declared else declared]}
          for name, (declared, *_) in CARRIED.items() if name != "items"),
        {"name": "customer", "type": {"type": "record", "name": "Customer", "fields": [{"name": "address", "type": ["null", ADDRESS]}]}},
    ]
)  # fmt: skip
APPLICATION = (
    ORDERS
    + """    derive:
      month: "EXTRACT(month FROM day)"
      same_day: "day"
      hour: "EXTRACT(hour FROM time_ms)"
      how_many: "ARRAY_LENGTH(numbers)"
      dear: "money > 5"
      in_ulm: "customer.address.city = 'Ulm'"
models:
  m:
    ask: orders
    features: ["*"]
    label: {stream: orders, join: order_id, value: "small", max_delay: 2d}
    fallback: {default: 0.1}
"""
)


def _values(of: int, nulls: bool) -> dict[str, Any]:
    row: dict[str, Any] = {name: case[of] for name, case in CARRIED.items()}
    row |= {f"maybe_{name}": None if nulls else case[of] for name, case in CARRIED.items() if name != "items"}
    day = DAY if of == 1 else DAY.isoformat()
    stamp = dt.datetime.fromtimestamp(NOW / 1000, dt.UTC) if of == 1 else NOW
    return row | {"at": stamp, "customer": {"address": None if nulls else {"city": "Ulm", "since": day}}}


@pytest.mark.parametrize("form", ["avro", "json"])
def test_every_carried_type_reaches_the_vector_and_the_lake(tmp_path: Path, form: str) -> None:
    plan = load_plan(write_orders(tmp_path, SCHEMA, APPLICATION))
    registry = MemorySchemaRegistry()
    messages = []
    for i, nulls in enumerate((False, True)):
        row = {"order_id": f"o{i}", **_values(1 if form == "avro" else 2, nulls)}
        if form == "json":
            messages.append(json.dumps(row).encode())
            continue
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(SCHEMA), row)
        messages.append(header(registry.register("orders", json.dumps(SCHEMA))) + body.getvalue())
    task = IngestionTask(plan, registry, 0, "live")
    records = Records("orders", 0, np.arange(2), np.full(2, NOW), [b"k"] * 2, messages)
    step = task.process([records], StepContext(NOW, frozenset({TopicPartition("orders", 0)})))
    assert [(e.topic, len(e)) for e in step.emissions] == [("shop-journal", 2)]
    journal = Records("shop-journal", 0, np.arange(2), np.full(2, NOW), step.emissions[0].keys, step.emissions[0].values)
    columns = JournalDecoder(plan, registry).decode(journal).groups["orders"].columns
    columns.validate(full=True)
    assert columns.column("money").to_pylist() == [decimal.Decimal("-12.34")] * 2
    assert columns.column("customer.address.city").to_pylist() == ["Ulm", None]
    # Whoever reads the journal with another library reads the same.
    made = next(
        fastavro.schemaless_reader(io.BytesIO(v[5:]), fastavro.parse_schema(json.loads(plan.streams["orders"].entry_schema)), None)
        for v in journal.values
        if v is not None
    )
    assert isinstance(made, dict)
    assert made["name"] == NAME
    assert made["money"] == decimal.Decimal("-12.34")
    assert made["day"] == DAY
    vectors = FeaturesTask(plan, registry, 0).process([journal], StepContext(NOW))
    values = next(e.values for e in vectors.emissions if e.topic == plan.topics.vectors)
    served = ColumnDecoder(registry, plan.vector_schema).decode(values).batch.to_pylist()
    features = {name: case[3] for name, case in CARRIED.items() if case[3] is not None}
    assert {name: served[0][name] for name in features} == features
    assert {name: served[0][f"maybe_{name}"] for name in features} == features
    assert {served[1][f"maybe_{name}"] for name in features} == {None}
    derived = {
        "month": 5.0,
        "same_day": float(DAYS),
        "hour": 1.0,
        "how_many": 2.0,
        "dear": 0.0,
        "in_ulm": 1.0,
        "customer__address__since": float(DAYS),
    }
    assert {name: served[0][name] for name in derived} == derived
    Lake(str(tmp_path / "lake"), "shop").append("orders", pa.Table.from_batches([columns]), "w", [0, 1])


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (["string", "long"], "field x: unions of several types"),
        ("null", "field x: a field that is always null"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "declare timestamp-micros"),
        ({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, "duration is not carried"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 2}, "at most 38 digits"),
        ({"type": "array", "items": ["null", "string", "int"]}, r"field x\[\]: unions of several types"),
        ({"type": "map", "values": {"type": "array", "items": "null"}}, r"field x\[\]\[\]: a field that is always null"),
        (["null", "Order"], "field x: a record that contains itself"),
    ],
)
def test_what_is_not_carried_is_refused_with_the_fields_name_and_a_way_out(tmp_path: Path, declared: Any, says: str) -> None:
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"][:2], {"name": "x", "type": declared}]}
    with pytest.raises(ApplicationError, match=says):
        load_plan(write_orders(tmp_path, schema, APPLICATION))


@pytest.mark.parametrize(
    ("declared", "default"),
    [
        ("int", 1 << 31),
        ("double", "NaN"),
        ("bytes", "\u0100"),
        ({"type": "int", "logicalType": "date"}, 10_000_000),
        ({"type": "array", "items": "int"}, [1, -(1 << 40)]),
        ({"type": "record", "name": "Inner", "fields": [{"name": "y", "type": "int", "default": 1 << 31}]}, None),
    ],
)
def test_a_default_that_its_type_cannot_have_is_refused_with_the_fields_name(tmp_path: Path, declared: Any, default: object) -> None:
    one = {"name": "x", "type": declared} | ({} if default is None else {"default": default})
    with pytest.raises(ApplicationError, match=r"field x(\.y)?: expected a default that its type can have"):
        load_plan(write_orders(tmp_path, {**SCHEMA, "fields": [*SCHEMA["fields"][:2], one]}, APPLICATION))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('features: ["*"]', "features: [numbers]", "ARRAY_LENGTH"),
        ('features: ["*"]', "features: [at]", "EXTRACT"),
        ("event_id: order_id", "event_id: raw", "a column that identifies something"),
        ("join: order_id", "join: texts", "a column that identifies a request"),
        ('dear: "money > 5"', 'dear: "texts"', "an expression may be"),
    ],
)
def test_a_type_in_the_wrong_place_is_refused_with_a_way_out(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ApplicationError, match=says):
        load_plan(write_orders(tmp_path, SCHEMA, APPLICATION.replace(old, new)))


def test_a_column_that_is_a_word_of_sql_is_named_with_the_way_to_write_it(tmp_path: Path) -> None:
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "order", "type": "int"}]}
    with pytest.raises(ApplicationError, match='write the column as "order", in double quotes'):
        load_plan(write_orders(tmp_path, schema, APPLICATION.replace('"money > 5"', '"order > 5"')))
    load_plan(write_orders(tmp_path, schema, APPLICATION.replace('"money > 5"', "'\"order\" > 5'")))
