"""What every channel promises, tried with each there is: the same message is the same again, portions do not matter, and being away is said."""

import asyncio
import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from tests.unit.services.alerts.test_channels import KEY, MESSAGE, ONE, OVER, HttpReceiver, SmtpReceiver, post_office, receiver
from tidemill.services.alerts.channels.channel import Channel, NotSentError
from tidemill.services.alerts.channels.log_channel import LogChannel
from tidemill.services.alerts.channels.mail_channel import MailChannel
from tidemill.services.alerts.channels.topic_channel import TopicChannel
from tidemill.services.alerts.channels.webhook_channel import WebhookChannel
from tidemill.services.alerts.domain.notification import Message
from tidemill.services.alerts.settings import SmtpSettings, WebhookSettings
from tidemill.shared.application.alerts import AlertChannel
from tidemill.shared.avro.messages import message_codec
from tidemill.shared.avro.registry import MemorySchemaRegistry

__all__ = ["post_office", "receiver"]
ROOT = Path(__file__).parents[4] / "services" / "alerts" / "channels"
CODEC = message_codec(MemorySchemaRegistry(), "shop-alerts", "alert")


@dataclass
class Receivers:
    """Where messages of all channels come to."""

    http: HttpReceiver
    smtp: SmtpReceiver
    log: pytest.LogCaptureFixture
    published: list[tuple[bytes, bytes, int]] = field(default_factory=list)

    async def publish(self, key: bytes, value: bytes, at_ms: int) -> None:
        self.published.append((key, value, at_ms))


@dataclass(frozen=True)
class Case:
    """A channel, what its receiver has of the messages, in order, and what that says of single notifications."""

    make: Callable[[Receivers], Channel]
    received: Callable[[Receivers], Sequence[object]]
    told: Callable[[Receivers], list[tuple[str, str]]]
    away: Callable[[], Channel] | None = None


def webhook(body_format: str, url: str) -> Channel:
    return WebhookChannel("shop", body_format, WebhookSettings(url=SecretStr(url), key=SecretStr(KEY), timeout_s=2), now_s=lambda: 1.7e9)


def posted(body_format: str, told: Callable[[Any], list[tuple[str, str]]]) -> Case:
    return Case(
        lambda to: webhook(body_format, to.http.url),
        lambda to: [(headers["X-Tidemill-Message-Id"], headers["X-Tidemill-Signature"], body) for headers, body in to.http.posts],
        lambda to: [one for _, body in to.http.posts for one in told(json.loads(body))],
        lambda: webhook(body_format, "http://127.0.0.1:1/"),
    )


def mails(port: int) -> Channel:
    return MailChannel("shop", "tidemill@example.org", ["a@example.org"], SmtpSettings(port=port, timeout_s=2))


def mailed(text: str) -> list[tuple[str, str]]:
    heads = [line for line in text.splitlines() if line.startswith(("FIRING (", "RESOLVED ("))]
    return [(head.partition(" ")[0].lower(), head.partition(": ")[2]) for head in heads]


def first_line(text: str) -> str:
    return text.splitlines()[0]


CASES: Mapping[str, Case] = {
    "log": Case(
        lambda to: LogChannel(),
        lambda to: [line.__dict__["alert"] for line in to.log.records],
        lambda to: [(line.__dict__["alert"]["status"], first_line(line.__dict__["alert"]["summary"])) for line in to.log.records],
    ),
    "topic": Case(
        lambda to: TopicChannel(CODEC, to.publish),
        lambda to: to.published,
        lambda to: [(record["status"], first_line(record["summary"])) for _, value, _ in to.published for record in [CODEC.decode(value)]],
    ),
    "webhook tidemill": posted("tidemill", lambda body: [(one["status"], first_line(one["summary"])) for one in body["notifications"]]),
    "webhook slack": posted(
        "slack", lambda body: [(status, first_line(text)) for one in body["attachments"] for status, _, text in [one["title"].partition(": ")]]
    ),
    "webhook alertmanager": posted(
        "alertmanager", lambda body: [("resolved" if "endsAt" in one else "firing", first_line(one["annotations"]["summary"])) for one in body]
    ),
    "mail": Case(
        lambda to: mails(int(to.smtp.server_address[1])),
        lambda to: [(mail["Message-ID"], mail["Subject"], mail.get_payload()) for mail in to.smtp.mails],
        lambda to: [one for mail in to.smtp.mails for one in mailed(str(mail.get_payload()))],
        lambda: mails(1),
    ),
}


@pytest.fixture
def receivers(receiver: HttpReceiver, post_office: SmtpReceiver, caplog: pytest.LogCaptureFixture) -> Iterator[Receivers]:
    with caplog.at_level(logging.INFO, "tidemill.services.alerts.channels.log_channel"):
        yield Receivers(receiver, post_office, caplog)


def send(channel: Channel, *messages: Message) -> None:
    async def run() -> None:
        try:
            for message in messages:
                await channel.send(message)
        finally:
            await channel.close()

    asyncio.run(run())


def test_every_channel_there_is_has_its_case() -> None:
    there = {path.name.removesuffix("_channel.py") for path in ROOT.glob("*_channel.py")}
    formats = get_args(AlertChannel.model_fields["format"].annotation)
    assert set(CASES) == (there - {"webhook"}) | {f"webhook {name}" for name in formats}
    assert set(get_args(AlertChannel.model_fields["kind"].annotation)) <= there
    for name in there:
        assert hasattr(importlib.import_module(f"tidemill.services.alerts.channels.{name}_channel"), f"{name.capitalize()}Channel")


@pytest.mark.parametrize("name", CASES)
def test_a_message_that_is_sent_again_is_the_same(name: str, receivers: Receivers) -> None:
    case = CASES[name]
    send(case.make(receivers), MESSAGE)
    once = list(case.received(receivers))
    send(case.make(receivers), MESSAGE)
    assert once and case.received(receivers) == [*once, *once]


@pytest.mark.parametrize("name", CASES)
def test_one_by_one_tells_what_together_does(name: str, receivers: Receivers) -> None:
    case = CASES[name]
    send(case.make(receivers), MESSAGE)
    together = case.told(receivers)
    assert together == [("firing", "Drift of fraud"), ("resolved", "Drift of fraud")]
    send(case.make(receivers), Message("ops", (ONE,)), Message("ops", (OVER,)))
    assert case.told(receivers) == [*together, *together]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.away is not None])
def test_a_receiver_that_is_away_is_tried_again(name: str) -> None:
    away = CASES[name].away
    assert away is not None
    with pytest.raises(NotSentError) as caught:
        send(away(), MESSAGE)
    assert caught.value.again


@pytest.mark.parametrize("name", CASES)
def test_a_channel_that_has_sent_nothing_closes(name: str, receivers: Receivers) -> None:
    send(CASES[name].make(receivers))
    assert not CASES[name].received(receivers)
