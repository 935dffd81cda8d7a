"""`Source` and `Reader` on confluent-kafka: batch consume, committed records only, ends of partitions reported."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, TopicPartition as Address
from confluent_kafka.admin import AdminClient, OffsetSpec

from shared.streaming.broker import Assignment, OffsetLostError
from shared.streaming.errors import TransientError
from shared.streaming.kafka_connection import Connection, check, to_columns
from shared.streaming.records import Records, TopicPartition

SESSION_TIMEOUT_MS = 10_000
STABLE_TIMEOUT_S = 60.0
_READING = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    # A fast consumer otherwise sleeps for a second whenever its queue was full.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 65536,
}
