"""A user's folder is read as the application's schemas say, and what does not fit is refused with file and row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tidemill.replay.file_rows import DataSetError
from tidemill.services.cli.dataset import DataSetOptions, load_data_set
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan

PAYMENTS = Path(__file__).parents[4] / "examples" / "payments"
NOON = 1_736_164_800_000
ROW = {"payment_id": "p1", "account_id": "a1", "merchant_id": "m1", "amount": 9.5, "currency": "EUR", "country": "DE", "event_time": NOON}
HEADER = "payment_id,account_id,merchant_id,amount,currency,country,event_time\n"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PAYMENTS)


def read(plan: Plan, folder: Path, available: str = "_available") -> dict[str, list[dict[str, object]]]:
    tables = load_data_set(plan, str(folder), DataSetOptions(available=available))
    columns = {name: table.columns.to_pylist() for name, table in tables.items()}
    for name, table in tables.items():
        for row, at in zip(columns[name], table.available_ms.tolist(), strict=True):
            row["available"] = at
    return columns


def test_csv_json_lines_and_parquet_say_the_same(plan: Plan, tmp_path: Path) -> None:
    second = {**ROW, "payment_id": "p2", "amount": 3.0, "event_time": NOON + 60_000}
    folders = [tmp_path / name for name in ("csv", "json", "parquet", "parts")]
    for folder in folders:
        folder.mkdir()
    rows = [",".join(str(value) for value in row.values()) for row in (ROW, second)]
    (folders[0] / "payments.csv").write_text(HEADER + "\n".join(rows) + "\n")
    text = {**second, "event_time": "2025-01-06T13:01:00+01:00"}
    (folders[1] / "payments.jsonl").write_text(json.dumps({**ROW, "event_time": "2025-01-06T12:00:00Z"}) + "\n" + json.dumps(text) + "\n")
    table = pa.Table.from_pylist([ROW, second])
    zoned = table.set_column(6, "event_time", table.column("event_time").cast(pa.timestamp("ms")).cast(pa.timestamp("us", "Europe/Berlin")))
    pyarrow.parquet.write_table(zoned, folders[2] / "payments.parquet")
    (folders[3] / "payments").mkdir()
    (folders[3] / "payments" / "1.csv").write_text(HEADER + rows[0] + "\n")
    (folders[3] / "payments" / "2.csv").write_text(HEADER + rows[1] + "\n")
    results = [read(plan, folder) for folder in folders]
    assert all(result == results[0] for result in results)
    assert [row["available"] for row in results[0]["payments"]] == [NOON, NOON + 60_000]


def test_a_column_may_say_when_a_row_became_known(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "chargebacks.jsonl").write_text(
        json.dumps({"payment_id": "p1", "account_id": "a1", "reported_at": NOON, "seen": "2025-01-07T12:00:00"}) + "\n"
    )
    assert read(plan, tmp_path, "seen")["chargebacks"][0]["available"] == NOON + 86_400_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("payments.csv", HEADER + "p1,a1,m1,much,EUR,DE,5\n", r"payments\.csv:2: amount: expected double, found 'much'"),
        ("payments.csv", HEADER + "p1,a1,m1,1.5,EUR,DE,0\np2,,m1,1.5,EUR,DE,5\n", r"payments\.csv:3: account_id: expected a value, found none"),
        ("payments.csv", HEADER + "p1,a1,m1,1.5,EUR,DE,noon\n", r"payments\.csv:2: event_time: .*, found 'noon'"),
        ("payments.csv", HEADER.replace("amount", "sum") + "p1,a1,m1,1.5,EUR,DE,5\n", r"payments\.csv: expected columns among .*found 'sum'"),
        ("payments.csv", "payment_id\np1\n", r"payments\.csv: expected a column account_id, which has no default"),
        ("payments.jsonl", json.dumps(ROW) + "\n" + json.dumps({**ROW, "amount": "much"}) + "\n", r"payments\.jsonl:2: expected a JSON object"),
        ("payments.parquet", "no parquet", r"payments\.parquet: expected Parquet"),
        ("refunds.csv", "x\n1\n", r"refunds\.csv: expected files named after the streams payments, chargebacks"),
        ("readme.txt", "nothing", r"ending in \.parquet, .* found none"),
    ],
)
def test_refuses_what_does_not_fit(plan: Plan, tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataSetError, match=message):
        read(plan, tmp_path)


def test_refuses_two_sources_a_missing_folder_and_another_application(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "payments.csv").write_text(HEADER)
    (tmp_path / "payments.jsonl").write_text("")
    with pytest.raises(DataSetError, match=r"one source for the stream payments, found payments\.csv, payments\.jsonl"):
        read(plan, tmp_path)
    with pytest.raises(DataSetError, match=r"expected a data set \(flights, payments\) or a folder"):
        load_data_set(plan, str(tmp_path / "nowhere"), DataSetOptions())
    with pytest.raises(DataSetError, match="streams payments, chargebacks for the data set payments; flights has departures"):
        load_data_set(load_plan(PAYMENTS.parent / "flights"), "payments", DataSetOptions(count=10))
