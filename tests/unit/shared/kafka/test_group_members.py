"""A coordinator that moves while a group is asked for: the question is asked again, and what is said names the code."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.shared.kafka import broker as broker_module
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.connection import KafkaFailureError
from tidemill.shared.log.errors import TransientError

# As librdkafka says it of a broker that gives a code and no text.
EMPTY = "ConsumerGroupDescribe: "


class Admin:
    """Answers with these codes in turn, the last one again and again; 0 is a group without members."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    def describe_consumer_groups(self, groups: Sequence[str], request_timeout: float) -> dict[str, Future[Any]]:
        code = self.codes[min(self.asked, len(self.codes) - 1)]
        self.asked += 1
        answer: Future[Any] = Future()
        if code:
            answer.set_exception(KafkaException(KafkaError(code, EMPTY)))
        else:
            answer.set_result(SimpleNamespace(members=[]))
        return {groups[0]: answer}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Admin]:
    """Clients that are made, in turn; the last one again and again. No broker makes the library say this at will."""
    waiting: list[Admin] = []
    monkeypatch.setattr(broker_module, "AdminClient", lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0])
    return waiting


def broker(deadline_s: float = 5.0) -> KafkaBroker:
    return KafkaBroker("127.0.0.1:1", deadline_s=deadline_s)


@pytest.mark.parametrize("code", ["COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"])
def test_it_is_asked_again_until_the_coordinator_is_there(clients: list[Admin], code: str) -> None:
    admin = Admin(getattr(KafkaError, code), getattr(KafkaError, code), 0)
    clients.append(admin)
    assert broker().members("shop-features") == {} and admin.asked == 3


def test_a_client_that_asks_who_was_the_coordinator_is_replaced(clients: list[Admin]) -> None:
    """librdkafka's goes on with the one that it knows: stages that asked so waited for more than four minutes, until the campaign gave up."""
    old, new = Admin(KafkaError.NOT_COORDINATOR), Admin(0)
    clients += [old, new]
    assert broker().members("shop-features") == {} and (new.asked, old.asked) == (1, 1)


@pytest.mark.parametrize("code", ["COORDINATOR_NOT_AVAILABLE", "UNKNOWN"])
def test_one_that_does_not_come_is_waited_for_by_the_stage(clients: list[Admin], code: str) -> None:
    admin = Admin(getattr(KafkaError, code))
    clients.append(admin)
    with pytest.raises(TransientError, match=f"members of group shop-features: .*{KafkaError(getattr(KafkaError, code)).name()}"):
        broker(0.05).members("shop-features")
    assert admin.asked < 10, "more and more rarely"


def test_a_group_that_may_not_be_asked_for_ends_the_process(clients: list[Admin]) -> None:
    clients.append(Admin(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaFailureError, match="GROUP_AUTHORIZATION_FAILED"):
        broker().members("shop-features")
