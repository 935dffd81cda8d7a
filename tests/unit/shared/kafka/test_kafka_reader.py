"""What a reader makes of a leader that was just elected."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.shared.kafka import reader as reader_module
from tidemill.shared.kafka.connection import Connection, KafkaFailureError
from tidemill.shared.kafka.reader import KafkaReader
from tidemill.shared.log.records import TopicPartition

PLACE = TopicPartition("t", 0)


class Elected:
    """librdkafka's client beside a leader that answers so: with an offset, or an error."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.asked = answers, 0

    def list_offsets(self, specs: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        self.asked += 1
        answer: Future[Any] = Future()
        reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(reply, int):
            answer.set_result(SimpleNamespace(offset=reply))
        else:
            answer.set_exception(KafkaException(reply))
        return dict.fromkeys(specs, answer)


def test_no_offset_is_no_end_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """-1001 taken for an end made a progress topic look empty: the stage stopped, with offsets that "disagree" or a transaction that is "torn"."""
    clients = [Elected([0, -1001, -1001, KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), 57])]
    monkeypatch.setattr(reader_module, "AdminClient", lambda _: clients[0])
    reader = KafkaReader(Connection("127.0.0.1:1"))
    assert reader.watermarks(PLACE) == (0, 57)
    reader.close()


def test_a_client_that_finds_no_leader_is_replaced_and_one_that_never_does_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Elected] = []

    def make(_: Any) -> Elected:
        made.append(Elected([KafkaError(KafkaError._NOENT)] if not made else [3] if len(made) == 1 else [-1001]))
        return made[-1]

    monkeypatch.setattr(reader_module, "AdminClient", make)
    reader = KafkaReader(Connection("127.0.0.1:1", deadline_s=0.5))
    assert reader.watermarks(PLACE) == (3, 3)
    made[1].answers, reader._connection.deadline_s = [-1001], 0.01
    with pytest.raises(KafkaFailureError, match=r"ends of t:0: .*not caught up"):
        reader.watermarks(PLACE)
    reader.close()


def test_a_client_that_gets_no_offset_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go on asking whoever led before: stages ended after half a minute of it, and the next process had its answer at once."""
    made: list[Elected] = []

    def make(_: Any) -> Elected:
        made.append(Elected([-1001] if not made else [9]))
        return made[-1]

    monkeypatch.setattr(reader_module, "AdminClient", make)
    reader = KafkaReader(Connection("127.0.0.1:1", deadline_s=5.0))
    assert reader.watermarks(PLACE) == (9, 9)
    reader.close()
