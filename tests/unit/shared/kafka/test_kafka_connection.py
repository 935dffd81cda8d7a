"""What Kafka's errors mean: what settles by itself is tried again, until the deadline."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.shared.kafka.connection import Connection, KafkaFailureError

NO_LEADERS = KafkaError(KafkaError._NOENT, "Failed to query partition leaders: No leaders found")


def test_a_broker_that_has_just_come_back_and_names_no_leaders_is_asked_again() -> None:
    answers: list[int | KafkaException] = [KafkaException(NO_LEADERS), KafkaException(NO_LEADERS), 7]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    assert Connection("nowhere:1").call("asks", ask) == 7 and not answers


def test_leaders_that_are_never_named_are_an_error_once_the_deadline_is_over() -> None:
    def ask() -> int:
        raise KafkaException(NO_LEADERS)

    with pytest.raises(KafkaFailureError, match="asks: Failed to query partition leaders"):
        Connection("nowhere:1", deadline_s=0.05).call("asks", ask)
