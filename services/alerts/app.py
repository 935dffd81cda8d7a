"""The faust application: one agent for each kind of public topic."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from tidemill.services.alerts.domain.rows import AgentSource, AlertInput, fields_of
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.log.errors import InvalidRecord

_READ_COMMITTED = "read_committed"
_MOST_AT_ONCE = 2_000
_SOON_S = 0.2
# How soon a partition is read that was made while the service runs; aiokafka's own five minutes are too long to wait for an alert.
_METADATA_AGE_MS = 5_000
# For so long a service that was killed keeps its partitions from the next one; faust's own minute is a minute without alerts.
_SESSION_S = 15.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentInput:
    """What one agent reads.

    Attributes
    ----------
    codecs
        By topic.
    within_s
        How long records are gathered.
    newest_only
        Whether of one key only the newest record of what was gathered counts (compacted topics).
    """

    source: AgentSource
    codecs: Mapping[str, RecordCodec]
    within_s: float = _SOON_S
    newest_only: bool = False


Take = Callable[[AgentSource, Sequence[AlertInput]], Awaitable[None]]


class _CommittedConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc, unused-ignore]  # faust has no types
    """Faust reads committed records only together with its own transactions, which are none on current brokers; ours are the stages'."""

    logger = logging.getLogger("faust.consumer")  # mode would take this module's, with a line for every step

    def _create_worker_consumer(self, transport: Any) -> Any:  # aiokafka has no types
        consumer = super()._create_worker_consumer(transport)
        if not hasattr(consumer, "_isolation_level"):
            raise RuntimeError("expected aiokafka's consumer to keep its isolation level as version 0.14.0 does; install that version")
        consumer._isolation_level = _READ_COMMITTED  # noqa: SLF001 - neither faust nor aiokafka has another way
        return consumer


class _CommittedConsumer(Consumer):  # type: ignore[misc, unused-ignore]  # faust has no types
    logger = logging.getLogger("faust.consumer")

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(Transport):  # type: ignore[misc, unused-ignore]  # faust has no types
    """Faust's transport for Kafka, reading committed records only."""

    Consumer = _CommittedConsumer


def build_app(
    name: str,
    bootstrap_servers: str,
    options: Mapping[str, str],
    folder: Path,
    inputs: Sequence[AgentInput],
    take: Take,
    failed: "asyncio.Future[None]",
) -> faust.App:
    """Return the application; call in the loop that is to run it.

    Faust commits an offset when the agent has come back for more, that is, when `take` has returned: at least once.

    Parameters
    ----------
    options
        librdkafka's, of which those of TLS and SASL are used.
    folder
        Where faust may keep files; tables there are none.
    failed
        Gets the exception of an agent. Faust would start the agent again behind the record that it failed on; here the process ends, and reads
        the record again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    brokers = [f"kafka://{server.strip()}" for server in bootstrap_servers.split(",")]
    app = faust.App(
        name,
        broker=brokers,
        broker_credentials=credentials(options),
        store="memory://",
        datadir=str(folder),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=_METADATA_AGE_MS,
        broker_session_timeout=_SESSION_S,
        broker_rebalance_timeout=_SESSION_S,
        broker_commit_interval=1.0,
        stream_wait_empty=False,
    )
    app.transport = CommittedTransport(app.conf.broker_consumer, app)
    for one in inputs:
        topic = app.topic(*one.codecs, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name=f"{name}.{one.source}")(_agent(one, take, failed))
    return app


def _agent(one: AgentInput, take: Take, failed: "asyncio.Future[None]") -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:  # faust's Stream
        async for events in stream.take_events(_MOST_AT_ONCE, within=one.within_s):
            try:
                await take(one.source, decoded(one, [event.message for event in events]))
            except Exception as error:
                if not failed.done():
                    failed.set_exception(error)
                # Coming back would acknowledge the records.
                await asyncio.Event().wait()

    return agent


def decoded(one: AgentInput, messages: Sequence[Any]) -> list[AlertInput]:
    """Decode messages (topic, partition, offset, key, value). What is no record of the topic's is named in the log; there is nothing to say of it."""
    chosen = list({(message.topic, message.partition, message.key): message for message in messages}.values()) if one.newest_only else messages
    inputs = []
    for message in sorted(chosen, key=lambda message: message.offset) if one.newest_only else chosen:
        if message.value is None:
            continue
        try:
            record = one.codecs[message.topic].decode(message.value)
        except InvalidRecord as error:
            place = {"topic": message.topic, "partition": message.partition, "offset": message.offset}
            log.error("a record of a public topic cannot be read, and is skipped", extra={**place, "reason": error.reason, "detail": error.detail})
            continue
        time_ms, fields = fields_of(one.source, record)
        inputs.append(AlertInput(message.topic, message.partition, message.offset, time_ms, fields))
    return inputs


def credentials(options: Mapping[str, str]) -> Any:  # faust's credentials, or None
    """Return faust's credentials for librdkafka's options.

    Raises
    ------
    ValueError
        The options ask for a way that aiokafka does not have.
    """
    protocol = options.get("security.protocol", "plaintext").upper()
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol in ("SSL", "SASL_SSL"):
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if "ssl.certificate.location" in options:
            context.load_cert_chain(options["ssl.certificate.location"], options.get("ssl.key.location"), options.get("ssl.key.password"))
    if protocol == "SSL":
        return faust.SSLCredentials(context=context)
    mechanism = options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN"))
    if protocol not in ("SASL_SSL", "SASL_PLAINTEXT") or mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise ValueError(f"alerts: expected SSL, or SASL with PLAIN or SCRAM, came security.protocol {protocol} with sasl.mechanism {mechanism}")
    return faust.SASLCredentials(
        username=options.get("sasl.username"), password=options.get("sasl.password"), ssl_context=context, mechanism=mechanism
    )
