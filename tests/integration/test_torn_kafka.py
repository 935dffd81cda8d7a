"""Real Kafka: a raw producer writes a transaction with a part missing; the next start stops, and goes on once the loss is accepted."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Address

from tests.patience import patient
from tests.property.runner_tasks import STAGE, arguments, codec, expected, output, topics
from tidemill.deploy.embedded.infrastructure import Infrastructure
from tidemill.shared.kafka.broker import KafkaBroker
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.settings import RunnerSettings
from tidemill.shared.runner.runner import Runner
from tidemill.shared.runner.task import TaskInputs
from tidemill.shared.runner.written import LastOutputs, TornTransactionError

DEADLINE_S = patient(30.0)
# Outputs that the log does not hold: the second transaction's end with their commit marker at offset 6.
MORE = LastOutputs(after=7, count=3, first=1, last=2)


def step_until(runner: Runner, condition: Callable[[], bool]) -> Runner:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        runner.step()
        assert time.monotonic() < deadline, "condition not met"
    return runner


@pytest.mark.lasts(15)
@pytest.mark.parametrize("lost", ["outputs", "record and offsets"])
def test_a_transaction_that_lost_a_part_stops_the_next_start(
    infrastructure: Infrastructure, application_name: str, tmp_path: Path, lost: str
) -> None:
    app = application_name
    broker = KafkaBroker(infrastructure.bootstrap_servers, session_timeout_ms=6_000)
    broker.create_topics(topics(app, 1))
    place, said = TopicPartition(f"{app}-input", 0), f"{app}-output"

    def publish(keys: str) -> None:
        sink = broker.sink()
        for key in keys:
            sink.publish(place.topic, key.encode(), b"x", 9, 0)
        sink.close()

    def start(*accepted: str) -> Runner:
        settings = RunnerSettings(commit_interval_ms=5, idle_interval_ms=5, state_folder=tmp_path, accept_torn=accepted)
        return Runner(**arguments(app, broker, settings=settings, inputs=TaskInputs((place.topic,), sole_outputs=(said,))))

    first = start()
    publish("ab")
    step_until(first, lambda: output(broker, said) == expected("ab"))
    publish("cab")
    step_until(first, lambda: output(broker, said) == expected("abcab"))
    # What the next transaction would write, less a part of it: as a stale request that ends a transaction leaves it.
    progress, membership = first.tasks[0].progress, first._source.membership()
    torn = Producer({"bootstrap.servers": infrastructure.bootstrap_servers, "transactional.id": f"{app}-{STAGE}-0"})
    torn.init_transactions(DEADLINE_S)
    torn.begin_transaction()
    if "outputs" in lost:
        publish("aac")
        after = replace(
            progress, sequence=3, input_offsets={place: 8}, outputs={said: 8}, written={**progress.written, TopicPartition(said, 0): MORE}
        )
        torn.produce(f"{app}-{STAGE}-progress", after.encode(codec("progress")), after.key, 0)
        torn.send_offsets_to_transaction([Address(*place, 8)], membership, DEADLINE_S)
    else:
        torn.produce(said, b"a=3@5", None, 0)
    torn.commit_transaction(DEADLINE_S)
    first.close()
    message = f"{said}:0: of the 3 from offset 7 on 3 are not there" if "outputs" in lost else f"{said}:0: 1 more than the 3 from offset"
    second = start()
    with pytest.raises(TornTransactionError, match=message):
        step_until(second, lambda: False)
    second.close()
    third = start(f"{STAGE}:0:{3 if 'outputs' in lost else progress.sequence}")
    publish("b")
    step_until(third, lambda: (output(broker, said) or [b""])[-1] in (b"b=3@8", b"b=3@5"))
    third.leave()
