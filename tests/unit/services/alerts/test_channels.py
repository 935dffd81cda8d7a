"""Webhooks and mails against real receivers: an HTTP server and an SMTP server on this machine."""

import asyncio
import email
import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from tidemill.services.alerts.channels.channel import NotSentError
from tidemill.services.alerts.channels.mail_channel import MailChannel
from tidemill.services.alerts.channels.webhook_channel import WebhookChannel
from tidemill.services.alerts.domain.notification import Message, Notification
from tidemill.services.alerts.settings import SmtpSettings, WebhookSettings

KEY = "a key of the test's own"
ONE = Notification(
    "a1", "drift_alarm", "firing", 1, "critical", "team@example.org", "Drift of fraud\nBcc: all@example.org", "statistic: 0.6", 1_358_424_000_000,
    1_358_420_400_000, 3, "shop-drift:0:17", labels={"model": "fraud"},
)  # fmt: skip
OVER = Notification(
    "a1", "drift_alarm", "resolved", 2, "critical", "team@example.org", "Drift of fraud", "statistic: 0.1", 1_358_431_200_000, 1_358_420_400_000, 3,
    "shop-drift:0:17", labels={"model": "fraud"},
)  # fmt: skip
MESSAGE = Message("ops", (ONE, OVER))


class HttpReceiver:
    """Answers what it is told to, and keeps what came."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.posts: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.posts.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/a-secret-path"


class SmtpReceiver(socketserver.ThreadingTCPServer):
    """As much of RFC 5321 as a client needs: keeps the mails; `refuse` is the answer to recipients."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.recipients: list[str] = []
        self.refuse = ""
        self.dies_at = ""
        super().__init__(("127.0.0.1", 0), _SmtpHandler)


class _SmtpHandler(socketserver.StreamRequestHandler):
    server: SmtpReceiver

    def handle(self) -> None:
        self._say("220 test")
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "RCPT":
                if self.server.refuse:
                    self._say(self.server.refuse)
                    continue
                self.server.recipients.append(line.partition("<")[2].partition(">")[0])
            if word == self.server.dies_at:
                self.server.dies_at = ""
                return
            if word == "DATA":
                self._say("354 go on")
                body = []
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    body.append(part)
                self.server.mails.append(email.message_from_bytes(b"".join(body)))
                if self.server.dies_at == "the answer to a mail":
                    self.server.dies_at = ""
                    return
            self._say("221 bye" if word == "QUIT" else "250 ok")
            if word == "QUIT":
                return

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    server = HttpReceiver()
    threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def post_office() -> Iterator[SmtpReceiver]:
    with SmtpReceiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def post(url: str, body_format: str = "tidemill", key: str | None = KEY, times: int = 1) -> None:
    async def send() -> None:
        settings = WebhookSettings(url=SecretStr(url), key=None if key is None else SecretStr(key), timeout_s=2)
        channel = WebhookChannel("shop", body_format, settings, now_s=lambda: 1_700_000_000.0)
        try:
            for _ in range(times):
                await channel.send(MESSAGE)
        finally:
            await channel.close()

    asyncio.run(send())


def refusal(url: str) -> NotSentError:
    with pytest.raises(NotSentError) as caught:
        post(url)
    return caught.value


def test_a_webhook_is_signed_and_the_same_message_is_the_same_whenever_it_is_sent(receiver: HttpReceiver) -> None:
    post(receiver.url, times=2)
    (headers, body), again = receiver.posts
    assert again[1] == body
    assert again[0]["X-Tidemill-Message-Id"] == headers["X-Tidemill-Message-Id"] == headers["Idempotency-Key"]
    expected = hmac.new(KEY.encode(), b"1700000000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Tidemill-Signature"] == f"v1={expected}"
    read = json.loads(body)
    assert (read["app"], read["message_id"]) == ("shop", headers["X-Tidemill-Message-Id"])
    assert [(one["alert_id"], one["status"], one["labels"]) for one in read["notifications"]] == [
        ("a1", "firing", {"model": "fraud"}),
        ("a1", "resolved", {"model": "fraud"}),
    ]


def test_without_a_key_nothing_is_signed(receiver: HttpReceiver) -> None:
    post(receiver.url, key=None)
    assert "X-Tidemill-Signature" not in receiver.posts[0][0]


def test_slack_gets_a_text_and_attachments(receiver: HttpReceiver) -> None:
    post(receiver.url, "slack")
    body: dict[str, Any] = json.loads(receiver.posts[0][1])
    assert body["text"].startswith("[shop] firing (critical): Drift of fraud")
    assert [(one["color"], one["title"].splitlines()[0]) for one in body["attachments"]] == [
        ("#a30200", "firing: Drift of fraud"),
        ("#2eb886", "resolved: Drift of fraud"),
    ]


def test_alertmanager_gets_a_list_of_alerts_whose_labels_stay_the_same(receiver: HttpReceiver) -> None:
    post(receiver.url, "alertmanager")
    firing, resolved = json.loads(receiver.posts[0][1])
    assert firing["labels"] == resolved["labels"]
    assert firing["labels"] | {"alertname": "drift_alarm", "app": "shop", "severity": "critical", "model": "fraud"} == firing["labels"]
    assert firing["startsAt"] == "2013-01-17T11:00:00.000Z"
    assert "endsAt" not in firing
    assert resolved["endsAt"] == "2013-01-17T14:00:00.000Z"


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (503, True), (429, True), (408, True), (400, False), (404, False), (410, False), (302, False)]
)
def test_what_a_receiver_answers_says_whether_another_attempt_may_help(receiver: HttpReceiver, status: int, again: bool) -> None:
    receiver.answers = [(status, {"Retry-After": "7", "Location": receiver.url})]
    error = refusal(receiver.url)
    assert (error.again, error.wait_s) == (again, 7.0)
    assert str(status) in str(error)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize(("url", "again"), [("http://127.0.0.1:1/a-secret-path", True), ("no address: a-secret-path", False)])
def test_an_address_without_a_receiver_is_not_said(url: str, again: bool) -> None:
    error = refusal(url)
    assert error.again is again
    assert "secret" not in str(error)
    assert error.__cause__ is None


def mail(port: int) -> None:
    channel = MailChannel("shop", "tidemill@example.org", ["a@example.org", "b@example.org"], SmtpSettings(port=port, timeout_s=2))
    asyncio.run(channel.send(MESSAGE))


def test_a_mail_reaches_every_recipient_under_the_same_id_and_a_text_begins_no_header(post_office: SmtpReceiver) -> None:
    port = int(post_office.server_address[1])
    mail(port)
    mail(port)
    first, second = post_office.mails
    assert first["Message-ID"] == second["Message-ID"] == f"<{MESSAGE.message_id}@shop.tidemill>"
    assert post_office.recipients == ["a@example.org", "b@example.org"] * 2
    assert first["Bcc"] is None
    assert " ".join(first["Subject"].split()) == "[shop] firing (critical): Drift of fraud Bcc: all@example.org and 1 more"
    text = str(first.get_payload())
    assert "FIRING (critical): Drift of fraud" in text
    assert "RESOLVED (critical): Drift of fraud" in text
    assert "alert a1, notification 2" in text


@pytest.mark.parametrize(("answer", "again"), [("451 later", True), ("550 nobody here", False)])
def test_what_a_mail_server_answers_says_whether_another_attempt_may_help(post_office: SmtpReceiver, answer: str, again: bool) -> None:
    post_office.refuse = answer
    with pytest.raises(NotSentError) as caught:
        mail(int(post_office.server_address[1]))
    assert caught.value.again is again
    assert not post_office.mails


@pytest.mark.parametrize("where", ["EHLO", "MAIL", "RCPT", "DATA", "the answer to a mail"])
def test_a_mail_server_that_dies_within_the_dialogue_gets_the_mail_again_under_the_same_id(post_office: SmtpReceiver, where: str) -> None:
    post_office.dies_at = where
    port = int(post_office.server_address[1])
    with pytest.raises(NotSentError) as caught:
        mail(port)
    assert caught.value.again
    mail(port)
    # It may have kept the mail before it could say so: then it has the same one twice.
    assert {one["Message-ID"] for one in post_office.mails} == {f"<{MESSAGE.message_id}@shop.tidemill>"}
    assert len(post_office.mails) == (2 if where == "the answer to a mail" else 1)


def test_a_mail_server_that_is_away_is_tried_again() -> None:
    with pytest.raises(NotSentError) as caught:
        mail(1)
    assert caught.value.again
