"""A static member that its group fences: one writer where another process has the name, and a new member where nobody has."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from tests.kafka_mock import Mock
from tests.kafka_proxy import KafkaProxy
from tests.patience import patient
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.kafka.connection import Connection
from tidemill.shared.kafka.source import KafkaSource
from tidemill.shared.log.broker import FencedError, TopicSpec
from tidemill.shared.log.errors import TransientError

JOIN_GROUP, HEARTBEAT = 11, 12


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(20.0)
    while not reached():
        assert time.monotonic() < deadline


class Group:
    """A member, and who its group says holds the name."""

    def __init__(self, mock: Mock, holder: Callable[[KafkaSource], str | None]) -> None:
        self.mock = mock
        self.asked: list[tuple[str, str]] = []

        def held_by(group: str, instance: str) -> str | None:
            self.asked.append((group, instance))
            return holder(self.source)

        self.source = KafkaSource(Connection(mock.address), "readers", "0", 6_000, held_by)

    def reads(self) -> bool:
        """Whether the member has its partitions; what it reads is left out."""
        self.source.consume(100, 0.05)
        return bool(self.source.assignment.partitions)

    def fence(self) -> None:
        """Have the coordinator fence it."""
        self.mock.refuse(KafkaError.FENCED_INSTANCE_ID, request=HEARTBEAT)
        until(lambda: not self.reads())


def own_id(source: KafkaSource) -> str:
    """Return an id that the member has had."""
    return min(source._name.ids)


@pytest.mark.parametrize("holder", [own_id, lambda _: None], ids=["itself", "nobody"])
def test_a_member_that_is_fenced_without_a_successor_joins_again(holder: Callable[[KafkaSource], str | None]) -> None:
    """After an election of its coordinator: each of twelve processes that ended under kills of leaders did so because of it."""
    group = Group(Mock(), holder)
    group.source.subscribe(["out"])
    until(group.reads)
    assigned = group.source.assignment
    with pytest.raises(TransientError, match="nobody else holds the name 0, so a new member takes it up"):
        group.fence()
    assert group.asked == [("readers", "0")]
    assert not group.source.assignment.partitions and group.source.assignment.epoch > assigned.epoch, "everything held is void"
    until(group.reads)
    assert group.source.assignment.partitions == assigned.partitions
    group.source.assign(dict.fromkeys(assigned.partitions, 0))
    until(lambda: not group.source.consume(100, 0.05) and group.source.caught_up == assigned.partitions)
    # What the old client says while it closes is not the new one's.
    assert group.source.assignment.partitions == assigned.partitions
    group.source.close()


@pytest.mark.parametrize("then", ["0-another", "0-yet-another"])
def test_a_member_whose_name_another_process_holds_ends(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there for longer than a session without a heartbeat, or it has joined meanwhile."""
    monkeypatch.setattr("tidemill.shared.kafka.static_name._SESSIONS_OF_A_GHOST", 0.2)
    holders = ["0-another", "0-another"]
    group = Group(Mock(), lambda _: holders.pop() if holders else then)
    group.source.subscribe(["out"])
    until(group.reads)
    epoch = group.source.assignment.epoch
    with pytest.raises(TransientError, match=r"the name 0 is held by 0-another; whether that is another process is seen within 1\.2 s"):
        group.fence()
    assert not group.source.assignment.partitions and group.source.assignment.epoch > epoch, "everything held is void"
    with pytest.raises(FencedError) as problem:
        until(group.reads)
    assert f"the name 0 in group readers is held by {then}" in problem.value.__notes__[0]
    assert len(group.asked) == 3 if then == "0-yet-another" else len(group.asked) > 3
    group.source.close()


def test_a_member_whose_name_a_ghost_holds_waits_until_the_ghost_is_gone(infrastructure: Infrastructure, topic_prefix: str) -> None:
    """A request to join that arrives after the one that its client sent next: the broker gives the name to an id that nobody has ever heard of."""
    topic = f"{topic_prefix}-read"
    KafkaBroker(infrastructure.bootstrap_servers).create_topics([TopicSpec(topic)])
    host, _, port = infrastructure.bootstrap_servers.rpartition(":")
    proxy = KafkaProxy(host, int(port), api=JOIN_GROUP, hold_requests=1)
    source = KafkaBroker(proxy.address, session_timeout_ms=6_000).source(topic, "0")
    source.subscribe([topic])

    def reads() -> bool:
        source.consume(1, 0.05)
        return bool(source.assignment.partitions)

    until(reads)
    before = source.assignment
    assert proxy.deliver(proxy.held[0]) == 0
    with pytest.raises(TransientError, match="the name 0 is held by 0-"):
        until(lambda: not reads())
    assert not source.assignment.partitions
    until(reads)
    assert source.assignment.partitions == before.partitions and source.assignment.epoch > before.epoch
    source.close()
    proxy.close()
