"""The key of a record without a value is read as its row's key is written, and as nothing else that Arrow would take."""

import json
from pathlib import Path

import numpy as np
import pytest

from tidemill.services.ingestion.domain.cleaning import Cleaner
from tidemill.services.ingestion.domain.raw import RawChunk
from tidemill.services.ingestion.raw_decoder import RawDecoder
from tidemill.shared.application.planning import load_plan
from tidemill.shared.avro.registry import MemorySchemaRegistry

APPLICATION = """
app: shop
owner: shop@example.org
partition_by: customer
streams:
  shops: {topic: shops, schema: shops.avsc, kind: reference, key: shop, event_time: at, max_age: 9d}
  customers: {topic: customers, schema: shops.avsc, event_id: customer, event_time: at}
"""


@pytest.mark.parametrize(
    ("kind", "key", "deletes"),
    [
        ("boolean", b"True", "true"), ("boolean", b"false", "false"), ("boolean", b"1", None), ("boolean", b"0", None),
        ("long", b"-7", "-7"), ("long", b"07", "7"), ("long", b"0x7", None), ("long", b"0X7", None),
        ("int", b"0xff", None), ("string", b"0x7", "0x7"),
    ],
)  # fmt: skip
def test_a_key_of_a_deletion_is_read_as_keys_are_written(tmp_path: Path, kind: str, key: bytes, deletes: str | None) -> None:
    at = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [{"name": name, "type": one} for name, one in (("shop", kind), ("customer", "string"), ("at", at))]
    (tmp_path / "shops.avsc").write_text(json.dumps({"type": "record", "name": "Shop", "fields": fields}))
    (tmp_path / "app.yaml").write_text(APPLICATION)
    stream = load_plan(tmp_path).streams["shops"]
    decoded = RawDecoder(MemorySchemaRegistry(), stream.user_schema).decode([None])
    rows = Cleaner(stream, 0, 1).clean(RawChunk(0, np.arange(1), np.array([10_000]), np.zeros(1, np.bool_), [key], [None], decoded))
    assert [verdict.reason for verdict in rows.verdicts.values()] == ([] if deletes else ["unreadable_key"])
    assert rows.columns.column("_key").to_pylist() == [deletes]
