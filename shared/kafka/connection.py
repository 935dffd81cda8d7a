"""How Kafka clients are configured, and what their errors mean to the pipeline."""

import time
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message

from tidemill.shared.log.broker import BrokerUnreachableError, FencedError, RecordRefusedError, TopicAwayError
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import Records

Result = TypeVar("Result")
# librdkafka's own (not the protocol's) error codes carry a leading underscore.
PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
OFFSET_LOST = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001
POLLED_TOO_RARELY = KafkaError._MAX_POLL_EXCEEDED  # noqa: SLF001
ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
PRODUCER_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
MEMBER_FENCED = KafkaError.FENCED_INSTANCE_ID
_FENCED = {*PRODUCER_FENCED, MEMBER_FENCED}
# The broker (or the client for it) does not take a record for what it is.
_REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
}
_RETRY_S, _RETRY_MOST_S = 0.002, 0.1
FATAL = KafkaError._FATAL  # noqa: SLF001
_UNREACHABLE = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}  # noqa: SLF001
# A request may be under way still, though nobody waits for its answer any more: the connection broke, or the answer did not come in time.
UNCLEAR = {*_UNREACHABLE, KafkaError.REQUEST_TIMED_OUT, KafkaError.NETWORK_EXCEPTION}
OLD_EPOCH = {KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH}
# "No leaders found", of a broker that has just come back.
NO_LEADER = KafkaError._NOENT  # noqa: SLF001
# A topic just made, or a leader, coordinator or controller that moves or starts: the next metadata refresh settles it.
UNSETTLED = {
    # The metadata have neither a broker nor a topic: of a broker that starts.
    KafkaError._PARTIAL,  # noqa: SLF001
    KafkaError.NOT_CONTROLLER,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    NO_LEADER,
    *OLD_EPOCH,
}
# The protocol's, and the client's own for a topic of which it has heard that it is not there.
_MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
}


class KafkaFailureError(RuntimeError):
    """A Kafka error that is neither fencing nor transient (crash)."""


class UnsettledError(KafkaFailureError, TransientError):
    """A leader, coordinator or controller was not there until the deadline (retry: a stage waits for it, and a new process would as well)."""


class MissingTopicError(KafkaFailureError, TopicAwayError):
    """A topic or partition is not there (retry: a stage waits until somebody makes it, and a new process would as well)."""


class Connection:
    """Address, shared client settings and the deadline after which a silent broker counts as unreachable."""

    def __init__(self, bootstrap_servers: str, options: Mapping[str, str] | None = None, deadline_s: float = 30.0) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.deadline_s = deadline_s
        # retry.backoff.ms: a transaction takes 100 ms with the default, because AddOffsetsToTxn is retried after it.
        self._shared: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "retry.backoff.ms": 2,
            "retry.backoff.max.ms": 100,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.nagle.disable": True,
            "log_level": 2,
            **(options or {}),
        }

    def settings(self, usual: Mapping[str, Any] = MappingProxyType({}), /, **special: Any) -> dict[str, Any]:
        """Librdkafka settings: usual ones, over them the options, over these special ones, whose underscores become dots (not of callbacks)."""
        return {**usual, **self._shared, **{name if callable(value) else name.replace("_", "."): value for name, value in special.items()}}

    def unreachable(self, doing: str, detail: object) -> BrokerUnreachableError:
        """Say who does not answer."""
        return BrokerUnreachableError(
            f"Kafka at {self.bootstrap_servers} does not answer ({doing}, waited {self.deadline_s:.0f} s: {detail});"
            " check the address (TIDEMILL_KAFKA__BOOTSTRAP_SERVERS) and that the broker runs"
        )

    def call(self, doing: str, action: Callable[[], Result]) -> Result:
        """Do something until it works or cannot work any more.

        Raises
        ------
        FencedError, RecordRefusedError, TransientError, BrokerUnreachableError, UnsettledError, MissingTopicError, KafkaFailureError
            A successor took over; a record is not taken for what it is; the transaction must be aborted; no answer until the deadline;
            nobody who was in charge until then; no such topic; anything else.
        """
        deadline, pause_s = time.monotonic() + self.deadline_s, _RETRY_S
        while True:
            try:
                return action()
            except KafkaException as problem:
                error: KafkaError = problem.args[0]
                if error.code() in _FENCED:
                    raise FencedError(f"{doing}: {_text(error)}") from problem
                if error.code() in _REFUSED:
                    raise RecordRefusedError(f"{doing}: {_text(error)}") from problem
                if error.fatal():
                    raise KafkaFailureError(f"{doing}: fatal: {_text(error)}") from problem
                if error.txn_requires_abort():
                    raise TransientError(f"{doing}: {_text(error)}") from problem
                late = time.monotonic() > deadline
                if error.code() in _UNREACHABLE and late:
                    raise self.unreachable(doing, _text(error)) from problem
                if (error.retriable() or error.code() in _UNREACHABLE | UNSETTLED) and not late:
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, _RETRY_MOST_S)
                    continue
                raise _failure(error)(f"{doing}: {_text(error)}") from problem


def _failure(error: KafkaError) -> type[KafkaFailureError]:
    if error.code() in _MISSING:
        return MissingTopicError
    return UnsettledError if error.code() in UNSETTLED else KafkaFailureError


def _text(error: KafkaError) -> str:
    """Say what an error is; of those that a broker's answer brings the text alone may be empty."""
    return f"{error.str()} ({error.name()})"


def check(doing: str, error: KafkaError) -> None:
    """Raise what a consumer's error event means."""
    # librdkafka wraps a fatal error and keeps the original in the text only.
    if error.code() in _FENCED or (error.code() == FATAL and "fenced" in error.str().lower()):
        raise FencedError(f"{doing}: {error.str()}")
    if error.retriable() or error.code() in _UNREACHABLE | UNSETTLED:
        return  # librdkafka goes on trying; silence is noticed by whoever waits
    raise KafkaFailureError(f"{doing}: {error.str()}")


def to_columns(messages: list[Any]) -> list[Records]:
    """Messages as runs, one for each topic partition, in order of appearance."""
    if not messages:
        return []
    partitions: list[Any] = list(map(Message.partition, messages))
    topics: list[Any] = list(map(Message.topic, messages))
    if partitions.count(partitions[0]) == topics.count(topics[0]) == len(messages):
        return [_run(topics[0], partitions[0], messages)]
    addresses = dict.fromkeys(zip(topics, partitions, strict=True))
    runs: dict[tuple[str, int], list[Any]] = {address: [] for address in addresses}
    for message, *address in zip(messages, topics, partitions, strict=True):
        runs[tuple(address)].append(message)
    return [_run(topic, partition, run) for (topic, partition), run in runs.items()]


def _run(topic: str, partition: int, messages: list[Any]) -> Records:
    n = len(messages)
    times = np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, n)
    offsets = np.fromiter(map(Message.offset, messages), np.int64, n)
    return Records(topic, partition, offsets, times, list(map(Message.key, messages)), list(map(Message.value, messages)))
