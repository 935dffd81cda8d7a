"""Schemas, examples, the topic catalogue and the code name the same things, and all of them are used."""

import json
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from tidemill.shared.application.planning import load_plan
from tidemill.shared.application.topics import STAGES, Topics
from tidemill.shared.avro.columns import ColumnDecoder, ColumnEncoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.topics import catalogue_topics

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
CATALOGUE: dict[str, Any] = YAML(typ="safe").load(SCHEMAS / "topics.yaml")
NAMES = sorted(file.stem for file in SCHEMAS.glob("*.avsc"))
GENERATED = {"journal-entry", "vector"}  # made from the application by shared/application/schemas.py


def text(name: str) -> str:
    return (SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")


def examples(name: str) -> list[dict[str, Any]]:
    """JSON has no bytes: in fields of that type each character stands for one byte, as in Avro's own JSON encoding."""
    rows: list[dict[str, Any]] = json.loads((SCHEMAS / "examples" / f"{name}.json").read_text(encoding="utf-8"))
    raw = [field["name"] for field in json.loads(text(name))["fields"] if "bytes" in field["type"]]
    for row in rows:
        row.update({column: row[column].encode("latin-1") for column in raw if row[column] is not None})
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_parses_and_says_what_it_is_for(name: str) -> None:
    parsed = json.loads(text(name))
    fastavro.parse_schema(parsed)
    assert parsed["namespace"].startswith("tidemill")
    assert parsed["name"] == "".join(part.capitalize() for part in name.split("-"))
    assert len(parsed["doc"]) > 20
    assert all("doc" in field for field in parsed["fields"])


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_has_examples_that_validate_and_round_trip(name: str) -> None:
    registry, rows = MemorySchemaRegistry(), examples(name)
    assert rows
    codec = RecordCodec(registry, name, text(name))
    encoder, decoder = ColumnEncoder(registry, name, text(name)), ColumnDecoder(registry, text(name), exact_length=True)
    for row in rows:
        fastavro.validation.validate(row, fastavro.parse_schema(json.loads(text(name))), strict=True)
        assert codec.decode(codec.encode(row)) == row
    batch = pa.RecordBatch.from_pylist(
        [{key: list(v.items()) if isinstance(v, dict) else v for key, v in row.items()} for row in rows], encoder.arrow
    )
    values = encoder.encode(batch)
    assert values == [codec.encode(row) for row in rows], "both codecs write the same bytes"
    decoded = decoder.decode(values)
    assert not decoded.errors
    assert decoded.batch.equals(batch)


def test_no_example_is_an_orphan() -> None:
    assert sorted(file.stem for file in (SCHEMAS / "examples").glob("*")) == NAMES


def test_every_schema_travels_on_a_topic_and_every_topic_has_its_schemas() -> None:
    named = {schema for topic in CATALOGUE["topics"].values() for schema in topic["schemas"]}
    assert named - GENERATED == set(NAMES)
    assert GENERATED <= named
    without = [pattern for pattern, topic in CATALOGUE["topics"].items() if not topic["schemas"]]
    assert without == ["{app}-{stage}-checkpoint"], "only state is opaque"


def test_the_code_and_the_catalogue_name_the_same_topics() -> None:
    topics = Topics("shop", ())
    properties = {name: getattr(topics, name) for name, member in vars(Topics).items() if isinstance(member, property)}
    of_stages = {name for stage in STAGES for name in (topics.progress(stage), topics.checkpoint(stage))}
    assert {*properties.values(), *of_stages} == {spec.name for spec in catalogue_topics("shop", 3)}
    assert tuple(CATALOGUE["stages"]) == STAGES


def test_every_topic_has_an_owner_a_producer_and_a_consumer_that_exist() -> None:
    parties = {folder.name for folder in (ROOT / "services").iterdir() if (folder / "__init__.py").is_file()} | {"users", "{stage}"}
    for pattern, topic in CATALOGUE["topics"].items():
        assert topic["consumers"], pattern
        assert {topic["owner"], *topic["producers"], *topic["consumers"]} <= parties, pattern
        assert topic["cleanup"] == "compact" or "retention_ms" in topic, pattern
        assert topic["key"], pattern


@pytest.mark.parametrize("application", sorted(file.parent for file in (ROOT / "examples").glob("*/app.yaml")), ids=lambda folder: folder.name)
def test_generated_schemas_parse_and_carry_the_envelope(application: Path) -> None:
    plan = load_plan(application)
    for stream in plan.streams.values():
        fastavro.parse_schema(json.loads(stream.entry_schema))
        assert stream.entry_arrow.names[:6] == ["_journal_time", "_event_id", "_event_time", "_late", "_source_partition", "_source_offset"]
    fastavro.parse_schema(json.loads(plan.vector_schema))
    envelope = ["_request_id", "_ask", "_event_time", "_journal_partition", "_journal_offset", "_journal_time", "_late"]
    assert plan.vector_arrow.names[:7] == envelope
