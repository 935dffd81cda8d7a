"""How a heartbeat is told from a deletion: both are records without a value."""

HEARTBEAT_KEY = b"\x00tidemill.heartbeat"
"""Key of a record without a value that says: nothing older than my timestamp will follow in this partition.

A reserved key, not a header: it passes every client and tool as it is, and the hot path, which never looks at headers, does not have to begin to.
No key of a user begins with a zero byte: keys are text.
"""
