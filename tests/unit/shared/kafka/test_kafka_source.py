"""What a member of a group makes of a client that has been fenced."""

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.shared.kafka.connection import Connection
from tidemill.shared.kafka.source import KafkaSource


class Refusing:
    """librdkafka's client that lets no subscription go."""

    def __init__(self, code: int) -> None:
        self.code = code

    def unsubscribe(self) -> None:
        raise KafkaException(KafkaError(self.code, "Failed to remove subscription"))


@pytest.mark.parametrize(("code", "ends"), [(KafkaError._FATAL, True), (KafkaError._STATE, False)])
def test_who_is_fenced_as_it_leaves_has_left(code: int, ends: bool) -> None:
    """A process that was asked to stop ended with an error, because its group had let it go and its client had not said so yet."""
    source = KafkaSource(Connection("127.0.0.1:1"), "group", "0", 10_000, lambda group, name: None)
    client = source._consumer
    source._consumer = cast(Any, Refusing(code))
    try:
        if ends:
            source.leave()
        else:
            with pytest.raises(KafkaException, match="remove subscription"):
                source.leave()
    finally:
        source._consumer = client
        source.close()
