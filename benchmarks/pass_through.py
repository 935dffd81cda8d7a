"""A transactional pass-through: what the broker and its client cost by themselves. Arguments: broker, group, input, output, commit interval in ms."""

import sys
import threading
import time

from shared.streaming.kafka_broker import KafkaBroker
from shared.streaming.records import Emission, TopicPartition
from shared.streaming.service_process import stop_on_signals


def main() -> None:
    """Copy records until SIGTERM, at the same cadence and with the same clients as the services."""
    bootstrap_servers, group, source_topic, target, interval_ms = sys.argv[1:]
    run(KafkaBroker(bootstrap_servers), group, source_topic, target, int(interval_ms) / 1000, stop_on_signals())


def run(broker: KafkaBroker, group: str, topic: str, target: str, interval_s: float, stop: threading.Event) -> None:
    """Consume, produce, send offsets, commit."""
    source, sink = broker.source(group, "0"), broker.transactional_sink(f"{group}-0")
    sink.open()
    source.subscribe([topic])
    place = TopicPartition(topic, 0)
    while not source.assignment.partitions:
        source.consume(1, 0.05)
    source.assign({place: source.committed([place]).get(place, 0)})
    last = 0.0
    while not stop.is_set():
        runs = source.consume(10_000, 0.05, max(0.0, interval_s - (time.monotonic() - last)))
        if not runs:
            continue
        last = time.monotonic()
        sink.begin()
        for records in runs:
            sink.produce(Emission(target, 0, records.keys, records.values))
        sink.send_offsets({place: int(runs[-1].offsets[-1]) + 1}, source.membership())
        sink.commit()
    sink.close()
    source.close()


if __name__ == "__main__":
    main()
