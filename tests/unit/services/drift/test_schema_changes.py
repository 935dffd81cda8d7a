"""A producer that writes otherwise: one finding, one incident with what follows from it; also from raw bytes to the finding in one process."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro

from tests.planted_faults import DAY as PLANTED_DAY
from tests.planted_faults import EXPECTED, FAULT, incidents
from tests.unit.services.drift.stream import DAY, START, Shop, season, shop
from tests.unit.services.drift.test_task import Pipeline, decoded
from tidemill.services.drift.domain.findings import Coordinates
from tidemill.services.drift.domain.schema_changes import ModelColumns, SchemaNews, SchemaWatch
from tidemill.services.drift.service import build
from tidemill.shared.application.lineage import Lineage
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.messages import message_schema
from tidemill.shared.avro.schema_fields import FieldChange
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.settings import RunnerSettings, ServiceSettings
from tidemill.testing.application_run import ApplicationRun

LOST = FieldChange("weight", "dropped", "double", "", "weight", "lost")
MORE = FieldChange("gift", "added", "", "boolean")
AT = Coordinates(DAY, 0, 5)
LINEAGE = {"weight": Lineage(frozenset({"orders.weight"}), "", frozenset({"orders"}))}
READS = ModelColumns.of("m", "orders", "returns", LINEAGE)


def news(stream: str = "orders", schema: int = 8, changes: tuple[FieldChange, ...] = (LOST, MORE), refused: int = 0, of: int = 100) -> SchemaNews:
    return SchemaNews(0, stream, schema, 7, 3_600_000, 40, refused, of, changes)


def rewritten(rows: Shop, day: int, schema: int, changes: list[dict[str, str]]) -> Shop:
    at = {"journal_partition": 0, "journal_offset": 0, "journal_time": START + (day + 1) * DAY - 1, "first_seen": START + day * DAY + 5}
    place = {"source_partition": 0, "source_offset": 77, "records": 120, "refused": 0, "of": 300}
    rows.schema_changes.append({"stream": "orders", "schema_id": schema, "previous_id": 7, "changes": changes, **at, **place})
    return rows


def test_severity_is_what_the_model_loses() -> None:
    for one, severity in (
        (news(), "warning"), (news(changes=(MORE,)), "info"), (news(changes=()), "info"), (news(refused=15), "warning"), (news(refused=30), "alarm"),
        (news(refused=30, of=10_000), "warning"),
        (news(changes=(FieldChange("weight", "retyped", "double", "float", "weight", "read"),)), "warning"),
        (news(changes=(FieldChange("kg", "renamed", "weight", "kg", "weight", "read"),)), "info"),
        (news(changes=(FieldChange("note", "dropped", "string", "", "note", "lost"),)), "info"),
        (news("returns", changes=(FieldChange("bad", "dropped", "double", "", "bad", "lost"),)), "warning"),
    ):  # fmt: skip
        finding = READS.finding(AT, one)
        assert finding is not None and (finding.kind, finding.subject, finding.severity) == ("schema_change", one.stream, severity), one
    assert READS.finding(AT, news("weather")) is None, "the model reads nothing of it"


def test_a_finding_says_what_since_when_and_of_how_many() -> None:
    finding = READS.finding(AT, news(refused=15))
    assert finding is not None
    assert finding.detail == (
        "orders is written with schema 8, before with 7, since 1970-01-01 01:00:00 UTC (40.0% of the day's records, 15 of them refused):"
        " weight dropped (double), column weight has no field any more; gift added (boolean), not read"
    )
    assert finding.evidence == {
        "share": 0.4, "records": 40.0, "refused": 15.0, "since_ms": 3_600_000.0, "schema_id": 8.0, "previous_id": 7.0,
    }  # fmt: skip


def test_partitions_are_told_as_one_and_once() -> None:
    watch = SchemaWatch([news(), news(refused=3), news("returns")])
    first, second = watch.close()
    assert (first.records, first.refused, first.of, first.changes) == (80, 3, 200, (LOST, MORE)) and second.stream == "returns"
    kept = SchemaWatch()
    kept.load(json.loads(json.dumps(watch.snapshot())))
    kept.waiting = [news(), news(schema=9)]
    assert [one.schema_id for one in kept.close()] == [9], "another partition comes to it a day later"
    gone = news(schema=-1, changes=(FieldChange("weight", "dropped", "", "", "weight", "lost"),))
    back = news(schema=-1, changes=(FieldChange("weight", "added", "", "", "weight", "read"),))
    for one, said in ((gone, 1), (gone, 0), (back, 1), (gone, 1)):
        kept.waiting = [one]
        assert len(kept.close()) == said, "a field that comes back and goes again is told again"


def test_what_follows_from_it_is_the_same_incident() -> None:
    newest = {one.fields["incident_id"]: one.fields for one in incidents(EXPECTED["schema_change"][0], 0)}
    (one,) = [one for one in newest.values() if "schema_change" in one["kinds"]]
    assert (one["root"], one["opened"], set(one["subjects"])) == ("stream:orders", (FAULT + 1) * PLANTED_DAY, {"orders", "weight", "speed"})
    assert "missing" in one["kinds"] and "written otherwise by its producer" in one["likely_cause"] and "schema 12" in one["detail"]


def test_records_in_any_portions_and_over_restarts(tmp_path: Path) -> None:
    lost = {"field": "weight", "change": "dropped", "before": "double", "now": "", "column": "weight", "effect": "lost"}
    more = {"field": "gift", "change": "added", "before": "", "now": "boolean", "column": "", "effect": "none"}
    rows = rewritten(rewritten(season(), 8, 12, [lost]), 10, 13, [more])
    pipeline = Pipeline(shop(tmp_path), rows)
    said = pipeline.run(0)
    assert pipeline.run(4) == said and pipeline.run(5, restarts=(9, 17, 20), snapshot_every=3) == said
    findings = [one for one in decoded(pipeline, said)[0] if one["kind"] == "schema_change"]
    assert [(one["subject"], one["severity"], one["detector"], one["journal_time"]) for one in findings] == [
        ("orders", "warning", "schema 12", START + 9 * DAY), ("orders", "info", "schema 13", START + 11 * DAY),
    ]  # fmt: skip


def test_from_raw_bytes_to_the_finding_in_one_process(tmp_path: Path) -> None:
    """Two producers: one goes over to a schema without weight on the second day, the other sends on with the old one."""
    shop(tmp_path)
    order = json.loads((tmp_path / "order.avsc").read_text())
    order["fields"] = [{**one, "default": None} if one["name"] == "weight" else one for one in order["fields"]]
    (tmp_path / "order.avsc").write_text(json.dumps(order))
    new = {**order, "fields": [*(one for one in order["fields"] if one["name"] != "weight"), {"name": "gift", "type": "string"}]}
    with ApplicationRun(tmp_path, "2026-01-01") as run:
        ids = [run.registry.register(f"shop-orders-value-{k}", json.dumps(schema)) for k, schema in enumerate((order, new))]
        for i in range(72):
            run.clock.advance("1h")
            now = int(i >= 24 and i % 2)
            run.publish("orders", _avro(ids[now], (order, new)[now], i, run.clock.now_ms()), f"o{i}")
        run.run()
        changes = _read(run, run.plan.topics.schema_changes, "schema-change")
        assert [(one["schema_id"], one["previous_id"], one["source_offset"], one["records"], one["refused"], one["of"]) for one in changes] == [
            (ids[1], ids[0], 25, 11, 0, 24)
        ]
        assert [(one["field"], one["change"], one["effect"]) for one in changes[0]["changes"]] == [
            ("gift", "added", "none"), ("weight", "dropped", "lost"),
        ]  # fmt: skip
        settings = ServiceSettings(
            application=tmp_path, instance="t", runner=RunnerSettings(commit_interval_ms=1, idle_interval_ms=1, state_folder=tmp_path)
        )
        runner = build(settings, run.broker, run.registry)
        for _ in range(20):
            runner.step()
        runner.close()
        findings = [one for one in _read(run, run.plan.topics.drift, "drift") if one["kind"] == "schema_change"]
        assert [(one["model"], one["subject"], one["severity"], dict(one["evidence"])["share"]) for one in findings] == [
            ("sent_back", "orders", "warning", 11 / 24)
        ]
        told = _read(run, run.plan.topics.found_incidents, "incident")
        assert [(one["root"], one["kinds"], one["status"]) for one in told][:1] == [("column:orders.weight", ["schema_change"], "open")]
    assert load_plan(tmp_path).topics.schema_changes == "shop-schema-changes"


def _avro(number: int, schema: dict[str, Any], i: int, time_ms: int) -> bytes:
    text = io.BytesIO()
    row = {"order_id": f"o{i}", "placed": time_ms, "amount": 1.0, "weight": 2.0, "country": "de", "gift": "x"}
    fastavro.schemaless_writer(text, fastavro.parse_schema(schema), row)
    return b"\x00" + number.to_bytes(4, "big") + text.getvalue()


def _read(run: ApplicationRun, topic: str, name: str) -> list[dict[str, Any]]:
    log = run.broker.log(TopicPartition(topic, 0))
    values = log.read(0, log.end, 10**9)[0].values
    rows: list[dict[str, Any]] = ColumnDecoder(run.registry, message_schema(name)).decode(values).batch.to_pylist()
    return rows
