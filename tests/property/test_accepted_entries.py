"""Whatever values publishers send, of every type: what is accepted can be encoded, read by us and others, and laid in the lake. Oracle: fastavro."""

import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.long_forms import examples
from tests.orders_application import ORDERS, order_schema, write_orders
from tidemill.services.ingestion.task import IngestionTask
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.journal import JournalDecoder
from tidemill.shared.application.plan import Plan
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header
from tidemill.shared.lake.tables import delta_ready
from tidemill.shared.log.records import Records, Step, TopicPartition
from tidemill.shared.runner.task import StepContext

NOW = 1_760_000_000_000
_TIMES = [0, -1, NOW, -62_135_596_800_000, -62_135_596_800_001, 253_402_300_799_999, 253_402_300_800_000, 2**63 - 1, -(2**63)]
_MICROS = [*(time * 1_000 for time in _TIMES[:-2]), 2**63 - 1, -(2**63)]
_INTS = [0, -1, 2**31 - 1, -(2**31), 2_932_896, 2_932_897, -719_162, -719_163, 86_399_999, 86_400_000]
_LONGS = [0, -1, 2**63 - 1, -(2**63), 86_399_999_999, 86_400_000_000]
_BYTES = [b"", b"\x00", b"\x7f" * 3, b"\xff" * 16, b"\x00" * 40, b"\x80" + b"\x00" * 15]
# Type, and values at and beyond its edges: numbers as they are on the wire; bytes and texts as such.
EDGES: dict[str, tuple[Any, list[Any]]] = {
    "whole": ("long", _LONGS),
    "small": ("int", [*_INTS, 2**31, -(2**40)]),
    "wide": ("double", [0.0, -0.0, 5e-324, 1.7e308, float("inf"), float("nan")]),
    "narrow": ("float", [0.0, 3.4e38, 1e-45, float("inf"), float("nan")]),
    "truth": ("boolean", [True, False]),
    "text": ("string", ["", "é", "\x00", "a" * 300, "\U0001f600"]),
    "raw": ("bytes", _BYTES),
    "code": ({"type": "fixed", "name": "Code", "size": 3}, [b"abc", b"\x00\xff\x80"]),
    "colour": ({"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}, [0, 1, 2, -1, 2**40]),
    "name": ({"type": "string", "logicalType": "uuid"}, ["", "x", "0123ABCD-0123-4567-89ab-0123456789ab", "{0123abcd-0123-4567-89ab-0123456789ab}"]),
    "money": ({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, _BYTES),
    "large": ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}, _BYTES),
    "held": (
        {"type": "fixed", "name": "Held", "size": 3, "logicalType": "decimal", "precision": 6, "scale": 0},
        [b"\x00" * 3, b"\x7f\xff\xff", b"\x80\x00\x00"],
    ),
    "day": ({"type": "int", "logicalType": "date"}, _INTS),
    "at_ms": ({"type": "int", "logicalType": "time-millis"}, _INTS),
    "at_us": ({"type": "long", "logicalType": "time-micros"}, _LONGS),
    "stamp_ms": ({"type": "long", "logicalType": "timestamp-millis"}, _TIMES),
    "stamp_us": ({"type": "long", "logicalType": "timestamp-micros"}, _MICROS),
    "local_ms": ({"type": "long", "logicalType": "local-timestamp-millis"}, _TIMES),
    "local_us": ({"type": "long", "logicalType": "local-timestamp-micros"}, _MICROS),
}  # fmt: skip
APPLICATION = (
    ORDERS
    + """    future: flag
    derive: {twice: "whole * 2", later: "day", shout: "text || text", moment: "stamp_us", root: "SQRT(wide)", third: "wide / narrow"}
"""
)


def nested_fields(kind: str) -> list[dict[str, Any]]:
    """Every type plain, and then as it may stand in arrays, maps and records; named types are defined once."""
    fields = [{"name": name, "type": declared} for name, (declared, _) in EDGES.items()]
    if kind == "plain":
        return fields

    def within(name: str, declared: Any) -> Any:
        again = declared["name"] if isinstance(declared, dict) and "name" in declared else declared
        if kind == "array":
            return {"type": "array", "items": ["null", again]}
        if kind == "map":
            return {"type": "map", "values": again}
        inner = {"type": "record", "name": f"In_{name}", "fields": [{"name": "x", "type": again}]}
        return {"type": "array", "items": inner} if kind == "records" else ["null", inner]

    return [*fields, *({"name": f"in_{name}", "type": within(name, declared)} for name, (declared, _) in EDGES.items())]


def varint(number: int) -> bytes:
    rest, out = (number << 1) ^ (number >> 63) if -(2**63) <= number < 2**63 else 0, b""
    rest &= 2**64 - 1
    while rest >= 0x80:
        out, rest = out + bytes([rest & 0x7F | 0x80]), rest >> 7
    return out + bytes([rest])


def written(declared: Any, value: Any) -> bytes:
    """Plain Avro by the specification, whatever the value: no library writes what is out of range."""
    kind = declared["type"] if isinstance(declared, dict) else declared
    if kind in ("int", "long", "enum"):
        return varint(value)
    if kind in ("double", "float"):
        return struct.pack("<d" if kind == "double" else "<f", value)
    if kind == "boolean":
        return bytes([value])
    content = value.encode() if isinstance(value, str) else value
    return content if kind == "fixed" else varint(len(content)) + content


def wrapped(kind: str, declared: Any, value: Any) -> bytes:
    body = written(declared, value)
    return {
        "array": varint(1) + varint(1) + body + varint(0),
        "map": varint(1) + varint(1) + b"k" + body + varint(0),
        "records": varint(1) + body + varint(0),
        "record": varint(1) + body,
    }[kind]


def avro(number: int, kind: str, values: dict[str, Any]) -> bytes:
    name = f"o{number}".encode()
    parts = [varint(len(name)) + name, varint(NOW), *(written(EDGES[name][0], value) for name, value in values.items())]
    if kind != "plain":
        parts += [wrapped(kind, EDGES[name][0], value) for name, value in values.items()]
    return b"".join(parts)


def in_json(number: int, kind: str, values: dict[str, Any]) -> bytes:
    def shown(name: str, value: Any) -> Any:
        if name == "colour":
            return ["RED", "BLUE", "GREEN", "?"][value if 0 <= value < 3 else 3]
        if name in ("money", "large", "held"):
            return int.from_bytes(value, "big", signed=True)
        if isinstance(value, bytes):
            return value.decode("latin-1")
        return float("inf") if value != value else value

    def within(name: str, value: Any) -> Any:
        one = shown(name, value)
        return {"array": [one], "map": {"k": one}, "records": [{"x": one}], "record": {"x": one}}[kind]

    row = {"order_id": f"o{number}", "at": NOW, **{name: shown(name, value) for name, value in values.items()}}
    if kind != "plain":
        row |= {f"in_{name}": within(name, value) for name, value in values.items()}
    return json.dumps(row).replace("Infinity", "1e400").encode()


class Bench:
    """Ingestion of one stream, and what is accepted."""

    def __init__(self, fields: list[dict[str, Any]], application: str = APPLICATION) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.schema = order_schema(fields)
            self.plan: Plan = load_plan(write_orders(Path(folder), self.schema, application))
        self.registry = MemorySchemaRegistry()
        self.head = header(self.registry.register("orders", json.dumps(self.schema)))
        self.task = IngestionTask(self.plan, self.registry, 0, "live")

    def step(self, values: list[bytes]) -> Step:
        n = len(values)
        records = Records("orders", 0, np.arange(n), np.full(n, NOW), [b"k"] * n, values)
        return self.task.process([records], StepContext(NOW, frozenset({TopicPartition("orders", 0)})))

    def check(self, values: list[bytes]) -> tuple[int, int]:
        """How many are accepted and refused; every entry is read by the next stage, by fastavro, and fits the lake."""
        step = self.step(values)
        counts = {e.topic: len(e) for e in step.emissions}
        accepted, refused = counts.get(self.plan.topics.journal, 0), counts.get(self.plan.topics.rejected, 0)
        assert accepted + refused == len(values)
        for emission in step.emissions:
            if emission.topic == self.plan.topics.journal:
                journal = Records(emission.topic, 0, np.arange(accepted), np.full(accepted, NOW), emission.keys, emission.values)
                entries = JournalDecoder(self.plan, self.registry).decode(journal).groups["orders"].columns
                delta_ready(pa.Table.from_batches([entries]))
                parsed = fastavro.parse_schema(json.loads(self.plan.streams["orders"].entry_schema))
                for value in emission.values:
                    assert value is not None
                    body = io.BytesIO(value[5:])
                    fastavro.schemaless_reader(body, parsed, None)
                    assert body.read() == b""
        return accepted, refused


BENCHES = {kind: Bench(nested_fields(kind)) for kind in ("plain", "array", "map", "records", "record")}
rows = st.fixed_dictionaries({name: st.sampled_from(values) for name, (_, values) in EDGES.items()})
sane = {name: values[2] if name == "name" else values[0] for name, (_, values) in EDGES.items()}


@pytest.mark.parametrize("kind", list(BENCHES))
@pytest.mark.parametrize("form", [avro, in_json], ids=["avro", "json"])
def test_each_edge_of_each_type_alone_has_its_own_verdict(kind: str, form: Any) -> None:
    bench = BENCHES[kind]
    head = bench.head if form is avro else b""
    edges = [sane | {name: value} for name, (_, values) in EDGES.items() for value in values]
    accepted, refused = Bench(nested_fields(kind)).check([head + form(i, kind, values) for i, values in enumerate(edges)])
    assert accepted > 40
    assert refused > 15


@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(list(BENCHES)), st.lists(st.tuples(rows, st.booleans()), min_size=1, max_size=6), st.integers(0, 5))
def test_nothing_is_accepted_that_nobody_can_read(kind: str, drawn: list[tuple[dict[str, Any], bool]], tame: int) -> None:
    bench = Bench(nested_fields(kind))
    values = []
    for i, (row, as_json) in enumerate(drawn):
        # Most fields of some records are good, so that not one bad field hides all others.
        row = row if i % 6 >= tame else sane | dict(list(row.items())[i : i + 2])
        values.append(in_json(i, kind, row) if as_json else bench.head + avro(i, kind, row))
    bench.check(values)


PLAIN = APPLICATION[: APPLICATION.index("    derive")]


EMPTY = {"type": "record", "name": "Inner", "fields": []}


@pytest.mark.parametrize("kind", ["array", "map"])
@pytest.mark.parametrize(
    ("of", "says"),
    [
        (
            {"type": "record", "name": "Mark", "fields": [{"name": "inner", "type": {"type": "record", "name": "Inner", "fields": []}}]},
            "a record without",
        ),
        ({"type": "fixed", "name": "Nothing", "size": 0}, "expected a fixed of one byte and more"),
        ("null", "null"),
    ],
)
def test_items_that_take_no_room_are_refused_by_check(kind: str, of: Any, says: str) -> None:
    """A few bytes would name millions of them, which nobody could read again."""
    declared = {"type": kind, "items" if kind == "array" else "values": ["null", of] if says.startswith("a record") else of}
    with pytest.raises(ApplicationError, match=rf"field marks.*{says}"):
        Bench([{"name": "whole", "type": "long"}, {"name": "marks", "type": declared}], PLAIN)


@example(253_402_300_800_000)
@given(st.sampled_from(_TIMES))
def test_a_year_that_no_lake_has_is_refused_wherever_it_stands(time: int) -> None:
    stamp = {"type": "long", "logicalType": "timestamp-millis"}
    inner = {"type": "record", "name": "R", "fields": [{"name": "t", "type": ["null", {"type": "map", "values": stamp}]}]}
    bench = Bench([{"name": "whole", "type": "long"}, {"name": "deep", "type": {"type": "array", "items": ["null", inner]}}], PLAIN)
    texts = [
        json.dumps({"order_id": f"o{i}", "at": NOW, "whole": 1, "deep": deep}).encode()
        for i, deep in enumerate([[], [None, {"t": None}], [{"t": {"a": NOW, "b": time}}, None], [{"t": {}}, {"t": {"a": NOW}}]])
    ]
    within = -62_135_596_800_000 <= time < 253_402_300_800_000
    assert bench.check(texts) == ((4, 0) if within else (3, 1))
