"""How heartbeats are told from deletions, and the one that ends a stream from the others: all are records without a value."""

HEARTBEAT_KEY = b"\x00tidemill.heartbeat"
END_OF_STREAM_KEY = b"\x00tidemill.end-of-stream"
"""Of a heartbeat that says besides that its partition has ended: whoever feeds it has no more. A later record takes that back."""


def is_heartbeat(key: bytes | None, value: bytes | None) -> bool:
    """Return whether a record of a raw topic is a heartbeat.

    >>> is_heartbeat(END_OF_STREAM_KEY, None), is_heartbeat(HEARTBEAT_KEY, b""), is_heartbeat(b"a", None)
    (True, False, False)
    """
    return value is None and key in (HEARTBEAT_KEY, END_OF_STREAM_KEY)
