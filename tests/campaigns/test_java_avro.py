"""The pairs of schemas that are held to Java's Avro are what they claim to be; Java itself is asked by `make avro-java`."""

import json
from itertools import islice

import fastavro

from campaigns.java_avro.pairs import pairs
from tests.property.avro_types import encoded
from tidemill.shared.avro.columns import ColumnDecoder
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.avro.wire import header


def test_generated_pairs_are_schemas_with_rows_and_one_seed_gives_the_same_ones() -> None:
    drawn = list(islice(pairs(7), 150))
    assert drawn == list(islice(pairs(7), 150)) != list(islice(pairs(8), 150))
    read = refused = 0
    for pair in drawn:
        fastavro.parse_schema(json.loads(json.dumps(pair.reader)))
        registry = MemorySchemaRegistry()
        place = header(registry.register("s", json.dumps(pair.writer)))
        decoder = ColumnDecoder(registry, json.dumps(pair.reader), exact_length=True)
        decoded = decoder.decode([place + encoded(json.dumps(pair.writer), row) for row in pair.rows])
        decoded.batch.validate(full=True)
        read, refused = read + len(decoded.rows), refused + len(decoded.errors)
    assert min(read, refused) > 50
