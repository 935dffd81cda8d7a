"""The Confluent wire format: a zero byte, the schema id in four big-endian bytes, the Avro body."""

import struct

MAGIC = 0
HEADER_BYTES = 5
_HEADER = struct.Struct(">BI")


def header(schema_id: int) -> bytes:
    """Return the five bytes that precede the body."""
    return _HEADER.pack(MAGIC, schema_id)


def schema_id_of(value: bytes) -> int:
    """Return the schema id of a framed value, or -1 when it is not framed (too short, or another first byte)."""
    if len(value) < HEADER_BYTES or value[0] != MAGIC:
        return -1
    return int.from_bytes(value[1:HEADER_BYTES], "big")
