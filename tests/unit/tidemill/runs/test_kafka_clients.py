"""A client asks a topic that was just made for its end until its leader is known, and says what it cannot know."""

from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from tidemill.runs.kafka_clients import end_of
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.observability.settings import KafkaSettings


class Electing:
    """A consumer of a partition whose leader is not known at first."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def get_watermark_offsets(self, place: Any, timeout: float) -> tuple[int, int]:
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return 0, 7


def test_a_topic_that_was_just_made_is_asked_until_it_has_a_leader() -> None:
    consumer = Electing(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    assert end_of(cast("Consumer", consumer), KafkaSettings(), "shop-rejected", 0) == 7
    assert not consumer.errors


def test_what_cannot_be_asked_is_said_with_its_topic() -> None:
    with pytest.raises(KafkaFailureError, match="end of shop-rejected:0"):
        end_of(cast("Consumer", Electing(KafkaError.TOPIC_AUTHORIZATION_FAILED)), KafkaSettings(), "shop-rejected", 0)
