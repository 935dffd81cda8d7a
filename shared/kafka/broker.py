"""`KafkaBroker`: the broker port on confluent-kafka (librdkafka)."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from tidemill.shared.kafka.admin import (
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    ConsumerGroupDescription,
    MemberDescription,
    NewTopic,
    TopicDescription,
    TopicMetadata,
)
from tidemill.shared.kafka.connection import UNSETTLED, Connection, KafkaFailureError, UnsettledError
from tidemill.shared.kafka.plain_sink import MESSAGE_BYTES, KafkaSink
from tidemill.shared.kafka.reader import KafkaReader
from tidemill.shared.kafka.sinks import KafkaTransactionalSink
from tidemill.shared.kafka.source import KafkaSource
from tidemill.shared.log.broker import TopicSpec
from tidemill.shared.log.errors import TransientError
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.log.topic_settings import TopicSettings

log = logging.getLogger(__name__)
SESSION_TIMEOUT_MS = 10_000
_IDS_S = 10.0
# So long a client is given to answer before another one takes its place.
_RENEWED_FOR_S = 0.25
_LOOKS_EVERY_S = 0.1
# What a broker without ids says.
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
Value = TypeVar("Value")


class KafkaBroker:
    """A Kafka cluster.

    Parameters
    ----------
    bootstrap_servers
        Its address.
    options
        Further librdkafka settings for every client (TLS, SASL).
    deadline_s
        A broker silent for longer is unreachable.
    session_timeout_ms
        A group member silent for longer loses its partitions.
    topics
        How topics are made.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        options: Mapping[str, str] | None = None,
        *,
        deadline_s: float = 30.0,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        topics: TopicSettings | None = None,
    ) -> None:
        self._connection = Connection(bootstrap_servers, options, deadline_s)
        self._session_timeout_ms = session_timeout_ms
        self._topics = topics or TopicSettings()
        self._admin: AdminClient | None = None
        self._renewed_s = 0.0

    def create_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that do not exist; when it returns, all of them can be read and written.

        Where all are there, one look at the cluster is all that is asked.

        Raises
        ------
        ValueError
            One has another number of partitions; or one that does not exist is to have more copies than there are brokers.
        TransientError
            The broker does not show them in time.
        """
        if not topics:
            return
        cluster = self._cluster()
        for spec in topics:
            count = _partitions(cluster.topics.get(spec.name))
            if count not in (0, spec.partitions):
                raise ValueError(f"topic {spec.name}: expected {spec.partitions} partitions, found {count}")
        missing = [spec for spec in topics if not _partitions(cluster.topics.get(spec.name))]
        # Of topics that are there nothing is demanded: a stage starts while a broker is away.
        made = {spec.name: self._topics.of(spec, len(cluster.brokers)) for spec in missing}
        self._warn_of_few_copies([spec.name for spec in topics], cluster)
        if missing:
            self._create([NewTopic(spec.name, spec.partitions, made[spec.name][0], config=made[spec.name][1]) for spec in missing])
        unled = [spec.name for spec in topics if not _is_led(cluster.topics.get(spec.name))]
        if unled:
            self._await_leaders(unled)

    def _create(self, topics: list[NewTopic]) -> None:
        """Ask for topics; one that somebody else makes at the same time is as good."""
        for name, future in self._client().create_topics(topics, request_timeout=self._connection.deadline_s).items():
            try:
                self._connection.call(f"create topic {name}", future.result)
            except RuntimeError as problem:
                cause = problem.__cause__
                if not (isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS):
                    raise

    def _cluster(self) -> ClusterMetadata:
        """Return the brokers and all topics, as the broker knows them now; one that has just been started may know none, itself included."""
        deadline = time.monotonic() + self._connection.deadline_s
        while True:
            cluster: ClusterMetadata = self._connection.call("metadata of the cluster", lambda: self._client().list_topics(timeout=2.0))
            if cluster.brokers:
                return cluster
            if time.monotonic() > deadline:
                raise TransientError(f"expected a broker in the metadata of the cluster, found none within {self._connection.deadline_s:.0f} s")
            time.sleep(_LOOKS_EVERY_S)

    def _await_leaders(self, names: Sequence[str]) -> None:
        """Wait until the broker shows topics that its controller has made: it learns of them a little later, and later yet on a loaded machine."""
        deadline = time.monotonic() + self._connection.deadline_s
        while True:
            there = self._cluster().topics
            missing = [name for name in names if not _is_led(there.get(name))]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TransientError(f"expected the topics {', '.join(missing)} with leaders, not shown within {self._connection.deadline_s:.0f} s")
            time.sleep(_LOOKS_EVERY_S)

    def _warn_of_few_copies(self, wanted: Sequence[str], cluster: ClusterMetadata) -> None:
        """Say what the loss of one broker's disk would cost."""
        copies = min(self._topics.copies(len(cluster.brokers)), len(cluster.brokers))
        there = {name: min(len(one.replicas) for one in topic.partitions.values()) for name, topic in cluster.topics.items() if topic.partitions}
        new = [name for name in wanted if name not in there]
        if new and copies < 2:
            extra = {"brokers": len(cluster.brokers), "topics": len(new)}
            log.warning("topics are made with one copy: the disk of the broker is the only one that has them; use three brokers", extra=extra)
        few = {name: there[name] for name in wanted if there.get(name, copies) < copies}
        if few:
            log.warning("topics have fewer copies than they would get now: move them with kafka-reassign-partitions", extra={"copies": few})

    def partitions(self, topic: str) -> int:
        """Number of partitions, 0 when there is no such topic."""
        return _partitions(self._connection.call(f"metadata of {topic}", lambda: self._client().list_topics(topic, timeout=2.0)).topics[topic])

    def max_message_bytes(self, topic: str) -> int:
        """Greatest record the topic takes, of the broker or of its producers, whichever is less."""
        if not self.partitions(topic):
            raise ValueError(f"expected an existing topic, there is no {topic}")
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

        def ask() -> int:
            return int(self._client().describe_configs([resource])[resource].result(self._connection.deadline_s)["max.message.bytes"].value)

        return min(self._connection.call(f"settings of {topic}", ask), MESSAGE_BYTES)

    def topic_ids(self, topics: Sequence[str]) -> Future[Mapping[str, str]]:
        """Which topics these names stand for; none of a broker older than ids."""
        return self._of_topics("ids", topics, lambda one: None if str(one.topic_id) == _NO_ID else str(one.topic_id))

    def partition_counts(self, topics: Sequence[str]) -> Future[Mapping[str, int]]:
        """How many partitions topics have."""
        return self._of_topics("partitions", topics, lambda one: len(one.partitions))

    def _of_topics(self, what: str, topics: Sequence[str], of: Callable[[TopicDescription], Value | None]) -> Future[Mapping[str, Value]]:
        """Ask for what there is of topics: the client's threads gather the answers."""
        answer: Future[Mapping[str, Value]] = Future()
        if not topics:
            answer.set_result({})
            return answer
        found: dict[str, Value] = {}
        problems: list[BaseException] = []
        missing, lock = set(topics), threading.Lock()

        def gather(name: str, done: Future[TopicDescription]) -> None:
            problem = done.exception()
            unknown = isinstance(problem, KafkaException) and problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            with lock:
                missing.discard(name)
                if problem is None and (value := of(done.result())) is not None:
                    found[name] = value
                elif problem is not None and not unknown:
                    problems.append(problem)
                last = not missing
            if last and problems:
                answer.set_exception(TransientError(f"{what} of topics: {problems[0]}"))
            elif last:
                answer.set_result(found)

        asked = self._client().describe_topics(TopicCollection(list(topics)), request_timeout=_IDS_S)
        for name, done in asked.items():
            done.add_done_callback(partial(gather, name))
        return answer

    def members(self, group: str) -> Mapping[str, Set[TopicPartition]]:
        """Return who is in a group."""
        return {
            member.group_instance_id: frozenset(TopicPartition(one.topic, one.partition) for one in member.assignment.topic_partitions)
            for member in self._members(group)
            if member.group_instance_id is not None
        }

    def _holder(self, group: str, instance: str) -> str | None:
        """Return the id of the member with a static name, None if nobody has it."""
        return next((member.member_id for member in self._members(group) if member.group_instance_id == instance), None)

    def _members(self, group: str) -> Sequence[MemberDescription]:
        asked = f"members of group {group}"
        try:
            return self._connection.call(asked, lambda: self._described(group)).members
        except KafkaFailureError as problem:
            cause = problem.__cause__
            code = cause.args[0].code() if isinstance(cause, KafkaException) else None
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            if code == KafkaError.UNKNOWN:
                # Of a coordinator that comes back and has not read all of its groups.
                raise UnsettledError(str(problem)) from problem
            raise

    def _described(self, group: str) -> ConsumerGroupDescription:
        client = self._client()
        try:
            description: ConsumerGroupDescription = client.describe_consumer_groups([group], request_timeout=5.0)[group].result()
            return description
        except KafkaException as problem:
            if problem.args[0].code() in UNSETTLED and time.monotonic() >= self._renewed_s + _RENEWED_FOR_S:
                # The client goes on asking who was the coordinator before: after an election, for ever.
                self._admin, self._renewed_s = None, time.monotonic()
            raise

    def source(self, group: str, instance: str) -> KafkaSource:
        """Make a member of a group."""
        return KafkaSource(self._connection, group, instance, self._session_timeout_ms, self._holder)

    def reader(self) -> KafkaReader:
        """Make a reader."""
        return KafkaReader(self._connection)

    def sink(self) -> KafkaSink:
        """Make a publisher."""
        return KafkaSink(self._connection)

    def transactional_sink(self, transactional_id: str) -> KafkaTransactionalSink:
        """Make a transactional producer."""
        return KafkaTransactionalSink(self._connection, transactional_id)

    def _client(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._connection.settings())
        return self._admin


def _partitions(topic: TopicMetadata | None) -> int:
    """Number of partitions, 0 when there is no such topic."""
    return 0 if topic is None or topic.error is not None else len(topic.partitions)


def _is_led(topic: TopicMetadata | None) -> bool:
    """Whether each partition of a topic has a leader, who can be asked."""
    return topic is not None and topic.error is None and bool(topic.partitions) and all(one.leader >= 0 for one in topic.partitions.values())
