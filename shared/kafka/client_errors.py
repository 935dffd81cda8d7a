"""What a Kafka client says of itself, beside what it is asked."""

import time

from confluent_kafka import KafkaError

from tidemill.shared.kafka.connection import ALL_DOWN


class ClientErrors:
    """What one client has said of itself.

    Attributes
    ----------
    fatal
        After it the client delivers nothing more, not even rebalances.
    down_since
        Since when (monotonic seconds) no broker answers it.
    """

    def __init__(self) -> None:
        self.fatal: KafkaError | None = None
        self.down_since: float | None = None

    def note(self, error: KafkaError) -> None:
        """Hear of an error."""
        if error.fatal():
            self.fatal = error
        if error.code() == ALL_DOWN and self.down_since is None:
            self.down_since = time.monotonic()
