"""Sends one notification by its customer's channel; a failure is classified, and the queue tries again."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel

from app.config import Settings
from app.domains.customers import hooks, repository
from app.domains.customers.messages import subject
from app.outbound.mail import send_mail
from app.outbound.webhook import post
from app.queue.retry import HandlerError
from app.queue.running import Job


class Notify(BaseModel):
    """The payload: which notification."""

    notification_id: UUID


class Sender:
    """The handler. Sending happens outside any transaction; a repeat carries the same id, so receivers can tell."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.notifications
        self._ring = hooks.keyring(settings)

    async def handle(self, job: Job[Notify]) -> None:
        """Send, then mark as sent in the job's transaction."""
        notification_id = job.payload.notification_id
        async with job.connection() as connection:
            found = await repository.read_notification(connection, notification_id)
        if found is not None and found["sent_at"] is None:
            await self._send(found)
        async with job.transaction() as transaction:
            await repository.mark_notification(transaction.connection, notification_id, sent=True)

    async def _send(self, found: dict[str, Any]) -> None:
        line = subject(found["topic"], found["language"], found["facts"])
        if found["channel"] == "webhook" and found["webhook_url"] and found["webhook_secret"]:
            document = {
                "type": f"tandem.{found['topic']}",
                "timestamp": found["created_at"].isoformat(),
                "data": {**found["facts"], "customer_id": found["customer_id"], "subject": line},
            }
            await post(
                found["webhook_url"],
                document,
                message_id=f"msg_{found['id'].hex}",
                secret=hooks.unseal(self._ring, found["customer_id"], found["webhook_secret"]),
                seconds=self._settings.timeout_seconds,
                private=self._settings.webhook_private_addresses,
            )
        elif found["channel"] == "mail" and found["email"]:
            if self._settings.smtp_host is None:
                raise HandlerError(
                    "no mail server is configured", error_class="permanent", code="no-mail-server"
                )
            lines = [line, "", *(f"{name}: {value}" for name, value in sorted(found["facts"].items()))]
            await send_mail(
                self._settings,
                to=found["email"],
                subject=line,
                text="\n".join(lines),
                message_id=found["id"].hex,
            )
