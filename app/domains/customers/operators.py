"""Operators hear of errors of class auth at once: a mail by a job of its own. Without an address nothing is sent."""

from typing import Any, Final

import psycopg
from pydantic import BaseModel

from app.config import Settings
from app.outbound.mail import send_mail
from app.queue.enqueue import enqueue_async
from app.queue.job import NewJob
from app.queue.kinds import Change
from app.queue.retry import HandlerError
from app.queue.running import Job

KIND: Final = "customers.alert-operators"
QUEUE: Final = "notifications"
MOST_TEXT: Final = 1000


class Alert(BaseModel):
    """The payload: which job failed, and how."""

    job_id: int
    kind: str
    message: str


async def alert(connection: psycopg.AsyncConnection[Any], change: Change) -> None:
    """Enqueue the mail in the transaction of the failure, so that it is sent if and only if that is kept."""
    told = Alert(job_id=change.job_id, kind=change.kind, message=(change.message or "")[:MOST_TEXT])
    await enqueue_async(connection, NewJob(KIND, told.model_dump(), queue=QUEUE))


class Operators:
    """The handler. A repeat carries the same message id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def handle(self, job: Job[Alert]) -> None:
        """Send one mail. Raises MailFailed, and HandlerError (permanent) without address or mail server."""
        to, notifications = self._settings.customers.operator_email, self._settings.notifications
        if to is None or notifications.smtp_host is None:
            raise HandlerError(
                "TANDEM_CUSTOMERS__OPERATOR_EMAIL needs TANDEM_NOTIFICATIONS__SMTP_HOST on the workers, too",
                error_class="permanent",
                code="no-mail-server",
            )
        alerted = job.payload
        await send_mail(
            notifications,
            to=to,
            subject=f"Job {alerted.job_id} of {alerted.kind} has no access",
            text=f"{alerted.message}\n\nIt is not tried again. See: tandem dlq show {alerted.job_id}",
            message_id=f"alert-{job.id}",
        )
        async with job.transaction():
            pass
