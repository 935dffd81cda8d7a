"""A static member that its group fences: one writer where another process has the name, and a new member where nobody has."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from tests.kafka_mock import Mock
from tests.patience import patient
from tidemill.shared.kafka.connection import Connection
from tidemill.shared.kafka.source import KafkaSource
from tidemill.shared.log.broker import FencedError
from tidemill.shared.log.errors import TransientError

HEARTBEAT = 12


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
    return min(source._ids)


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


def test_a_member_whose_name_another_one_holds_ends() -> None:
    group = Group(Mock(), lambda _: "0-another")
    group.source.subscribe(["out"])
    until(group.reads)
    with pytest.raises(FencedError) as problem:
        group.fence()
    assert "the name 0 in group readers is held by 0-another" in problem.value.__notes__[0]
    group.source.close()
