"""Notifications by mail."""

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import format_datetime

from tidemill.services.alerts.channels.bodies import title_of
from tidemill.services.alerts.channels.channel import NotSentError
from tidemill.services.alerts.domain.notification import Message, Notification
from tidemill.services.alerts.settings import SmtpSettings
from tidemill.shared.instant import utc

_LONGEST_SUBJECT = 200


class MailChannel:
    """Sends each message as one mail, over a connection of its own: alerts are rare.

    A message that is sent again has the same ``Message-ID``, by which mail systems recognise copies.
    """

    def __init__(self, app: str, sender: str, to: Sequence[str], settings: SmtpSettings) -> None:
        self._app = app
        self._sender = sender
        self._to = tuple(to)
        self._settings = settings

    async def send(self, message: Message) -> None:
        """Send it in a thread, as smtplib waits."""
        await asyncio.to_thread(self._send, self.mail(message))

    async def close(self) -> None:
        """Nothing is open."""

    def mail(self, message: Message) -> EmailMessage:
        """Make the mail."""
        mail = EmailMessage()
        # A header is one line: a line break in a record's text must not begin another one.
        mail["Subject"] = " ".join(title_of(self._app, message).split())[:_LONGEST_SUBJECT]
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._to)
        mail["Message-ID"] = f"<{message.message_id}@{self._app}.tidemill>"
        mail["Date"] = format_datetime(utc(max(0, message.notifications[0].at_ms)))
        mail["X-Tidemill-Message-Id"] = message.message_id
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n\n".join(map(_paragraph, message.notifications)) + "\n")
        return mail

    def _send(self, mail: EmailMessage) -> None:
        settings = self._settings
        try:
            with smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s) as server:
                if settings.starttls:
                    server.starttls(context=ssl.create_default_context())
                if settings.user is not None and settings.password is not None:
                    server.login(settings.user, settings.password.get_secret_value())
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise NotSentError(f"no recipient was taken: {codes}", again=any(code < 500 for code in codes)) from None
        except smtplib.SMTPResponseException as error:
            raise NotSentError(f"the mail server answered {error.smtp_code}", again=error.smtp_code < 500) from None
        except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError) as error:
            raise NotSentError(f"the mail server cannot do what is asked: {error}", again=False) from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSentError(f"the mail server cannot be reached: {type(error).__name__}", again=True) from None


def _paragraph(one: Notification) -> str:
    since = utc(max(0, one.since_ms)).isoformat(timespec="seconds")
    return (
        f"{one.status.upper()} ({one.severity}): {one.summary}\n{one.detail}\n"
        f"since {since}, {one.records} records; rule {one.rule}, owner {one.owner}\nalert {one.alert_id}, notification {one.number}"
    )
