"""Files hold every type that a schema can declare: CSV, JSON lines and Parquet say the same, and a missing column is its default."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tidemill.replay.dataset_files import FileOptions, read_folder
from tidemill.replay.feed import TableFeed
from tidemill.replay.file_rows import DataSetError
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry

APPLICATION = """app: shop
owner: me@example.org
partition_by: id
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: id, event_time: at%s}
"""
TIME = {"type": "long", "logicalType": "timestamp-millis"}
AT = "2024-01-15T10:00:00Z"
PLACE = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": "string", "default": "0"}]}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
UUID = {"type": "string", "logicalType": "uuid"}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}


def plan_of(folder: Path, fields: list[dict[str, Any]], declared: str = "") -> Plan:
    own = [{"name": "id", "type": "string"}, {"name": "at", "type": TIME}, *fields]
    (folder / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": own}))
    (folder / "app.yaml").write_text(APPLICATION % declared)
    return load_plan(folder)


def read(plan: Plan, folder: Path, name: str, content: str | pa.Table) -> list[dict[str, Any]]:
    """Return the rows without id and time; they are what a publisher's records would hold."""
    data = folder / name.replace(".", "-")
    data.mkdir()
    if isinstance(content, str):
        (data / name).write_text(content)
    else:
        pyarrow.parquet.write_table(content, data / name)
    table = read_folder(plan, data, FileOptions())["orders"]
    registry = MemorySchemaRegistry()
    _, values = TableFeed(plan.streams["orders"], table, registry).records(0, len(table))
    decoded = ColumnDecoder(registry, plan.streams["orders"].user_schema).decode(values)
    assert not decoded.errors and decoded.batch.to_pylist() == table.columns.to_pylist(), "what is published is what was read"
    return [{column: value for column, value in row.items() if column not in ("id", "at")} for row in table.columns.to_pylist()]


DEFAULTS: list[tuple[Any, Any]] = [
    ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "\x01"),
    ("bytes", "\xff"),
    ({"type": "fixed", "name": "Two", "size": 2}, "\xff\x00"),
    ({"type": "int", "logicalType": "date"}, 5),
    ({"type": "int", "logicalType": "time-millis"}, 5),
    ({"type": "map", "values": "bytes"}, {"a": "\xff"}),
    ({"type": "map", "values": "int"}, {}),
    (["null", "int"], 5),
    (UUID, "123E4567-E89B-12D3-A456-426614174000"),
    (PLACE, {"city": "Ulm"}),
    (["null", PLACE], None),
]


@pytest.mark.parametrize(("kind", "default"), DEFAULTS)
def test_a_column_that_is_missing_is_its_default_in_every_format(tmp_path: Path, kind: Any, default: Any) -> None:
    plan = plan_of(tmp_path, [{"name": "x", "type": kind, "default": default}])
    in_csv = read(plan, tmp_path, "orders.csv", f"id,at\n1,{AT}\n")
    assert in_csv == read(plan, tmp_path, "orders.jsonl", json.dumps({"id": "1", "at": AT}))
    assert in_csv == read(plan, tmp_path, "orders.parquet", pa.table({"id": ["1"], "at": [AT]}))


def test_records_within_a_record_are_columns_with_dots(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"name": "place", "type": PLACE}])
    right = [{"place.city": "Ulm", "place.zip": "0"}]
    assert read(plan, tmp_path, "orders.csv", f"id,at,place.city\n1,{AT},Ulm\n") == right
    assert read(plan, tmp_path, "orders.jsonl", json.dumps({"id": "1", "at": AT, "place": {"city": "Ulm"}})) == right
    assert read(plan, tmp_path, "orders.parquet", pa.table({"id": ["1"], "at": [AT], "place.city": ["Ulm"]})) == right


@pytest.mark.parametrize(
    ("fields", "cell", "says"),
    [
        ([{"name": "a", "type": COLOUR, "default": "RED"}, {"name": "x", "type": "Colour"}], "GREEN", "expected one of RED, BLUE, found 'GREEN'"),
        ([{"name": "x", "type": UUID}], "nobody", "expected a uuid such as .*, found 'nobody'"),
        ([{"name": "x", "type": {"type": "fixed", "name": "Two", "size": 2}}], "abc", "expected 2 bytes, found b'abc'"),
    ],
)
def test_what_a_type_does_not_hold_is_refused_with_its_line(tmp_path: Path, fields: list[dict[str, Any]], cell: str, says: str) -> None:
    plan = plan_of(tmp_path, fields)
    with pytest.raises(DataSetError, match=rf"orders\.csv:2: x: {says}"):
        read(plan, tmp_path, "orders.csv", f"id,at,x\n1,{AT},{cell}\n")


def test_a_symbol_that_is_unknown_is_the_enum_s_default_in_every_format(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"name": "x", "type": ["null", {**COLOUR, "default": "BLUE"}], "default": None}])
    cells = ["GREEN", "RED", None]
    right = [{"x": "BLUE"}, {"x": "RED"}, {"x": None}]
    assert read(plan, tmp_path, "orders.csv", f"id,at,x\n1,{AT},GREEN\n2,{AT},RED\n3,{AT},\n") == right
    lines = [json.dumps({"id": str(i), "at": AT, "x": cell}) for i, cell in enumerate(cells)]
    assert read(plan, tmp_path, "orders.jsonl", "\n".join(lines)) == right
    assert read(plan, tmp_path, "orders.parquet", pa.table({"id": ["1", "2", "3"], "at": [AT] * 3, "x": cells})) == right


def test_uuids_are_written_in_small_letters_as_the_codecs_write_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"name": "x", "type": UUID}])
    right = [{"x": "123e4567-e89b-12d3-a456-426614174000"}]
    assert read(plan, tmp_path, "orders.csv", f"id,at,x\n1,{AT},123E4567-E89B-12D3-A456-426614174000\n") == right


@pytest.mark.parametrize(
    ("declared", "cell", "micros"),
    [
        ("", "2024-01-15T10:00:00.123456Z", 1_705_312_800_123_456), ("", "1705312800123", 1_705_312_800_123_000),
        (", times: {x: microseconds}", "1705312800123456", 1_705_312_800_123_456), (", times: {x: seconds}", "1705312800.5", 1_705_312_800_500_000),
        ("", "+1705312800123", 1_705_312_800_123_000),
    ],
)  # fmt: skip
def test_microseconds_are_kept(tmp_path: Path, declared: str, cell: str, micros: int) -> None:
    plan = plan_of(tmp_path, [{"name": "x", "type": MICROS}], declared)
    (row,) = read(plan, tmp_path, "orders.csv", f"id,at,x\n1,{AT},{cell}\n")
    assert pa.scalar(row["x"], pa.timestamp("us")).value == micros


def test_a_header_alone_is_no_rows_and_one_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "orders.csv").write_bytes(b"id,at")
    assert len(read_folder(plan, tmp_path / "data", FileOptions())["orders"]) == 0
    (tmp_path / "data" / "orders.csv").write_bytes(b"id,at,gr\xf6sse\n")
    with pytest.raises(DataSetError, match=r"orders\.csv:1: expected text in UTF-8, found the byte 0xf6"):
        read_folder(plan, tmp_path / "data", FileOptions())
