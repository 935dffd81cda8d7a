"""What a broker does not take ends its transaction with the broker's own reason, at once, whatever else was written with it."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from tests.kafka_mock import Mock
from tidemill.shared.kafka import sinks
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.log.broker import FencedError, RecordRefusedError, TopicAwayError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition

END_TRANSACTION, COMMIT_OFFSETS = 26, 28


@pytest.fixture
def mock() -> Mock:
    return Mock()


@pytest.fixture
def sink(mock: Mock) -> Iterator[KafkaTransactionalSink]:
    made = KafkaBroker(mock.address, deadline_s=20).transactional_sink("one")
    made.open()
    yield made
    made.close()


def write(sink: KafkaTransactionalSink, end: str = "commit", first_offset: int | None = 0) -> None:
    sink.begin()
    sink.produce(Emission("out", 0, [b"k"] * 300, [b"v"] * 300))
    sink.produce(Emission("progress", 0, [b"0"], [b"where"], first_offset=first_offset))
    sink.commit() if end == "commit" else sink.abort()


@pytest.mark.parametrize("code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD])
def test_a_record_that_is_refused_says_so_without_a_wait_for_what_is_not_written_any_more(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(sinks, "FLUSH_S", 1_000.0)
    mock.refuse(code)
    with pytest.raises(RecordRefusedError):
        write(sink)
    sink.abort()


def test_a_topic_that_is_gone_is_named_and_not_the_one_whose_offset_is_looked_at(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the transaction is written, the progress record among it: nobody else has written in its place."""
    monkeypatch.setattr(sinks, "FLUSH_S", 0.3)
    mock.take_away("out")
    with pytest.raises(TopicAwayError, match="there is no topic out: "):
        write(sink)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_that_the_broker_has_ended_for_its_age_costs_its_producer_and_is_no_successors(
    mock: Mock, sink: KafkaTransactionalSink, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """While a leader or coordinator is elected a transaction may stand open for too long: the broker aborts it and fences its producer."""
    monkeypatch.setattr(sinks, "TIMED_OUT_S", 0.0)
    mock.refuse(KafkaError.PRODUCER_FENCED, request=END_TRANSACTION)
    with pytest.raises(TransientError, match="stood open for longer than 10 s"):
        write(sink, end, None)
    sink.abort()
    write(sink, "commit", None)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_producer_that_is_fenced_within_a_transactions_time_has_a_successor(mock: Mock, sink: KafkaTransactionalSink, end: str) -> None:
    mock.refuse(KafkaError.PRODUCER_FENCED, request=END_TRANSACTION)
    with pytest.raises(FencedError):
        write(sink, end, None)
    sink.abort()


def test_a_topic_that_may_not_be_written_is_no_fault_of_the_record(mock: Mock, sink: KafkaTransactionalSink) -> None:
    mock.refuse(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TransientError, match=r"[Aa]uthorization|TOPIC_AUTHORIZATION_FAILED"):
        write(sink)
    sink.abort()


def test_a_group_that_fences_the_member_whose_offsets_are_added_costs_the_transaction_alone(mock: Mock, sink: KafkaTransactionalSink) -> None:
    """Whether another process holds the name is the member's to find out, when it reads next."""
    source = KafkaBroker(mock.address, deadline_s=20).source("readers", "0")
    source.subscribe(["out"])
    sink.begin()
    mock.refuse(KafkaError.FENCED_INSTANCE_ID, request=COMMIT_OFFSETS)
    with pytest.raises(TransientError, match=r"FENCED_INSTANCE_ID.*the group knows another member of this name"):
        sink.send_offsets({TopicPartition("out", 0): 1}, source.membership())
        sink.commit()
    sink.abort()
    write(sink, "commit", None)
    source.close()
