"""Debezium's change events, as its documentation shows them, are rows, deletions and what is skipped; never a wrong row in silence."""

import base64
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header
from tidemill.shared.log.heartbeat import HEARTBEAT_KEY
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW = 1_760_000_000_000
REJECTED = (Path(__file__).parents[4] / "schemas" / "rejected.avsc").read_text("utf-8")
# The customers of the documentation of Debezium's PostgreSQL connector.
ROW: list[dict[str, Any]] = [
    {"name": "id", "type": "int"},
    {"name": "first_name", "type": "string"},
    {"name": "last_name", "type": "string"},
    {"name": "email", "type": "string"},
]
SOURCE = {
    "version": "2.7.0.Final", "connector": "postgresql", "name": "PostgreSQL_server", "ts_ms": 1559033904863, "ts_us": 1559033904863123,
    "ts_ns": 1559033904863123000, "snapshot": True, "db": "postgres", "sequence": '["24023119","24023128"]', "schema": "public", "table": "customers",
    "txId": 555, "lsn": 24023128, "xmin": None,
}  # fmt: skip
ANNE = {"id": 1, "first_name": "Anne", "last_name": "Kretchmar", "email": "annek@noanswer.org"}
CREATE: dict[str, Any] = {
    "before": None, "after": ANNE, "source": SOURCE, "op": "c", "ts_ms": 1559033904863, "ts_us": 1559033904863841, "ts_ns": 1559033904863841257,
}  # fmt: skip
UPDATE: dict[str, Any] = {
    "before": {"id": 1}, "after": {**ANNE, "first_name": "Anne Marie"}, "source": {**SOURCE, "snapshot": False, "txId": 556}, "op": "u",
    "ts_ms": 1465584025523,
}  # fmt: skip
DELETE: dict[str, Any] = {
    "before": {"id": 1}, "after": None, "source": {**SOURCE, "snapshot": False, "txId": 556, "lsn": 46523128}, "op": "d", "ts_ms": 1465581902461,
}  # fmt: skip
TRUNCATE: dict[str, Any] = {"source": {**SOURCE, "lsn": 46523128}, "op": "t", "ts_ms": 1559033904961}
MYSQL = {
    "connector": "mysql",
    "name": "mysql-server-1",
    "ts_ms": 1465581029100,
    "server_id": 223344,
    "file": "mysql-bin.000003",
    "pos": 484,
    "row": 0,
}
APPLICATION = """
app: shop
owner: shop@example.org
partition_by: id
streams:
  customers:
    topic: customers
    schema: customer.avsc
    envelope: debezium
    allowed_lateness: 9999d
"""
EVENTS = APPLICATION + "    primary_key: id\n"
REFERENCE = """
app: shop
owner: shop@example.org
partition_by: order_id
streams:
  orders: {topic: orders, schema: order.avsc, event_id: order_id, event_time: at}
  customers: {topic: customers, schema: customer.avsc, envelope: debezium, kind: reference, key: id, max_age: 9999d}
models: {}
"""
ORDER = {"type": "record", "name": "Order", "fields": [
    {"name": "order_id", "type": "string"},
    {"name": "id", "type": "int"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]}  # fmt: skip


def customers(fields: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"type": "record", "name": "Value", "namespace": "db.public.customers", "fields": fields or ROW}


def envelope(fields: list[dict[str, Any]] | None = None, source: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The schema that Debezium's Avro converter registers, its own fields first."""
    about = source or [
        {"name": "connector", "type": "string"},
        {"name": "ts_ms", "type": "long"},
        {
            "name": "snapshot",
            "type": [{"type": "string", "connect.name": "io.debezium.data.Enum", "connect.default": "false"}, "null"],
            "default": "false",
        },
        {"name": "lsn", "type": ["null", "long"], "default": None},
    ]
    block = {"type": "record", "name": "block", "namespace": "event", "fields": [{"name": "id", "type": "string"}]}
    return {
        "type": "record", "name": "Envelope", "namespace": "db.public.customers", "connect.name": "db.public.customers.Envelope",
        "fields": [
            {"name": "before", "type": ["null", customers(fields)], "default": None},
            {"name": "after", "type": ["null", "Value"], "default": None},
            {"name": "source", "type": {"type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql", "fields": about}},
            {"name": "transaction", "type": ["null", block], "default": None},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"], "default": None},
        ],
    }  # fmt: skip


class Bench:
    """Ingestion of one stream of changes, in memory."""

    def __init__(self, folder: Path, application: str = EVENTS, schema: dict[str, Any] | None = None) -> None:
        (folder / "app.yaml").write_text(application)
        (folder / "customer.avsc").write_text(json.dumps(schema or customers()))
        (folder / "order.avsc").write_text(json.dumps(ORDER))
        self.plan: Plan = load_plan(folder)
        self.registry = MemorySchemaRegistry()
        self.task = IngestionTask(self.plan, self.registry, 0, "live")
        self.offset = 0

    def step(self, *messages: Any, key: bytes | None = b'{"id":1}') -> Step:
        values = [one if isinstance(one, bytes) or one is None else json.dumps(one).encode() for one in messages]
        n = len(values)
        records = Records("customers", 0, np.arange(self.offset, self.offset + n), np.full(n, NOW), [key] * n, values)
        self.offset += n
        ends = frozenset(TopicPartition(stream.topic, 0) for stream in self.plan.streams.values())
        return self.task.process([records], StepContext(NOW, ends))

    def entries(self, step: Step) -> list[dict[str, Any]]:
        decoder = ColumnDecoder(self.registry, self.plan.streams["customers"].entry_schema)
        values = [value for e in step.emissions if e.topic == self.plan.topics.journal for value in e.values]
        rows: list[dict[str, Any]] = decoder.decode(values).batch.to_pylist()
        return rows

    def letters(self, step: Step) -> list[tuple[str, str]]:
        codec = RecordCodec(self.registry, "r", REJECTED)
        dead = [codec.decode(v) for e in step.emissions if e.topic == self.plan.topics.rejected for v in e.values if v is not None]
        return [(str(letter["reason"]), str(letter["detail"])) for letter in dead]

    def avro(self, schema: dict[str, Any], message: dict[str, Any]) -> bytes:
        out = io.BytesIO(header(self.registry.register("customers-value", json.dumps(schema))))
        out.seek(0, 2)
        fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), message)
        return out.getvalue()


def wrapped(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {"type": "struct", "fields": [], "optional": False, "name": "PostgreSQL_server.inventory.customers.Envelope"},
        "payload": message,
    }


@pytest.mark.parametrize("form", [lambda message: message, wrapped], ids=["plain", "wrapped"])
def test_the_messages_of_the_documentation_are_rows_and_their_deletion_is_skipped(tmp_path: Path, form: Any) -> None:
    bench = Bench(tmp_path)
    step = bench.step(form(CREATE), form(UPDATE), form(DELETE), None)
    created, updated = bench.entries(step)
    assert {name: created[name] for name in ANNE} == ANNE
    assert {name: updated[name] for name in ANNE} == UPDATE["after"]
    assert [entry["debezium.op"] for entry in (created, updated)] == ["c", "u"]
    assert [entry["_event_id"] for entry in (created, updated)] == ["c:24023128:1", "u:24023128:1"]
    assert created["_event_time"].timestamp() * 1_000 == pytest.approx(SOURCE["ts_ms"])
    assert updated["debezium.ts_ms"].timestamp() * 1_000 == pytest.approx(UPDATE["ts_ms"])
    assert bench.letters(step) == []
    assert step.flagged == {("customers", "tombstone"): 1, ("customers", "skipped_delete"): 1}


def test_what_the_connector_sends_again_is_a_duplicate_and_a_heartbeat_is_no_tombstone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    again = {**CREATE, "ts_ms": CREATE["ts_ms"] + 60_000}
    assert len(bench.entries(bench.step(CREATE))) == 1
    step = bench.step(again, UPDATE)
    assert [entry["debezium.op"] for entry in bench.entries(step)] == ["u"]
    assert sum(len(e) for e in step.emissions if e.topic == bench.plan.topics.duplicates) == 1
    assert not bench.step(None, key=HEARTBEAT_KEY).flagged


def test_a_truncation_and_what_is_no_operation_are_dead_letters_that_name_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    step = bench.step(wrapped(TRUNCATE), {**CREATE, "op": "x"}, {**CREATE, "after": None}, CREATE)
    assert len(bench.entries(step)) == 1
    letters = bench.letters(step)
    assert [reason for reason, _ in letters] == ["truncate", "unknown_operation", "missing_row"]
    assert "TRUNCATE" in letters[0][1]
    assert "'x'" in letters[1][1]


def test_a_deletion_is_a_dead_letter_or_an_event_by_declaration(tmp_path: Path) -> None:
    bench = Bench(tmp_path, EVENTS + "    deletes: reject\n    updates: reject\n")
    step = bench.step(DELETE, UPDATE, CREATE)
    assert [reason for reason, _ in bench.letters(step)] == ["unexpected_operation"] * 2
    assert len(bench.entries(step)) == 1
    bench = Bench(tmp_path, EVENTS + "    deletes: event\n")
    step = bench.step({**DELETE, "before": ANNE}, DELETE)
    (entry,) = bench.entries(step)
    assert ({name: entry[name] for name in ANNE}, entry["debezium.op"], entry["_event_id"]) == (ANNE, "d", "d:46523128:1")
    ((reason, detail),) = bench.letters(step)
    assert reason == "incomplete_row"
    assert "first_name" in detail
    assert "REPLICA IDENTITY FULL" in detail


def test_where_only_insertions_are_events_the_row_may_name_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path, APPLICATION + "    event_id: id\n    updates: skip\n")
    step = bench.step(CREATE, UPDATE, DELETE)
    assert [entry["_event_id"] for entry in bench.entries(step)] == ["1"]
    assert step.flagged == {("customers", "skipped_update"): 1, ("customers", "skipped_delete"): 1}


@pytest.mark.parametrize("schema", [envelope(), customers()], ids=["envelope", "row"])
def test_avro_of_the_registry_is_read_with_either_schema_file(tmp_path: Path, schema: dict[str, Any]) -> None:
    bench = Bench(tmp_path, EVENTS + "    deletes: event\n", schema)
    about = {"connector": "postgresql", "ts_ms": SOURCE["ts_ms"], "snapshot": "false", "lsn": 7}
    messages = [{**CREATE, "source": about}, {"before": ANNE, "after": None, "op": "d", "ts_ms": None, "source": {**about, "lsn": 8}}]
    step = bench.step(*(bench.avro(envelope(), message) for message in messages))
    assert bench.letters(step) == []
    created, deleted = bench.entries(step)
    assert {name: created[name] for name in ANNE} == {name: deleted[name] for name in ANNE} == ANNE
    assert [one["_event_id"] for one in (created, deleted)] == ["c:7:1", "d:8:1"]
    if "op" in str(schema):
        assert (created["debezium.source.lsn"], created["debezium.source.snapshot"]) == (7, "false")


def test_the_place_in_the_log_is_that_of_the_connector(tmp_path: Path) -> None:
    server = {"connector": "sqlserver", "change_lsn": "00000027:00000758:0003", "commit_lsn": "00000027:00000758:0005", "event_serial_no": 2}
    oracle = {"connector": "oracle", "scn": "2122185", "rs_id": "001234.00012345.0124", "ssn": 1}
    bench = Bench(tmp_path)
    step = bench.step(
        *({**CREATE, "source": {"ts_ms": NOW, **about}} for about in (MYSQL, {**MYSQL, "row": 1}, server, oracle, {"connector": "new"}))
    )
    assert [entry["_event_id"] for entry in bench.entries(step)] == [
        "c:223344:mysql-bin.000003:484:0:1", "c:223344:mysql-bin.000003:484:1:1", "c:00000027:00000758:0003:2:1",
        "c:2122185:001234.00012345.0124:1:1",
    ]  # fmt: skip
    ((reason, detail),) = bench.letters(step)
    assert reason == "missing_event_id"
    assert "derive an event_id" in detail


def test_keys_of_several_columns_are_told_apart(tmp_path: Path) -> None:
    fields = [{"name": "id", "type": "string"}, {"name": "line", "type": "string"}]
    bench = Bench(tmp_path, APPLICATION + "    primary_key: [id, line]\n", customers(fields))
    step = bench.step({**CREATE, "after": {"id": "a:b", "line": "c"}}, {**CREATE, "after": {"id": "a", "line": "b:c"}})
    assert len(bench.entries(step)) == 2


def test_a_row_of_a_reference_stream_is_replaced_and_deleted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, REFERENCE)
    step = bench.step(CREATE, UPDATE, DELETE, None)
    assert bench.letters(step) == []
    created, updated, deleted = bench.entries(step)
    assert [entry["_deleted"] for entry in (created, updated, deleted)] == [False, False, True]
    assert (deleted["id"], deleted["first_name"], deleted["debezium.op"]) == (1, None, "d")
    keys = [key for e in step.emissions if e.topic == bench.plan.topics.journal for key in e.keys]
    assert keys == [b"1"] * 3
    assert step.flagged == {("customers", "tombstone"): 1}


def test_a_deletion_without_its_key_and_a_key_that_changes_are_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, REFERENCE)
    step = bench.step({**DELETE, "before": None}, {**UPDATE, "before": {"id": 2}})
    assert bench.entries(step) == []
    assert [reason for reason, _ in bench.letters(step)] == ["incomplete_row", "changed_key"]


def test_a_value_that_the_connector_does_not_know_is_no_text(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    step = bench.step({**UPDATE, "after": {**ANNE, "email": "__debezium_unavailable_value"}})
    ((reason, detail),) = bench.letters(step)
    assert (reason, detail[:5]) == ("unavailable_value", "email")


TIMES: list[dict[str, Any]] = [
    {"name": "id", "type": "int"},
    {"name": "born", "type": {"type": "int", "connect.name": "io.debezium.time.Date"}},
    {"name": "ms", "type": ["null", {"type": "long", "connect.name": "io.debezium.time.Timestamp"}], "default": None},
    {"name": "us", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
    {"name": "zoned", "type": ["null", {"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}], "default": None},
    {"name": "price", "type": {
        "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2, "connect.name": "org.apache.kafka.connect.data.Decimal",
        "connect.parameters": {"scale": "2", "connect.decimal.precision": "12"}}},
    {"name": "picture", "type": ["null", "bytes"], "default": None},
]  # fmt: skip
TIMED = {"id": 1, "born": 17702, "ms": 1529507596945, "us": 1529507596945104, "zoned": "2018-06-20T15:13:16.945104+02:00"}


def test_debezium_s_times_and_decimals_are_ours_in_avro_and_in_json(tmp_path: Path) -> None:
    bench = Bench(tmp_path, EVENTS, envelope(TIMES))
    row = {**TIMED, "price": Decimal("-12.34"), "picture": b"\xff\x00"}
    about = {"connector": "postgresql", "ts_ms": SOURCE["ts_ms"], "snapshot": "false", "lsn": 7}
    avro = bench.avro(envelope(TIMES), {**CREATE, "after": row, "source": about})
    unscaled = base64.b64encode((-1234).to_bytes(2, "big", signed=True)).decode()
    texts = {**TIMED, "price": unscaled, "picture": base64.b64encode(b"\xff\x00").decode()}
    numbers = {**TIMED, "price": "-12.34", "zoned": None}
    step = bench.step(avro, {**CREATE, "after": texts}, {**CREATE, "after": numbers, "source": {**SOURCE, "lsn": 9}})
    assert bench.letters(step) == []
    first, second, third = bench.entries(step)
    for entry in (first, second):
        assert str(entry["born"]) == "2018-06-20"
        assert [entry["ms"].isoformat(), entry["us"].isoformat()] == ["2018-06-20T15:13:16.945000", "2018-06-20T15:13:16.945104"]
        assert entry["zoned"].isoformat() == "2018-06-20T13:13:16.945104"
        assert (entry["price"], entry["picture"]) == (Decimal("-12.34"), b"\xff\x00")
    assert (third["price"], third["zoned"]) == (Decimal("-12.34"), None)


def test_a_text_that_may_be_a_number_or_base64_is_refused_until_it_is_declared(tmp_path: Path) -> None:
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "int"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 0}},
    ]
    message = {**CREATE, "after": {"id": 1, "price": "1234"}}
    ((reason, detail),) = (bench := Bench(tmp_path, EVENTS, customers(fields))).letters(bench.step(message))
    assert (reason, "decimals: base64" in detail) == ("invalid_json", True)
    for declared, value in (("number", 1234), ("base64", int.from_bytes(base64.b64decode("1234"), "big", signed=True))):
        bench = Bench(tmp_path, f"{EVENTS}    decimals: {declared}\n", customers(fields))
        assert [entry["price"] for entry in bench.entries(bench.step(message))] == [Decimal(value)]


def test_a_time_of_another_unit_than_declared_is_refused_wherever_the_message_says_it(tmp_path: Path) -> None:
    declared = [TIMES[0], {"name": "us", "type": {"type": "long", "logicalType": "timestamp-millis"}}]
    bench = Bench(tmp_path, EVENTS, customers(declared))
    about = {"connector": "postgresql", "ts_ms": SOURCE["ts_ms"], "snapshot": "false", "lsn": 7}
    row = {**TIMED, "price": Decimal(1), "picture": None}
    said = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": [
        {"field": "us", "type": "int64", "name": "io.debezium.time.MicroTimestamp"}]}]}  # fmt: skip
    step = bench.step(
        bench.avro(envelope(TIMES), {**CREATE, "after": row, "source": about}), {"schema": said, "payload": {**CREATE, "after": {"id": 1, "us": 1}}},
    )  # fmt: skip
    assert bench.entries(step) == []
    for _, detail in bench.letters(step):
        assert "us" in detail
        assert "timestamp-micros" in detail


VARIABLE = {"type": "record", "name": "V", "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]}


@pytest.mark.parametrize(
    ("name", "kind", "out"),
    [
        ("io.debezium.time.NanoTimestamp", "long", "time.precision.mode"),
        ("io.debezium.data.VariableScaleDecimal", VARIABLE, "decimal.handling.mode"),
    ],
)
def test_check_names_a_type_that_is_not_carried_and_the_way_out(tmp_path: Path, name: str, kind: Any, out: str) -> None:
    declared = {**(kind if isinstance(kind, dict) else {"type": kind}), "connect.name": name}
    with pytest.raises(ApplicationError, match=f"field odd.*{name}.*{out}"):
        Bench(tmp_path, EVENTS, envelope([*ROW, {"name": "odd", "type": ["null", declared]}]))


@pytest.mark.parametrize(
    ("application", "schema", "message"),
    [
        (APPLICATION, None, "event_id, or primary_key"),
        (APPLICATION + "    event_id: id\n", None, "primary_key"),
        (APPLICATION + "    event_id: id\n    updates: skip\n    deletes: event\n", None, "primary_key"),
        (APPLICATION + "    event_id: named\n    derive: {named: \"email || 'x'\"}\n", None, "primary_key"),
        (EVENTS.replace("primary_key: id", "primary_key: nobody"), None, "identify"),
        (EVENTS.replace("    envelope: debezium\n", "    event_time: id\n"), None, "primary_key without envelope"),
        (REFERENCE.replace("key: id", "key: id, deletes: skip"), None, "no updates, deletes or primary_key"),
        (EVENTS, customers([*ROW, {"name": "debezium", "type": "string"}]), "debezium"),
        (EVENTS, {"type": "record", "name": "E", "fields": [{"name": "op", "type": "string"}, {"name": "after", "type": "string"}]}, "MongoDB"),
    ],
)
def test_check_refuses_what_would_lose_changes_in_silence(tmp_path: Path, application: str, schema: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ApplicationError, match=message):
        Bench(tmp_path, application, schema)


def test_an_id_derived_from_the_place_in_the_log_is_one(tmp_path: Path) -> None:
    application = APPLICATION + '    event_id: change\n    derive: {change: "debezium.op || CAST(debezium.source.lsn AS VARCHAR)"}\n'
    bench = Bench(tmp_path, application, envelope())
    assert [entry["_event_id"] for entry in bench.entries(bench.step(CREATE))] == ["c24023128"]


def test_check_says_what_to_declare_for_an_envelope(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match="these are of Debezium's envelope: declare envelope: debezium"):
        Bench(tmp_path, APPLICATION.replace("    envelope: debezium\n", "    event_id: id\n    event_time: ts_ms\n"), envelope())
