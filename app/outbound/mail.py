"""Mail by SMTP (RFC 5321): one plain text message per call. The standard library's client, in a thread."""

import asyncio
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from app.config import NotificationSettings
from app.errors import AppError


class MailFailed(AppError):
    """The server did not take it: `error_class` says whether another try makes sense."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        error_class: str = "temporary",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message, detail=detail)
        self.error_class = error_class


async def send_mail(
    settings: NotificationSettings, *, to: str, subject: str, text: str, message_id: str
) -> None:
    """Send. Raises MailFailed: network when the server is away, auth, temporary for 4xx, permanent for 5xx.

    `message_id` is the same for each try, so that a mail that was taken twice is shown once.
    """
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = to
    message["Subject"] = " ".join(subject.split())
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{message_id}@{settings.mail_from.partition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation message comes back
    message.set_content(text)
    await asyncio.to_thread(_send, settings, message)


def _send(settings: NotificationSettings, message: EmailMessage) -> None:
    try:
        with _connect(settings) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.smtp_user is not None and settings.smtp_password is not None:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            server.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise MailFailed("mail-login", "the mail server refuses our login", error_class="auth") from error
    except smtplib.SMTPRecipientsRefused as error:
        code = next(iter(error.recipients.values()))[0]
        raise _refused(code) from error
    except smtplib.SMTPResponseException as error:
        raise _refused(error.smtp_code) from error
    except (smtplib.SMTPException, OSError) as error:
        message_ = f"the mail server is away: {type(error).__name__}"
        raise MailFailed("mail-unreachable", message_, error_class="network") from error


def _connect(settings: NotificationSettings) -> smtplib.SMTP:
    host, port, timeout = settings.smtp_host or "", settings.smtp_port, settings.timeout_seconds
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=timeout, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=timeout)


def _refused(code: int) -> MailFailed:
    final = code >= 500
    return MailFailed(
        "mail-refused", f"the mail server answers {code}", error_class="permanent" if final else "temporary"
    )
