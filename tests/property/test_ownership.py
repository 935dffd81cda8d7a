"""The compare-and-set on the end of a log, in every order of the calls of its writers: what is committed is one chain."""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import MemorySchemaRegistry
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Emission, TopicPartition
from tidemill.shared.memory.broker import MemoryBroker
from tidemill.shared.runner.ownership import claim, standing
from tidemill.shared.runner.progress import Progress

HERE = TopicPartition("shop-features-progress", 0)
CODEC = RecordCodec(MemorySchemaRegistry(), "progress", (Path(__file__).parents[2] / "schemas" / "progress.avsc").read_text())


class World:
    """One progress topic, and writers that each hold what they restored."""

    def __init__(self, *, expects: bool, claims: bool) -> None:
        self.broker = MemoryBroker(stable_timeout_s=0.0)
        self.broker.create_topics([TopicSpec(HERE.topic, 1)])
        self.expects, self.claims = expects, claims
        self.numbers = itertools.count(1)

    def writer(self, name: str, commits: int) -> Iterator[None]:
        """Restore and commit so many times, one call between two turns; what is refused is made again from a new restore."""
        sink, reader, left = self.broker.transactional_sink(name), self.broker.reader(), commits
        sink.open()
        yield
        while left:
            try:
                if self.claims:
                    sink.begin()
                    yield
                    sink.produce(claim(HERE, name))
                    yield
                    sink.commit()
                    yield
                position = standing(reader, HERE, CODEC)
                state = Progress.decode(position.record, CODEC) if position.record else Progress("features", 0, "")
                end = position.end
                yield
                while left:
                    after = Progress("features", 0, name, next(self.numbers), covered_offset=state.sequence, writer=name)
                    sink.begin()
                    yield
                    sink.produce(Emission(*HERE, [after.key], [after.encode(CODEC)], first_offset=end if self.expects else None))
                    yield
                    ends = sink.commit()
                    state, end, left = after, ends.get(HERE, 0), left - 1
                    yield
            except TransientError:
                sink.abort()
                yield

    def committed(self) -> list[Progress]:
        """Return every committed record, in the log's order; each names as covered what it was made from."""
        return [Progress.decode(value, CODEC) for records in self.broker.reader().read(HERE, 0) for value in records.values if value is not None]

    def is_one_chain(self) -> bool:
        """Say whether every record was made from the one before it."""
        records = [Progress("features", 0, ""), *self.committed()]
        return all(after.covered_offset == before.sequence for before, after in itertools.pairwise(records))


def play(world: World, writers: Sequence[Iterator[None]], order: Sequence[int]) -> None:
    """Let writers take turns in an order, then one after the other until all are done: each for so long that it is not always in mid-transaction."""
    alive = dict(enumerate(writers))
    for number in [*order, *(number for _ in range(40) for number in range(len(writers)) for _ in range(19))]:
        if number in alive and next(alive[number], "done") == "done":
            del alive[number]
    assert not alive, "somebody never gets through"


def orders_of_two(first: int, second: int) -> Iterator[list[int]]:
    for places in itertools.combinations(range(first + second), second):
        yield [int(turn in places) for turn in range(first + second)]


# Calls: to open; to claim (three); to restore; a commit (three).
@pytest.mark.parametrize(("claims", "restored", "takes_over", "orders"), [(True, 5, 8, 3_003), (False, 2, 5, 462)], ids=["with claims", "without"])
def test_one_commits_twice_while_another_takes_over_in_every_order_of_their_calls(claims: bool, restored: int, takes_over: int, orders: int) -> None:
    count = 0
    for order in orders_of_two(6, takes_over):
        world = World(expects=True, claims=claims)
        play(world, [world.writer("a", 2), world.writer("b", 1)], [*[0] * restored, *order])
        assert world.is_one_chain(), order
        assert len(world.committed()) == 3
        count += 1
    assert count == orders


def test_a_zombie_wakes_at_every_call_of_its_successor() -> None:
    for restored in range(5, 12):
        for slept in range(12):
            world = World(expects=True, claims=True)
            zombie, successor = world.writer("zombie", 3), world.writer("successor", 3)
            play(world, [zombie, successor], [*[0] * restored, *[1] * slept, *[0] * 9])
            assert world.is_one_chain()
            assert len(world.committed()) == 6


@pytest.mark.parametrize("claims", [True, False], ids=["with claims", "without"])
def test_four_writers_in_random_orders(claims: bool) -> None:
    rng = random.Random(8)
    for _ in range(200):
        world = World(expects=True, claims=claims)
        play(world, [world.writer(name, 2) for name in "abcd"], [rng.randrange(4) for _ in range(120)])
        assert world.is_one_chain()
        assert len(world.committed()) == 8


def test_writers_that_expect_no_place_fork_the_chain() -> None:
    """The tests above can fail: without the comparison the claims alone shut nobody out."""
    forks = 0
    for order in orders_of_two(6, 8):
        world = World(expects=False, claims=True)
        play(world, [world.writer("a", 2), world.writer("b", 1)], [*[0] * 5, *order])
        forks += not world.is_one_chain()
    assert forks > 1_000
