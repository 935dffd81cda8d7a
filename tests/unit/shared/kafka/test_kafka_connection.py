"""What Kafka's errors mean: what settles by itself is tried again, until the deadline."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.shared.kafka.connection import Connection, KafkaFailureError
from tidemill.shared.kafka.source import PACE, READING
from tidemill.shared.log.errors import TransientError

NO_LEADERS = KafkaError(KafkaError._NOENT, "Failed to query partition leaders: No leaders found")
# What librdkafka says of metadata that have neither a broker nor a topic.
NOTHING_THERE = KafkaError(KafkaError._PARTIAL)


@pytest.mark.parametrize("error", [NO_LEADERS, NOTHING_THERE])
def test_a_broker_that_has_just_started_is_asked_again(error: KafkaError) -> None:
    answers: list[int | KafkaException] = [KafkaException(error), KafkaException(error), 7]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    assert Connection("nowhere:1").call("asks", ask) == 7 and not answers


def test_leaders_that_are_never_named_are_an_error_once_the_deadline_is_over() -> None:
    def ask() -> int:
        raise KafkaException(NO_LEADERS)

    with pytest.raises(KafkaFailureError, match=r"asks: Failed to query partition leaders.*_NOENT") as problem:
        Connection("nowhere:1", deadline_s=0.05).call("asks", ask)
    assert isinstance(problem.value, TransientError), "a stage waits for an election as long as it takes; a command says that it has no answer"


def test_what_another_question_does_not_settle_is_no_transient_error() -> None:
    def ask() -> int:
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    with pytest.raises(KafkaFailureError, match="TOPIC_AUTHORIZATION_FAILED") as problem:
        Connection("nowhere:1", deadline_s=0.05).call("asks", ask)
    assert not isinstance(problem.value, TransientError)


def test_the_options_of_a_connection_change_what_is_usual_and_nothing_that_a_stage_relies_on() -> None:
    connection = Connection("nowhere:1", {"fetch.wait.max.ms": "20", "isolation.level": "read_uncommitted"})
    settings = connection.settings(PACE, **READING)
    assert (settings["fetch.wait.max.ms"], settings["isolation.level"]) == ("20", "read_committed")
    assert Connection("nowhere:1").settings(PACE, **READING)["fetch.wait.max.ms"] == PACE["fetch.wait.max.ms"]
