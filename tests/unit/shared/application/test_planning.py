import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.expressions import ExpressionError, compile_expression
from tidemill.shared.application.planning import load_application, load_plan

FLIGHTS = Path(__file__).parents[4] / "examples" / "flights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FLIGHTS, tmp_path / "flights"))


def change(folder: Path, old: str, new: str) -> int:
    """Replace text in app.yaml; returns the line (from 1) it stands on."""
    text = (folder / "app.yaml").read_text()
    assert text.count(old) >= 1, old
    (folder / "app.yaml").write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_the_flights_application_plans() -> None:
    plan = load_plan(FLIGHTS)
    assert plan.asking_streams == ["departures"]
    names = [feature.name for feature in plan.features]
    assert len(set(names)) == len(names)
    assert {"hour", "weather__temp", "route_delay__mean_7d", "aircraft_late__time_since_last", "dest_late__mean_all"} <= set(names)
    assert plan.vector_arrow.names[7:] == names
    assert not {"dep_delay", "arr_delay"} & set(names), "known only after the question is asked"


def test_the_same_files_have_the_same_hash_and_others_another(folder: Path) -> None:
    assert load_plan(folder).application_hash == load_plan(FLIGHTS).application_hash
    change(folder, "windows: [3h]", "windows: [4h]")
    assert load_plan(folder).application_hash != load_plan(FLIGHTS).application_hash


@pytest.mark.parametrize(
    ("old", "new", "expected", "came"),
    [
        ("entity: route, source: arrivals, value: late", "entity: rout, source: arrivals, value: late", "one of the entities", "rout"),
        (
            "source: departures, aggregate: [count], windows: [3h]",
            "source: departures, aggregate: [median], windows: [3h]",
            "one of the aggregates",
            "median",
        ),
        ("aggregate: [count], windows: [1h, 3h]}", "aggregate: [count]}", "windows for count", "none"),
        ("aggregate: [count], windows: [1h, 3h]}", "aggregate: [sum], windows: [1h]}", "a `value:` for sum", "none"),
        ("distance > 0 AND distance < 6000", "distance >", "a SQL expression", "distance >"),
        (
            "    fallback: {default: 0.24}",
            "    gate: {fairness: {columns: [tailnum]}}\n    fallback: {default: 0.24}",
            "a feature of the model",
            "tailnum",
        ),
        (
            "    fallback: {default: 0.24}",
            "    gate: {block: 7d}\n    fallback: {default: 0.24}",
            "gate: a span of at least seven blocks",
            "block",
        ),
        ("distance > 0 AND distance < 6000", "distance + 1", "an expression of type bool", "distance + 1"),
        ("local_minute / 60", "minute_of_day / 60", "a SQL expression", "minute_of_day"),
        ("local_minute / 60", "origin + 1", "a SQL expression", "origin + 1"),
        ("allowed_lateness: 2h", "allowed_lateness: 2 hours", "a duration such as 30s", "2 hours"),
        ("allowed_lateness: 2h", "deduplicate: {within: 71h}", "at least 259200 s, twice the longest max_delay", "255600 s"),
        ("ask: departures", "ask: departure", "ask: an event stream", "departure"),
        ("join: flight_id", "join: flight", "join: a column of arrivals", "flight"),
        ("fallback: {default: 0.24}", "fallback: {default: 24}", "default: a probability from 0 to 1", "24"),
        ("schema: schemas/weather.avsc", "schema: schemas/wether.avsc", "an Avro schema file", "wether"),
        ("topic: flights-arrivals", "topic: flights-departures", "a topic of its own", "flights-departures"),
        ("topic: flights-arrivals", "topic: flights-journal", "a topic that is none of flights's own (flights-journal)", "flights-journal"),
        ("topic: flights-arrivals", "topic: flights-drift-progress", "a topic that is none of flights's own", "flights-drift-progress"),
        ("topic: flights-arrivals", "topic: __consumer_offsets", "Kafka keeps . and ..", "__consumer_offsets"),
        ("topic: flights-arrivals", "topic: '..'", "Kafka keeps . and ..", ".."),
        ("topic: flights-arrivals", "topic: flights arrivals", "String should match pattern", "flights arrivals"),
        ("topic: flights-arrivals", f"topic: {'a' * 250}", "String should match pattern", "aaa"),
        ("app: flights", f"app: {'a' * 101}", "String should have at most 100 characters", "aaa"),
        ("partitions: 1", "partitions: 1000000", "Input should be less than or equal to 10000", "1000000"),
        ("allowed_lateness: 2h", "allowed_lateness: 9999999999999d", "at most 36525d, a century", "9999999999999d"),
        ("windows: [3h]", "windows: [99999999d]", "at most 36525d, a century", "99999999d"),
        ("max_delay: 36h", "max_delay: 1000000000000000000000ms", "at most 36525d, a century", "1000000000000000000000ms"),
        ("schedule: 21d", "schedule: 0s", "a second between trainings at least", "0s"),
        ("bootstrap_labels: 30000", f"bootstrap_labels: {10**30}", "less than or equal to 1000000000", "1000000000000000000000000000000"),
        ("min_rows: 5000", "min_rows: 5000000000", "less than or equal to 1000000000", "5000000000"),
        ("ttl: 60d", "ttl: 0s", "greater than 0", "0"),
        ("windows_days: [0, 60]", "windows_days: []", "at least 1 item", "[]"),
        ("windows_days: [0, 60]", "windows_days: [-1]", "greater than or equal to 0", "-1"),
        ("holdout_days: 7", "holdout_days: .inf", "less than or equal to 36525", "inf"),
        ("event_time: observed", "times: {temp: seconds}\n    event_time: observed", "a column of times in the stream's schema: observed", "temp"),
        ("event_time: observed", "times: {observed: minutes}\n    event_time: observed", "one of milliseconds, seconds", "'minutes'"),
        ("event_time: observed", "event_time: temp", "a column of type timestamp-millis", "double"),
        ("{departures: tailnum, arrivals: tailnum}", "{departures: tail, arrivals: tailnum}", "a text or whole-number column of departures", "tail"),
        ("weather.*, origin_*", "weather.*, orgin_*", "features among", "orgin_*"),
        ("partitions: 1", "partitions: 4", "an entity that is the partition key flight_id", "origin"),
        ("kind: binary", "kind: binry", "binary", "binry"),
        ("owner: flight", "owners: flight", "owner", "nothing"),
    ],
)
def test_mistakes_name_file_line_expected_and_found(folder: Path, old: str, new: str, expected: str, came: str) -> None:
    line = change(folder, old, new)
    with pytest.raises(ApplicationError) as caught:
        load_plan(folder)
    assert caught.value.file == folder / "app.yaml"
    assert expected in caught.value.expected
    assert came in caught.value.came
    if came not in ("nothing", "double", "origin"):
        assert caught.value.line == line


def test_a_schema_file_may_begin_with_a_mark_and_is_utf_8(folder: Path) -> None:
    schema = folder / "schemas/weather.avsc"
    text, plain = schema.read_text(), load_plan(folder)
    schema.write_bytes(text.encode("utf-8-sig"))
    assert load_plan(folder).application_hash == plain.application_hash
    schema.write_bytes(text.replace('"record"', '"record", "doc": "Wärme"', 1).encode("latin-1"))
    with pytest.raises(ApplicationError, match=r"an Avro record schema in schemas/weather\.avsc, found 'utf-8' codec can't decode byte 0xe4"):
        load_plan(folder)


def test_topics_that_kafka_takes_for_one_are_refused(folder: Path) -> None:
    change(folder, "topic: flights-departures", "topic: my.flights")
    line = change(folder, "topic: flights-arrivals", "topic: my_flights")
    with pytest.raises(ApplicationError, match=r"a topic that differs from my\.flights in more than \. and _") as caught:
        load_plan(folder)
    assert caught.value.line == line


@pytest.mark.parametrize("name", ["orders__1", "orders1", "orders_1_"])
def test_streams_whose_journal_entries_would_have_one_name_are_refused(tmp_path: Path, name: str) -> None:
    """Of two such streams with the same columns all entries were those of one, without a word."""
    fields = [{"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]
    (tmp_path / "order.avsc").write_text(json.dumps({"type": "record", "name": "Order", "fields": fields}))
    streams = "".join(f"  {one}: {{topic: t-{one}, schema: order.avsc, event_id: id, event_time: at}}\n" for one in ("orders_1", "orders_2", name))
    (tmp_path / "app.yaml").write_text(f"app: shop\nowner: me@example.org\npartition_by: id\nstreams:\n{streams}")
    with pytest.raises(ApplicationError, match=r"app.yaml:7: expected a name that differs from orders_1 in more than underscores.*Orders1Entry"):
        load_plan(tmp_path)


def test_reserved_columns_are_refused(folder: Path) -> None:
    file = folder / "schemas" / "weather.avsc"
    file.write_text(file.read_text().replace('"temp"', '"_temp"'))
    with pytest.raises(ApplicationError, match="do not begin with an underscore"):
        load_plan(folder)


def test_broken_yaml_has_a_line(folder: Path) -> None:
    (folder / "app.yaml").write_text("app: flights\nstreams: [\n")
    with pytest.raises(ApplicationError) as caught:
        load_application(folder)
    assert caught.value.line >= 2


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match="expected an application file, found none"):
        load_application(tmp_path)


def test_sections_may_have_files_of_their_own(folder: Path) -> None:
    (folder / "views").mkdir()
    (folder / "views" / "extra.yaml").write_text("carrier_traffic:\n  entity: carrier\n  source: departures\n  aggregate: [count]\n  windows: [6h]\n")
    assert "carrier_traffic__count_6h" in [feature.name for feature in load_plan(folder).features]
    (folder / "views" / "again.yaml").write_text("\ncarrier_traffic: {}\n")
    with pytest.raises(ApplicationError) as caught:
        load_plan(folder)
    assert caught.value.file.name == "extra.yaml"


@pytest.mark.parametrize("sql", ["m / 60", "m * 0.1", "CASE WHEN m > 3 THEN 1.0 ELSE 0.0 END", "s || '-' || s", "1", "m IS NOT NULL"])
def test_a_row_has_the_same_bits_alone_and_in_a_batch(sql: str) -> None:
    batch = pa.RecordBatch.from_pydict({"m": pa.array([92, None, 7, 61, 13], pa.int32()), "s": ["a", "b", None, "d", "e"]})
    expression = compile_expression(sql, batch.schema)
    together = expression.evaluate(batch)
    assert together.type == expression.type
    assert together.equals(pa.concat_arrays([expression.evaluate(batch.slice(i, 1)) for i in range(5)]))
    assert len(expression.evaluate(batch.slice(0, 0))) == 0


def test_an_expression_that_does_not_type_check_is_refused() -> None:
    with pytest.raises(ExpressionError):
        compile_expression("a + 1", pa.schema([("a", pa.string())]))


def test_the_topology_is_not_part_of_what_an_application_is(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FLIGHTS, tmp_path / "flights"))
    before = load_plan(folder)
    (folder / "app.yaml").write_text((folder / "app.yaml").read_text() + "topology: separate\n")
    after = load_plan(folder)
    assert (before.application.topology, after.application.topology) == ("fused", "separate")
    assert after.application_hash == before.application_hash


def test_more_features_than_a_switch_of_views_can_name_are_refused(folder: Path) -> None:
    schema = json.loads((folder / "schemas" / "weather.avsc").read_text())
    schema["fields"] += [{"name": f"column_{i}_{'x' * 4_000}", "type": ["null", "double"], "default": None} for i in range(260)]
    (folder / "schemas" / "weather.avsc").write_text(json.dumps(schema))
    with pytest.raises(ApplicationError, match=r"features of all models of at most 1,000,000 bytes, .* found 3\d\d features of 1,\d\d\d,\d\d\d"):
        load_plan(folder)
