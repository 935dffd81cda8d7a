"""Topics that were asked for can be used when the call returns, however late the broker learns of them from its controller."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.topic_settings import TopicSettings


class LateClient:
    """A cluster that shows a new topic only when it is looked at for the third time after it was asked for, without a leader at first."""

    def __init__(self, shows_at: int, there: Sequence[str] = ()) -> None:
        self.looks, self.asked = 0, list[str]()
        self._looked_since, self._shows_at, self._there = 0, shows_at, there

    def list_topics(self, timeout: float = 0.0) -> Any:
        self.looks += 1
        self._looked_since += bool(self.asked)
        shown = dict.fromkeys(self._there, 1)
        if self._looked_since >= self._shows_at - 1:
            shown |= dict.fromkeys(self.asked, 1 if self._looked_since >= self._shows_at else -1)
        return SimpleNamespace(brokers={1: None}, topics={name: topic(leader) for name, leader in shown.items()})

    def create_topics(self, asked: Any, request_timeout: float) -> dict[str, Future[None]]:
        self.asked += [one.topic for one in asked]
        made = Future[None]()
        made.set_result(None)
        return dict.fromkeys(self.asked, made)


def topic(leader: int) -> SimpleNamespace:
    """Return what a cluster says of a topic with one partition; leader -1: nobody leads it yet."""
    return SimpleNamespace(error=None, partitions={0: SimpleNamespace(leader=leader, replicas=[1])})


def test_topics_have_leaders_when_they_have_been_made(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = KafkaBroker("nobody"), LateClient(3, there=["old"])
    monkeypatch.setattr(broker, "_client", lambda: client)
    broker.create_topics([TopicSpec("new"), TopicSpec("old")])
    assert (client.asked, client.looks) == (["new"], 1 + 3)


def test_nothing_is_made_or_waited_for_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = KafkaBroker("nobody"), LateClient(3, there=["old", "older"])
    monkeypatch.setattr(broker, "_client", lambda: client)
    broker.create_topics([TopicSpec("old"), TopicSpec("older")])
    assert (client.asked, client.looks) == ([], 1)
    with pytest.raises(ValueError, match="topic old: expected 2 partitions, found 1"):
        broker.create_topics([TopicSpec("new"), TopicSpec("old", 2)])
    assert client.asked == []


def test_a_stage_starts_while_brokers_are_away_and_makes_no_topic_with_too_few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = KafkaBroker("nobody", topics=TopicSettings(replication=3)), LateClient(3, there=["old"])
    monkeypatch.setattr(broker, "_client", lambda: client)
    broker.create_topics([TopicSpec("old")])
    with pytest.raises(ValueError, match="topic new: expected 3 brokers or more for replication 3, found 1"):
        broker.create_topics([TopicSpec("old"), TopicSpec("new")])
    assert client.asked == []


def test_a_topic_that_nobody_leads_yet_is_waited_for_and_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, client = KafkaBroker("nobody", deadline_s=0.2), LateClient(3, there=["old"])
    monkeypatch.setattr(broker, "_client", lambda: client)
    monkeypatch.setattr(client, "list_topics", lambda timeout: SimpleNamespace(brokers={1: None}, topics={"old": topic(-1)}))
    with pytest.raises(TransientError, match="expected the topics old with leaders"):
        broker.create_topics([TopicSpec("old")])
    assert client.asked == []


def test_topics_that_are_not_shown_in_time_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = KafkaBroker("nobody", deadline_s=0.2)
    monkeypatch.setattr(broker, "_client", lambda: LateClient(1_000_000))
    with pytest.raises(TransientError, match="expected the topics new with leaders"):
        broker.create_topics([TopicSpec("new")])


def test_a_broker_that_knows_no_broker_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that had just been started said so, and the stages that started ended with "expected 1 brokers or more, found 0"."""
    broker, client = KafkaBroker("nobody", deadline_s=5.0), LateClient(3, there=["old"])
    shown = client.list_topics

    def first_none(timeout: float = 0.0) -> Any:
        cluster = shown(timeout)
        cluster.brokers = {} if client.looks == 1 else cluster.brokers
        return cluster

    monkeypatch.setattr(client, "list_topics", first_none)
    monkeypatch.setattr(broker, "_client", lambda: client)
    broker.create_topics([TopicSpec("old")])
    assert (client.asked, client.looks) == ([], 2)
