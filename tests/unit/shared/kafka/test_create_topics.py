"""Topics that were asked for can be used when the call returns, however late the broker learns of them from its controller."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.errors import TransientError


class LateClient:
    """A broker that shows a new topic only when it is looked at for the third time, without a leader at first."""

    def __init__(self, shows_at: int) -> None:
        self.looked, self._shows_at, self._asked = 0, shows_at, False

    def list_topics(self, topic: str | None = None, timeout: float = 0.0) -> Any:
        unknown = SimpleNamespace(error="unknown", partitions={})
        if topic is not None:
            return SimpleNamespace(topics={topic: unknown})
        self.looked += self._asked
        leader = 1 if self.looked >= self._shows_at else -1
        led = SimpleNamespace(error=None, partitions={0: SimpleNamespace(leader=leader, replicas=[1])})
        return SimpleNamespace(brokers={1: None}, topics={"new": led} if self.looked >= self._shows_at - 1 > 0 else {})

    def create_topics(self, asked: Any, request_timeout: float) -> dict[str, Future[None]]:
        self._asked, made = True, Future[None]()
        made.set_result(None)
        return {topic.topic: made for topic in asked}


def test_topics_have_leaders_when_they_have_been_made(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = KafkaBroker("nobody"), LateClient(3)
    monkeypatch.setattr(broker, "_client", lambda: client)
    broker.create_topics([TopicSpec("new")])
    assert client.looked == 3


def test_topics_that_are_not_shown_in_time_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = KafkaBroker("nobody", deadline_s=0.2)
    monkeypatch.setattr(broker, "_client", lambda: LateClient(1_000_000))
    with pytest.raises(TransientError, match="expected the topics new with leaders"):
        broker.create_topics([TopicSpec("new")])
