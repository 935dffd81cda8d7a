"""Bytes through, on librdkafka alone: what no system on this client can beat. GUARANTEE is ``none`` or ``exactly-once``.

Exactly once, it is the yardstick of latency: one transaction per COMMIT_INTERVAL_MS, offsets in it, and a record that comes after a pause
goes through at once, as Tidemill's runner does it.
"""

import os
import time

from confluent_kafka import Consumer, Producer, TopicPartition

BATCH = 10_000
IDLE_S = 0.05


def main() -> None:
    transactional = os.environ["GUARANTEE"] == "exactly-once"
    interval_s = float(os.environ.get("COMMIT_INTERVAL_MS", "10")) / 1000
    settings = {"bootstrap.servers": os.environ["BOOTSTRAP"], "retry.backoff.ms": 2, "socket.nagle.disable": True}
    consumer = Consumer(
        {
            **settings,
            "group.id": os.environ["RUN"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.min.messages": 100_000,
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 10,
        }
    )
    # As Tidemill's: what gathers while the partition joins the transaction goes out at once.
    linger_ms = 0 if transactional else 5
    batching = {"linger.ms": linger_ms, "batch.size": 500_000, "batch.num.messages": 10_000, "queue.buffering.max.messages": 1_000_000}
    producer = Producer({**settings, **batching, **({"transactional.id": os.environ["RUN"]} if transactional else {"enable.idempotence": True})})
    if transactional:
        producer.init_transactions(30)
    consumer.subscribe([os.environ["INPUT"]])
    output, last = os.environ["OUTPUT"], 0.0
    while True:
        first = consumer.consume(1, IDLE_S)
        if not first:
            producer.poll(0)
            continue
        wait = interval_s - (time.monotonic() - last) if transactional else 0.0
        messages = first + consumer.consume(BATCH, max(0.0, wait))
        if transactional:
            producer.begin_transaction()
            last = time.monotonic()
        for message in messages:
            if message.error() is None:
                producer.produce(output, message.value(), message.key())
        if transactional:
            end = [TopicPartition(messages[-1].topic(), messages[-1].partition(), messages[-1].offset() + 1)]
            producer.send_offsets_to_transaction(end, consumer.consumer_group_metadata())
            producer.commit_transaction()
        producer.poll(0)


main()
