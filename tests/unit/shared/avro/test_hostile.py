"""Hostile schemas and values cost a bounded time in every codec, and ids that nobody registered cost next to nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.effort import effort
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.schema_tree import MOST_KEPT_TEXT, parse_type
from tidemill.shared.avro.unknown_ids import UnknownIds
from tidemill.shared.avro.wire import header
from tidemill.shared.log.errors import InvalidRecord

COMMAND = (Path(__file__).parents[4] / "schemas" / "command.avsc").read_text()


class Registry(MemorySchemaRegistry):
    """A registry in which somebody has registered whatever they liked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def schema(self, schema_id: int) -> str:
        return self._text if schema_id == 99 else super().schema(schema_id)


def _nested(depth: int, declared: str = '"int"') -> str:
    return '{"type":"array","items":' * depth + declared + "}" * depth


def _hostile() -> dict[str, tuple[str, bytes]]:
    own = json.loads(COMMAND)
    fields: list[Any] = own["fields"]
    namespace = own.get("namespace")

    def with_first(declared: Any) -> str:  # Avro JSON is free-form
        return json.dumps({**own, "fields": [{"name": "zz", "type": declared}, *fields]})

    bombs: list[Any] = [{"type": "record", "name": "B0", "fields": [{"name": "n", "type": "null"}]}]
    bombs += [{"type": "record", "name": f"B{i}", "fields": [{"name": side, "type": f"B{i - 1}"} for side in "ab"]} for i in range(1, 50)]
    levels = [{"name": f"b{i}", "type": bomb} for i, bomb in enumerate(bombs)]
    return {
        "counts without bytes": (with_first({"type": "array", "items": "null"}), bytes([0xFE] + [0xFF] * 7 + [0x7F]) + bytes(50)),
        "the most negative count": (with_first({"type": "array", "items": "null"}), bytes([0xFF] * 9 + [0x01]) + bytes(50)),
        "a value that nests": (
            json.dumps({**own, "namespace": namespace, "fields": [{"name": "next", "type": ["null", own["name"]]}, *fields]}), b"\x02" * 900_000,
        ),
        "a record that is itself": (json.dumps({**own, "fields": [{"name": "next", "type": own["name"]}, *fields]}), b"\x02" * 100),
        "a schema that nests": (with_first("@").replace('"@"', _nested(3_000)), bytes(100)),
        "a schema that nests beyond the parser": (with_first("@").replace('"@"', _nested(200_000)), bytes(100)),
        "records that double": (json.dumps({**own, "fields": [*levels, *fields]}), bytes(100)),
        "a fixed of exabytes": (with_first({"type": "fixed", "name": "F", "size": 2**62}), bytes(100)),
    }  # fmt: skip


@pytest.mark.parametrize("case", sorted(_hostile()))
def test_a_hostile_schema_is_refused_in_no_time_by_every_codec(case: str) -> None:
    schema, body = _hostile()[case]
    registry = Registry(schema)
    codec, columns = RecordCodec(registry, "s", COMMAND), ColumnDecoder(registry, COMMAND, exact_length=True)
    good = {
        "command_id": "1",
        "model": "m",
        "command": "retrain",
        "reason": "",
        "issued_at": 1,
        "signature": "",
        "version": "",
        "serving": "",
        "operator": "",
        "rules": "",
        "duration_ms": 0,
        "share": 0.0,
    }
    assert codec.decode(codec.encode(good)) == good
    # The first batch without a row loads pandas.
    assert len(columns.decode([None]).errors) == 1
    with effort() as cost:
        with pytest.raises(InvalidRecord):
            codec.decode(header(99) + body)
        assert [error.index for error in columns.decode([header(99) + body] * 3).errors] == [0, 1, 2]
    assert cost.calls < 50_000, "200 to 13,000 when this was written"


def test_ids_that_nobody_registered_are_asked_for_within_a_budget() -> None:
    unknown, asked, now = UnknownIds(), 0, 100.0
    unknown.learn(7)
    for i in range(5_000):
        if unknown.worth_asking(1_000_000 + i, now):
            asked += 1
            unknown.remember(1_000_000 + i, now)
        now += 0.001
    assert 95 <= asked <= 100  # the burst, and ten a second for five seconds
    # One that a registry would give next is asked for whatever junk there was, again once its absence is old, and so is any other later.
    assert unknown.worth_asking(8, now)
    unknown.remember(8, now)
    assert not unknown.worth_asking(8, now + 29)
    assert unknown.worth_asking(8, now + 31)
    assert unknown.worth_asking(4_000_000_000, now + 31)


def test_a_schema_is_parsed_once_in_a_process_unless_it_is_long() -> None:
    short = json.dumps({"type": "record", "name": "Short", "fields": [{"name": "n", "type": "long"}]})
    long = json.dumps({"type": "enum", "name": "Long", "symbols": [f"s{number}" for number in range(4_000)]})
    assert parse_type(short) is parse_type(short)
    assert len(long) > MOST_KEPT_TEXT
    assert parse_type(long) is not parse_type(long), "what anybody registers is kept by nobody else"
