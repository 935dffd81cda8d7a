"""A message's decoding does not depend on its neighbours, whichever of them are Avro, JSON, empty or null."""

import json
from itertools import product

from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry

SCHEMA = json.dumps({"type": "record", "name": "R", "fields": [{"name": "id", "type": "string"}]})


def test_a_message_is_decoded_as_if_it_came_alone() -> None:
    registry = MemorySchemaRegistry()
    decoder = RawDecoder(registry, SCHEMA)
    messages = {
        "avro": RecordCodec(registry, "s", SCHEMA).encode({"id": "a"}),
        "json": b' {"id": "b"}',
        "empty": b"",
        "junk": b"\x01{",
        "null": None,
    }
    alone = {name: decoder.decode([value]) for name, value in messages.items()}
    for names in product(messages, repeat=3):
        decoded = decoder.decode([messages[name] for name in names])
        rows = {int(row): i for i, row in enumerate(decoded.rows)}
        errors = {error.index: (error.reason, error.detail) for error in decoded.errors}
        for i, name in enumerate(names):
            one = alone[name]
            assert (i in rows, errors.get(i)) == (len(one.rows) == 1, next(((e.reason, e.detail) for e in one.errors), None)), names
            if i in rows:
                assert decoded.batch.slice(rows[i], 1).to_pylist() == one.batch.to_pylist(), names
            assert decoded.writers is not None and one.writers is not None and decoded.writers[i] == one.writers[0], names
