"""Files say what they mean: digits, texts and times are kept as written, or refused with file, line and value. Oracles: csv, json, pandas."""

import csv
import gzip
import io
import json
import re
from dataclasses import replace
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from tidemill.replay.feed import TableFeed
from tidemill.replay.file_rows import DataSetError
from tidemill.replay.json_file import read_json
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry

APPLICATION = """app: shop
owner: me@example.org
partition_by: customer
streams:
  orders: {topic: shop-orders, schema: order.avsc, event_id: id, event_time: at%s}
"""
FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "customer", "type": "string"},
    {"name": "country", "type": ["null", "string"], "default": None},
    {"name": "amount", "type": ["null", "double"], "default": None},
    {"name": "count", "type": ["null", "int"], "default": None},
    {"name": "gift", "type": ["null", "boolean"], "default": None},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "born", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
    {"name": "ready", "type": ["null", {"type": "int", "logicalType": "time-millis"}], "default": None},
]
NEW_YEAR = 1_704_067_200_000


def plan_of(folder: Path, declared: str = "") -> Plan:
    application = folder / "app"
    application.mkdir()
    (application / "app.yaml").write_text(APPLICATION % declared)
    (application / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": FIELDS}))
    return load_plan(application)


def read(plan: Plan, folder: Path, name: str, content: bytes | str, options: DataSetOptions | None = None) -> list[dict[str, object]]:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / name).write_bytes(content.encode() if isinstance(content, str) else content)
    table = load_data_set(plan, str(data), options or DataSetOptions())["orders"]
    rows: list[dict[str, object]] = table.columns.set_column(6, "at", table.columns.column("at").cast(pa.int64())).to_pylist()
    return rows


def test_null_like_texts_are_texts_unless_they_are_declared(tmp_path: Path) -> None:
    texts = ["NA", "null", "None", "nan", "#N/A", "NULL", "-", "", '""', '"NA"']
    content = "id,customer,country,at\n" + "".join(f"{i},Null,{text},{NEW_YEAR}\n" for i, text in enumerate(texts))
    rows = read(plan_of(tmp_path), tmp_path, "orders.csv", content)
    expected = [record["country"] for record in csv.DictReader(io.StringIO(content))]
    assert [row["country"] for row in rows] == [*expected[:7], None, "", "NA"]
    assert {row["customer"] for row in rows} == {"Null"}
    declared = tmp_path / "declared"
    declared.mkdir()
    rows = read(plan_of(declared, ", nulls: [NA, '-']"), declared, "orders.csv", content)
    assert [row["country"] for row in rows] == [None, "null", "None", "nan", "#N/A", "NULL", None, None, "", "NA"]


def test_digits_stay_digit_for_digit(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    ids = ["9007199254740993", "1234567890123.0", "-7", "007", "9223372036854775807"]
    customers = ["007", "1234567890123.0", "9007199254740993", "1e5", " x "]
    content = "id,customer,at\n" + "".join(f"{a},{b},{NEW_YEAR}\n" for a, b in zip(ids, customers, strict=True))
    rows = read(plan, tmp_path, "orders.csv", content)
    assert [row["id"] for row in rows] == [int(Decimal(text)) for text in ids]
    assert [row["customer"] for row in rows] == customers


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gzip", "gzip under another name"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_compression_and_line_ends_say_the_same(tmp_path: Path, ending: str, encoding: str, line_end: str) -> None:
    lines = ["id,customer,at", f'1,"Jürgen, ""J""",{NEW_YEAR}', "", f"2,ほ,{NEW_YEAR + 1}", ""]
    if ending == "jsonl":
        objects = [{"id": 1, "customer": 'Jürgen, "J"', "at": NEW_YEAR}, {"id": 2, "customer": "ほ", "at": NEW_YEAR + 1}]
        lines = [" " + json.dumps(objects[0], ensure_ascii=False), "", json.dumps(objects[1]), ""]
    text = line_end.join(lines)
    content = gzip.compress(text.encode()) if encoding.startswith("gzip") else text.encode(encoding)
    rows = read(plan_of(tmp_path), tmp_path, f"orders.{ending}{'.gz' if encoding == 'gzip' else ''}", content)
    assert [(row["id"], row["customer"], row["at"]) for row in rows] == [(1, 'Jürgen, "J"', NEW_YEAR), (2, "ほ", NEW_YEAR + 1)]


GOOD = f"1,c1,DE,{NEW_YEAR}\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "orders.csv",
            "id,customer,amount,amount,at\n",
            r"orders\.csv:1: expected a name of its own .*, found 'amount' 2 times: columns 3, 4",
        ),
        ("orders.csv", "", r"orders\.csv: expected a header line with the names of the columns, found an empty file"),
        ("orders.csv", "id;customer;at\n1;2;3\n", r"orders\.csv:1: expected columns separated by commas, found 'id;customer;at'"),
        ("orders.csv", f"id,customer,country,at\n{GOOD}2,c1,{NEW_YEAR}\n", r"orders\.csv:3: expected 4 values as in the header, found 3"),
        ("orders.csv", f"id,customer,country,at\n{GOOD}\n2,c1,DE,{NEW_YEAR},5\n", r"orders\.csv:4: expected 4 values as in the header, found 5"),
        ("orders.csv", f'id,customer,country,at\n1,"two\nlines",DE,{NEW_YEAR}\n{GOOD}x,c,DE,0\n', r"orders\.csv:5: id: expected int64, found 'x'"),
        (
            "orders.csv",
            f'id,at,customer\n1,{NEW_YEAR},a\n2,{NEW_YEAR},"b\n3,{NEW_YEAR},c\n',
            r"orders\.csv:3: expected a quoted value .* never closed",
        ),
        ("orders.csv", f'id,customer,at\n1,a,{NEW_YEAR}\n2,"b"c,{NEW_YEAR}\n', r"orders\.csv:3: expected a quoted value to end with a quote"),
        ("orders.csv", "id,customer,at\n1.5,c,0\n", r"orders\.csv:2: id: expected int64, found '1.5'"),
        ("orders.csv", "id,customer,at\n9223372036854775808,c,0\n", r"orders\.csv:2: id: expected int64, found '9223372036854775808'"),
        ("orders.csv", "id,customer,count,at\n1,c,1,0\n2,c,4294967295,0\n", r"orders\.csv:3: count: expected int32, found '4294967295'"),
        ("orders.csv", "id,customer,amount,at\n1,c,NA,0\n", r"orders\.csv:2: amount: expected double, found 'NA'"),
        ("orders.csv", 'id,customer,amount,at\n1,c,"1,5",0\n', r"orders\.csv:2: amount: expected double, found '1,5'"),
        ("orders.csv", "id,customer,gift,at\n1,c,true,0\n2,c,maybe,0\n", r"orders\.csv:3: gift: expected bool, found 'maybe'"),
        ("orders.csv", "id,customer,at\n1,c,1704067200\n", r"orders\.csv:2: at: .*1704067200, which in milliseconds is 1970.*`seconds` \(2024-01-01"),
        (
            "orders.csv",
            "id,customer,at\n1,c,20240115\n",
            r"orders\.csv:2: at: .*`\"%Y%m%d\"` \(2024-01-15.*declare what it is",
        ),
        ("orders.csv", "id,customer,at\n1,c,\n", r'orders\.csv:2: at: expected a value, found none \(an empty text is written as ""\)'),
        ("orders.csv", b"id,customer,at\n1,J\xfcrgen,0\n", r"orders\.csv:2: expected text in UTF-8, found the byte 0xfc"),
        ("orders.csv", b"PK\x03\x04...", r"orders\.csv: expected CSV, found a ZIP archive"),
        ("orders.csv", b"PAR1...", r"orders\.csv: expected CSV, found Parquet"),
        ("orders.csv.gz", "id,customer,at\n", r"orders\.csv\.gz: expected gzip, as its name says"),
        ("orders.csv.gz", gzip.compress(b"id,customer,at\n" * 1000, mtime=0)[:-20], r"orders\.csv\.gz: expected CSV"),
        (
            "orders.jsonl",
            '{"id": 1, "customer": "c", "at": 0}\n{"id": "2", "customer": "c", "at": 0}',
            r"orders\.jsonl:2: .*expected int64 in id, found '2'",
        ),
        ("orders.jsonl", '{"id": 1, "customer": 5, "at": 0}', r"orders\.jsonl:1: .*expected string in customer, found 5"),
        ("orders.jsonl", '{"id": 1, "customer": "a", "customer": "b", "at": 0}', r"orders\.jsonl:1: .*each field once, found 'customer' 2 times"),
        ("orders.jsonl", '[{"id": 1}]', r"orders\.jsonl:1: .*expected a JSON object, found list"),
        ("orders.jsonl", '{\n"id": 1}', r"orders\.jsonl:1: expected a JSON object"),
        ("orders.jsonl", '\n{"id": 1, "customer": "c", "at": 1704067200}', r"orders\.jsonl:2: .*`seconds`"),
        ("orders.jsonl", b'{"id": 1, "customer": "J\xfcrgen", "at": 0}', r"orders\.jsonl:1: expected text in UTF-8, found the byte 0xfc"),
    ],
)
def test_what_is_refused_is_named_with_file_line_and_value(tmp_path: Path, name: str, content: bytes | str, says: str) -> None:
    with pytest.raises(DataSetError, match=says):
        read(plan_of(tmp_path), tmp_path, name, content)


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("seconds", "1704067200"),
        ("microseconds", f"{NEW_YEAR}000"),
        ('"%Y%m%d"', "20240101"),
        ('"%d.%m.%Y"', "01.01.2024"),
        ("milliseconds", "1704067200000"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_declared_times_are_read_in_every_format(tmp_path: Path, declared: str, text: str, ending: str) -> None:
    plan = plan_of(tmp_path, f", times: {{at: {declared}}}")
    value = int(text) if text.isdigit() else text
    if ending == "parquet":
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pa.table({"id": [1], "customer": ["c"], "at": [value]}), sink)
        content: bytes | str = sink.getvalue()
    else:
        content = f"id,customer,at\n1,c,{text}\n" if ending == "csv" else json.dumps({"id": 1, "customer": "c", "at": value})
    assert read(plan, tmp_path, f"orders.{ending}", content)[0]["at"] == NEW_YEAR


def test_times_of_day_in_csv_are_texts_and_numbers_are_not_guessed_at(tmp_path: Path) -> None:
    """A column of them was refused whole, with the way out of another format."""
    plan = plan_of(tmp_path)
    content = "id,customer,ready,at\n" + "".join(f"{i},c,{text},{NEW_YEAR}\n" for i, text in enumerate(["10:11", " 23:59:59.5 ", "", "00:00:00Z"]))
    assert [row["ready"] for row in read(plan, tmp_path, "orders.csv", content)] == [time(10, 11), time(23, 59, 59, 500_000), None, time(0)]
    for text in ("3600000", "1011", "24:00:00", "10:11+01:00", "noon"):
        with pytest.raises(DataSetError, match=r"orders\.csv:2: ready: expected a time of day without an offset.*found '" + re.escape(text)):
            read(plan, tmp_path, "orders.csv", f"id,customer,ready,at\n1,c,{text},{NEW_YEAR}\n")


def test_the_available_column_may_be_declared(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    content = "id,customer,at,seen\n1,c,2024-01-01,1704067260\n"
    with pytest.raises(DataSetError, match=r"orders\.csv:2: seen: .*`seconds`"):
        read(plan, tmp_path, "orders.csv", content, DataSetOptions(available="seen"))
    table = load_data_set(plan, str(tmp_path / "data"), DataSetOptions(available="seen", available_format="seconds"))["orders"]
    assert table.available_ms.tolist() == [NEW_YEAR + 60_000]


def test_birthdays_may_lie_in_1970_and_events_before_it(tmp_path: Path) -> None:
    content = "id,customer,at,born\n1,c,1965-01-02T00:00:00Z,864000000\n2,c,0,500000000000\n3,c,1965-01-01,\n"
    rows = read(plan_of(tmp_path), tmp_path, "orders.csv", content)
    assert [row["at"] for row in rows] == [-157_680_000_000, 0, -157_766_400_000]
    table = load_data_set(plan_of_again(tmp_path), str(tmp_path / "data"), DataSetOptions())["orders"]
    assert table.place is not None and table.place(2) == f"{tmp_path / 'data' / 'orders.csv'}:4"


def plan_of_again(folder: Path) -> Plan:
    return load_plan(folder / "app")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_parquet_times_of_every_unit_and_zone(tmp_path: Path, unit: Literal["s", "ms", "us", "ns"], zone: str | None) -> None:
    moments = pd.to_datetime(["2024-01-01T00:00:00", "1965-07-01T12:00:00", "2262-04-11T00:00:00"]).as_unit(unit)
    zoned = moments if zone is None else moments.tz_localize("UTC").tz_convert(zone)
    frame = pd.DataFrame({"id": [1, 2, 3], "customer": pd.Categorical(["a", "b", "a"]), "at": zoned})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
    rows = read(plan_of(tmp_path), tmp_path, "orders.parquet", sink.getvalue())
    assert [row["at"] for row in rows] == [int(moment.timestamp()) * 1_000 for moment in moments.tz_localize("UTC")]
    assert [row["customer"] for row in rows] == ["a", "b", "a"]


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


TWO = {"at": pa.array([NEW_YEAR, NEW_YEAR])}


def test_parquet_numbers_keep_their_digits(tmp_path: Path) -> None:
    content = parquet(
        id=pa.array([1.0, 2.0]),
        customer=pa.array([1234567890123.0, 7.5]),
        amount=pa.array([Decimal("1.25"), None]),
        count=pa.array([3, 4], pa.uint64()),
        **TWO,
    )
    rows = read(plan_of(tmp_path), tmp_path, "orders.parquet", content)
    assert [(row["id"], row["customer"], row["amount"], row["count"]) for row in rows] == [(1, "1234567890123", 1.25, 3), (2, "7.5", None, 4)]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"id": pa.array([1, 2]), "customer": pa.array([1.0, 2.0**53 + 2])},
            r"row 2: customer: .*9007199254740994.0; a floating",
        ),
        ({"id": pa.array([1.0, 2.5]), "customer": pa.array(["a", "b"])}, r"row 2: id: expected int64, found 2.5"),
        ({"id": pa.array([1, 2]), "customer": pa.array(["a", None])}, r"row 2: customer: expected a value, found none"),
        ({"id": pa.array([True, False]), "customer": pa.array(["a", "b"])}, r"row 1: id: expected int64, found a column of bool"),
        ({"id": pa.array([1, 2**63], pa.uint64()), "customer": pa.array(["a", "b"])}, r"row 2: id: expected int64, found 9223372036854775808"),
        ({"id": pa.array([1, 2]), "customer": pa.array([["a"], ["b"]])}, r"row 1: customer: expected string, which a column of list"),
    ],
)
def test_parquet_that_does_not_fit_is_refused_by_row(tmp_path: Path, columns: dict[str, pa.Array], says: str) -> None:
    with pytest.raises(DataSetError, match=r"orders\.parquet: " + says):
        read(plan_of(tmp_path), tmp_path, "orders.parquet", parquet(**columns, **TWO))


def test_json_lines_keep_the_digits_of_decimals_and_are_json_to_the_letter(tmp_path: Path) -> None:
    money = {"name": "money", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}}
    plan = plan_of(tmp_path)
    stream = replace(plan.streams["orders"], user_schema=json.dumps({"type": "record", "name": "Order", "fields": [FIELDS[0], money]}))
    file = tmp_path / "orders.jsonl"
    file.write_text('{"id": 1, "money": 12345678901234567.89, "seen": 1.5}\n')
    rows = read_json(file, stream, "seen").columns.to_pylist()
    assert rows == [{"id": 1, "money": Decimal("12345678901234567.89"), "seen": "1.5"}]
    huge = "1e99999999999999999999"
    for text, says in [("NaN", "expected a number in money, found NaN, which JSON does not have"), (huge, rf"decimal\(20, 2\) in money.*{huge}")]:
        file.write_text('{"id": 1, "money": 2.5}\n{"id": 1, "money": ' + text + "}\n")
        with pytest.raises(DataSetError, match=rf"orders\.jsonl:2: .*{says}"):
            read_json(file, stream, "seen")


def test_an_empty_json_file_and_a_lone_header_are_no_rows(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for name, content in (("orders.jsonl", ""), ("orders.csv", "id,customer,at\n")):
        with pytest.raises(DataSetError, match="expected at least one record in data set"):
            read(plan, tmp_path, name, content)
        (tmp_path / "data" / name).unlink()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_row_of_ten_megabytes_is_read_and_refused_where_a_topic_takes_less(tmp_path: Path, ending: str) -> None:
    """In CSV it was refused in Arrow's words: `straddling object straddles two block boundaries`."""
    plan, long = plan_of(tmp_path), "x" * 10_000_000
    rows = [{"id": i, "customer": customer, "at": NEW_YEAR} for i, customer in enumerate(["a", long, "b"])]
    texts = io.StringIO()
    pd.DataFrame(rows).to_csv(texts, index=False)
    written = io.BytesIO()
    pd.DataFrame(rows).to_parquet(written)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    contents: dict[str, bytes | str] = {"csv": texts.getvalue(), "jsonl": lines, "parquet": written.getvalue()}
    assert [row["customer"] for row in read(plan, tmp_path, f"orders.{ending}", contents[ending])] == ["a", long, "b"]
    table = load_data_set(plan, str(tmp_path / "data"), DataSetOptions())["orders"]
    whole, bounded = (TableFeed(plan.streams["orders"], table, MemorySchemaRegistry(), most) for most in (None, 1_000_000))
    assert len(whole.records(0, 3)[1]) == len(bounded.records(0, 1)[1]) + 2 == 3
    place = {"csv": "orders.csv:3", "jsonl": "orders.jsonl:2", "parquet": "orders.parquet: row 2"}[ending]
    with pytest.raises(DataSetError, match=f"{place}: expected a record that shop-orders takes, of at most 1,000,000 bytes .*, found one of"):
        bounded.records(0, 3)


def test_a_row_of_csv_that_is_longer_than_any_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.replay.csv_file.LONGEST_ROW_BYTES", 3 << 20)
    content = f"id,customer,at\n1,a,{NEW_YEAR}\n2,{'x' * (8 << 20)},{NEW_YEAR}\n"
    with pytest.raises(DataSetError, match=r"orders.csv:3: expected a row of at most 3,145,728 bytes, found one of 8,388,6\d\d"):
        read(plan_of(tmp_path), tmp_path, "orders.csv", content)
