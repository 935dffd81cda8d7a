"""Alerts: reads the public topics and tells people, by log, topic, webhook and mail.

Nothing waits for it, and it decides nothing: it runs on faust-streaming, at least once, and every message is known by its id.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import faust

from tidemill.services.alerts.alert_clock import AlertClock
from tidemill.services.alerts.app import AgentInput, build_app
from tidemill.services.alerts.channels.channel import Channel
from tidemill.services.alerts.channels.log_channel import LogChannel
from tidemill.services.alerts.channels.mail_channel import MailChannel
from tidemill.services.alerts.channels.topic_channel import TopicChannel
from tidemill.services.alerts.channels.webhook_channel import WebhookChannel
from tidemill.services.alerts.desk import AlertDesk
from tidemill.services.alerts.domain.defaults import rules_of
from tidemill.services.alerts.domain.fold import AlertFold
from tidemill.services.alerts.domain.policy import AlertPolicy
from tidemill.services.alerts.domain.rows import AgentSource, AlertInput
from tidemill.services.alerts.settings import AlertServiceSettings
from tidemill.services.alerts.state import KEY, encode_state, read_state
from tidemill.shared.application.alerts import AlertChannel, Alerts, milliseconds
from tidemill.shared.application.errors import ApplicationError
from tidemill.shared.application.model import Application
from tidemill.shared.application.topics import STAGES, Topics
from tidemill.shared.avro.records import RecordCodec
from tidemill.shared.avro.registry import SchemaRegistry
from tidemill.shared.commands.signing import MUTE_ALERTS, UNMUTE_ALERTS, is_signed
from tidemill.shared.log.broker import Broker, Reader
from tidemill.shared.log.records import TopicPartition
from tidemill.shared.observability.health import ProcessHealth
from tidemill.shared.observability.metrics import Metrics

NAME = "alerts"
_SCHEMAS = Path(__file__).parents[2] / "schemas"
_LONGEST_TEXT = 1_000
_LONGEST_COMMAND = 10_000
_ONE_TASK = ("drift", "control", "retraining")
_CATCHING_UP_MS = 60_000
_REPLAY_LOOK_MS = 60_000
# Together less than what the supervisor waits for before it kills.
_READ_UP_S = 5.0
_SENT_S = 3.0
_TAIL = 50
log = logging.getLogger(__name__)


class AlertService:
    """The wired service; `run` it in an event loop.

    Raises
    ------
    ApplicationError
        A channel of the application has no address in the environment.
    """

    def __init__(
        self,
        application: Application,
        settings: AlertServiceSettings,
        broker: Broker,
        registry: SchemaRegistry,
        metrics: Metrics,
        health: ProcessHealth,
    ) -> None:
        self._application = application
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._registry = registry
        self._broker = broker
        self._key = settings.commands.secret()
        self._topics = Topics(application.app, ())
        self._replay = settings.ingestion.clock == "replay"
        self._clock = AlertClock()
        self._state_codec = self._codec(self._topics.alert_state, "AlertState")
        declared = declared_channels(application, replay=self._replay)
        self._channels = {name: self._channel(name, channel) for name, channel in declared.items()}
        alerts = application.alerts
        policy = AlertPolicy(
            application.app,
            application.owner,
            {name: channel.severity for name, channel in declared.items()},
            alerts.mute,
            alerts.group_wait,
        )
        if self._replay:
            policy = replace(policy, look_every_ms=_REPLAY_LOOK_MS, history_ms=None, clock="replay")
        else:
            policy = told_from(policy, alerts)
        self._fold = AlertFold(rules_of(application, replay=self._replay), policy)
        state = read_state(broker, self._topics.alert_state, self._state_codec)
        if state is not None:
            self._fold.load(state)
        log.info("alerts", extra={"rules": [rule.name for rule in rules_of(application, replay=self._replay)], "channels": list(declared)})

    async def run(self, stop: asyncio.Event) -> None:
        """Work until asked to stop; raises what ends an agent or faust itself."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        settings = self._settings
        folder = settings.runner.state_folder / NAME
        started = asyncio.Event()

        async def take(source: AgentSource, records: Sequence[AlertInput]) -> None:
            await started.wait()
            await self._tick(desk, [record.time_ms for record in records] if source != "commands" else [])
            if source == "commands":
                await desk.order(
                    [one if self._is_for_alerts(one) else one._replace(fields={"command": ""}) for one in records], at_clock=self._replay
                )
            else:
                await desk.take(source, records)

        app = build_app(
            f"{self._application.app}-{NAME}", settings.kafka.bootstrap_servers, settings.kafka.client_options(), folder, self._inputs(), take, failed
        )

        async def remember(state: bytes) -> None:
            await self._publish(app, self._topics.alert_state, KEY, encode_state(self._state_codec, state), None)

        async def publish(key: bytes, value: bytes, timestamp_ms: int) -> None:
            await self._publish(app, self._topics.alerts, key, value, timestamp_ms)

        codec = self._codec(self._topics.alerts, "Alert", _LONGEST_TEXT)
        channels: Mapping[str, Channel] = {"log": LogChannel(), "topic": TopicChannel(codec, publish), **self._channels}
        desk = AlertDesk(self._fold, remember, channels, settings.alerts, self._health, self._metrics)
        # For as long as the session of a member that died lasts.
        await app.start()
        await app.maybe_start_producer()
        if not self._replay:
            self._expect_stages()
        await desk.give_up_unknown()
        started.set()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(desk.send_all(channel), name=f"send by {channel}") for channel in channels]
        tasks += [asyncio.create_task(self._keep_time(desk, app), name="clock"), asyncio.create_task(stop.wait(), name="stop")]
        try:
            done, _ = await asyncio.wait([*tasks, failed], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
            if self._replay:
                await self._drain(desk, app)
            if failed.done():
                failed.result()
        finally:
            self._health.set_ready(False)
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
        await app.stop()
        await desk.close()

    async def _drain(self, desk: AlertDesk, app: faust.App) -> None:
        """Nobody starts an ended replay again: what its stages wrote last is read, and what follows from it is sent."""
        ends = await asyncio.to_thread(last_records, self._broker, [(one.topic, one.partition) for one in app.consumer.assignment()])
        deadline = asyncio.get_running_loop().time() + _READ_UP_S
        while unread := [place for place, end in ends.items() if self._fold.positions.get(place, 0) < end]:
            if asyncio.get_running_loop().time() > deadline:
                log.warning("records of the replay's end are not read", extra={"partitions": unread})
                break
            await asyncio.sleep(0.05)
        await desk.drain(_SENT_S)

    def _is_for_alerts(self, one: AlertInput) -> bool:
        if one.fields["command"] not in (MUTE_ALERTS, UNMUTE_ALERTS):
            return False
        if is_signed(one.fields, self._key):
            return True
        place = {"topic": one.topic, "partition": one.partition, "offset": one.offset}
        log.error("a command to alerts is not followed: its signature is missing or wrong; send it with `tidemill alerts`", extra=place)
        return False

    def _expect_stages(self) -> None:
        self._fold.resume(self._clock.now_ms(), _CATCHING_UP_MS)
        for stage in self._application.stages:
            for partition in range(1 if stage in _ONE_TASK else self._application.partitions):
                self._fold.expect("progress", self._topics.progress(stage), partition, {"stage": stage, "partition": partition})

    async def _keep_time(self, desk: AlertDesk, app: faust.App) -> None:
        while not (app.crashed or app.should_stop):
            await self._tick(desk)
            self._health.advanced()
            self._health.set_ready(bool(app.consumer.assignment()) and not app.rebalancing)
            await asyncio.sleep(self._settings.alerts.tick_s)
        raise RuntimeError(f"faust has ended: {app.crash_reason!r}") from app.crash_reason

    async def _tick(self, desk: AlertDesk, times_ms: Sequence[int] = ()) -> None:
        """Live, the clock is the host's; in a replay records alone move it."""
        if not self._replay:
            await desk.tick(self._clock.now_ms(times_ms))

    async def _publish(self, app: faust.App, topic: str, key: bytes, value: bytes, timestamp_ms: int | None) -> None:
        await app.producer.send_and_wait(topic, key, value, 0, None if timestamp_ms is None else timestamp_ms / 1000, None)

    def _inputs(self) -> Sequence[AgentInput]:
        topics = self._topics
        progress = {topics.progress(stage): self._codec(topics.progress(stage), "Progress") for stage in STAGES}
        return (
            AgentInput("drift", {topics.drift: self._codec(topics.drift, "Drift")}),
            AgentInput("incidents", {topics.incidents: self._codec(topics.incidents, "Incident")}),
            AgentInput("health", {topics.health: self._codec(topics.health, "Health")}),
            AgentInput("decisions", {topics.decisions: self._codec(topics.decisions, "Decision")}),
            AgentInput("retraining", {topics.retraining: self._codec(topics.retraining, "Retraining")}),
            AgentInput("deployments", {topics.deployments: self._codec(topics.deployments, "Deployment")}),
            AgentInput("commands", {topics.commands: self._codec(topics.commands, "Command", _LONGEST_COMMAND)}),
            AgentInput("rejected", {topics.rejected: self._codec(topics.rejected, "Rejected")}),
            AgentInput("progress", progress, self._settings.alerts.tick_s, newest_only=True),
        )

    def _channel(self, name: str, channel: AlertChannel) -> Channel:
        settings = self._settings.alerts
        if channel.kind == "mail":
            return MailChannel(self._application.app, str(channel.sender), channel.to, settings.smtp)
        if name not in settings.webhooks:
            raise ApplicationError(
                self._settings.application / "app.yaml", 1, f"the address of the webhook {name} in TIDEMILL_ALERTS__WEBHOOKS", "none"
            )
        return WebhookChannel(self._application.app, channel.format, settings.webhooks[name])

    def _codec(self, topic: str, name: str, longest_text: int | None = None) -> RecordCodec:
        file = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("-")
        text = (_SCHEMAS / f"{file}.avsc").read_text(encoding="utf-8")
        return RecordCodec(self._registry, f"{topic}-tidemill.{name}", text, longest_text)


def told_from(policy: AlertPolicy, alerts: Alerts) -> AlertPolicy:
    """Return the policy with what a new installation tells of old records."""
    if alerts.since == "beginning":
        return replace(policy, history_ms=None)
    return policy if alerts.since == "open" else replace(policy, since_ms=milliseconds(alerts.since))


def last_records(broker: Broker, places: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return the offset behind the last record of each partition (markers of transactions aside), by ``topic:partition``; none for an empty one."""
    reader = broker.reader()
    try:
        return {
            f"{topic}:{partition}": end for topic, partition in places if (end := _last_record(reader, TopicPartition(topic, partition))) is not None
        }
    finally:
        reader.close()


def _last_record(reader: Reader, place: TopicPartition) -> int | None:
    first, end = reader.watermarks(place)
    offsets = [int(records.offsets[-1]) + 1 for records in reader.read(place, max(first, end - _TAIL)) if len(records.offsets)]
    return offsets[-1] if offsets else None


def declared_channels(application: Application, *, replay: bool) -> dict[str, AlertChannel]:
    """Return the webhooks and mails that are sent: in a replay those only that say so."""
    return {name: channel for name, channel in application.alerts.channels.items() if channel.in_replay or not replay}
