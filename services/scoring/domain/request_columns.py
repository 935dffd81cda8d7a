"""The columns by which everything that scoring writes names its request."""

import pyarrow as pa

_TIME = pa.timestamp("ms")
REQUEST = (
    pa.field("request_id", pa.string(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("journal_partition", pa.int32(), nullable=False),
    pa.field("journal_offset", pa.int64(), nullable=False),
    pa.field("journal_time", _TIME, nullable=False),
    pa.field("event_time", _TIME, nullable=False),
)
