"""Both brokers, and who reads and writes there."""

import math
from collections.abc import Callable, Iterator

import pytest

from tests.contract.brokers import SESSION_TIMEOUT_S, until
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.kafka import sinks
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.broker import Broker, FencedError, Source, TopicSpec, TransactionalSink
from tidemill.shared.memory.broker import MemoryBroker


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    if request.param == "memory":
        return MemoryBroker()
    infrastructure: Infrastructure = request.getfixturevalue("infrastructure")
    return KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=int(1_000 * SESSION_TIMEOUT_S))


@pytest.fixture
def topic(broker: Broker, topic_prefix: str) -> str:
    broker.create_topics([TopicSpec(f"{topic_prefix}-a", 2), TopicSpec(f"{topic_prefix}-b", 2)])
    until(lambda: all(broker.partitions(f"{topic_prefix}-{name}") == 2 for name in "ab"))  # a broker knows a topic a little after its controller
    return f"{topic_prefix}-a"


@pytest.fixture
def member(broker: Broker, topic: str) -> Iterator[Callable[..., Source]]:
    opened: list[Source] = []

    def join(instance: str = "0", group: str = f"{topic}-group", wait: bool = True) -> Source:
        source = broker.source(group, instance)
        opened.append(source)
        source.subscribe([topic])
        if wait:
            until(lambda: source.consume(1, 0.05) == [] and bool(source.assignment.partitions))
        return source

    yield join
    for source in opened:
        source.close()


@pytest.fixture
def producer(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], TransactionalSink]]:
    # However slow the machine is: who fences a producer is its successor, and not the time that its transaction took.
    monkeypatch.setattr(sinks, "TIMED_OUT_S", math.inf)
    opened: list[TransactionalSink] = []

    def make(name: str) -> TransactionalSink:
        sink = broker.transactional_sink(name)
        opened.append(sink)
        sink.open()
        return sink

    yield make
    for sink in opened:
        try:
            sink.close()
        except FencedError:
            continue
