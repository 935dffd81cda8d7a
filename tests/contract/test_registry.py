"""One suite for the schema registry port, on the adapter for tests and on the real one; compatibility on the real one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tidemill.deploy.embedded.component import free_port
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import ConfluentSchemaRegistry, IncompatibleSchema, MemorySchemaRegistry, SchemaNotFound, SchemaRegistry
from tidemill.shared.avro.wire import schema_id_of
from tidemill.shared.log.errors import TransientError

SCHEMAS = sorted((Path(__file__).parents[2] / "schemas").glob("*.avsc"))
Open = Callable[[], SchemaRegistry]


@pytest.fixture(params=["memory", "confluent"])
def open_registry(request: pytest.FixtureRequest) -> Open:
    """Gives a client of one and the same registry each time it is called."""
    if request.param == "memory":
        registry = MemorySchemaRegistry()
        return lambda: registry
    infrastructure: Infrastructure = request.getfixturevalue("infrastructure")
    return lambda: ConfluentSchemaRegistry(infrastructure.registry_url)


def record(app: str, *fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "R", "namespace": app.replace("-", "_"), "fields": [{"name": "a", "type": "int"}, *fields]})


def test_the_same_schema_has_one_id_for_every_client(open_registry: Open, application_name: str) -> None:
    first, second = open_registry(), open_registry()
    schema = record(application_name)
    schema_id = first.register(f"{application_name}-R", schema)
    assert first.register(f"{application_name}-R", schema) == schema_id
    assert second.register(f"{application_name}-R", json.dumps(json.loads(schema), indent=4)) == schema_id
    assert json.loads(second.schema(schema_id)) == json.loads(schema)
    assert 0 < schema_id < 2**32


def test_another_schema_has_another_id_and_the_old_one_stays(open_registry: Open, application_name: str) -> None:
    registry = open_registry()
    old = record(application_name)
    new = record(application_name, {"name": "b", "type": ["null", "string"], "default": None})
    ids = [registry.register(f"{application_name}-R", schema) for schema in (old, new)]
    assert len(set(ids)) == 2
    assert [json.loads(registry.schema(schema_id)) for schema_id in ids] == [json.loads(old), json.loads(new)]


def test_an_unknown_id_is_not_found(open_registry: Open) -> None:
    with pytest.raises(SchemaNotFound):
        open_registry().schema(2_000_000_000)


def test_messages_written_through_one_client_are_read_through_another(open_registry: Open, application_name: str) -> None:
    old = record(application_name)
    new = record(application_name, {"name": "b", "type": "double", "default": 1.5})
    value = RecordCodec(open_registry(), f"{application_name}-R", old).encode({"a": 7})
    newer = RecordCodec(open_registry(), f"{application_name}-R", new)
    assert newer.decode(value) == {"a": 7, "b": 1.5}
    assert ColumnDecoder(open_registry(), new).decode([value, newer.encode({"a": 8, "b": 2.0})]).batch.to_pylist() == [
        {"a": 7, "b": 1.5},
        {"a": 8, "b": 2.0},
    ]


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.stem)
def test_the_real_registry_takes_every_schema_of_the_project(file: Path, infrastructure: Infrastructure, application_name: str) -> None:
    registry = ConfluentSchemaRegistry(infrastructure.registry_url)
    schema = file.read_text(encoding="utf-8")
    encoder = ColumnEncoder(registry, f"{application_name}-{file.stem}", schema)
    assert json.loads(registry.schema(registry.register(f"{application_name}-{file.stem}", schema)))["name"] == json.loads(schema)["name"]
    assert encoder.encode(pa.RecordBatch.from_pylist([], schema=encoder.arrow)) == []


def test_a_change_that_readers_cannot_follow_is_refused_also_against_older_versions(infrastructure: Infrastructure, application_name: str) -> None:
    registry = ConfluentSchemaRegistry(infrastructure.registry_url)
    subject = f"{application_name}-R"
    registry.register(subject, record(application_name))
    with pytest.raises(IncompatibleSchema, match=subject):
        registry.register(subject, record(application_name, {"name": "b", "type": "string"}))
    registry.register(subject, record(application_name, {"name": "b", "type": "string", "default": ""}))
    # Readable with the second version, not with the first: only a transitive check finds it.
    with pytest.raises(IncompatibleSchema, match=subject):
        ConfluentSchemaRegistry(infrastructure.registry_url).register(subject, record(application_name, {"name": "b", "type": "string"}))


def test_an_unreachable_registry_is_a_transient_error_that_names_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/apis/ccompat/v7"
    registry = ConfluentSchemaRegistry(url)
    with pytest.raises(TransientError, match=url):
        registry.schema(1)
    with pytest.raises(TransientError, match="TIDEMILL_REGISTRY__URL"):
        registry.register("s", record("x"))


def test_ids_travel_in_the_header(open_registry: Open, application_name: str) -> None:
    registry = open_registry()
    schema_id = registry.register(f"{application_name}-R", record(application_name))
    assert schema_id_of(RecordCodec(registry, f"{application_name}-R", record(application_name)).encode({"a": 1})) == schema_id
