"""The three error fates of the pipeline. Anything that is neither of these two crashes, and nothing is committed."""

from dataclasses import dataclass


class TransientError(Exception):
    """Something outside failed and may recover: abort the transaction, back off, retry."""


class ServerAwayError(TransientError):
    """A server or store beside Kafka does not answer: no restart helps, so who needs it waits for as long as it takes, and says so."""


@dataclass
class InvalidRecord(Exception):
    """One input record can never be processed: it becomes a dead letter and the stream goes on.

    Attributes
    ----------
    index
        Row in the batch it came in.
    reason
        Stable code, e.g. ``truncated``, ``unknown_schema_id``, ``misplaced_key``.
    detail
        What was expected, what came, what to do.
    """

    index: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"row {self.index}: {self.reason}: {self.detail}"
