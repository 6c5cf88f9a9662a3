"""The worked example: camera events go to AI, analytics and notification; what they find travels on; logs are archived.

Four topics, four groups. On when TANDEM_TOPICS__EXAMPLE is true; also the pattern to copy for own consumers.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel

from app.client.aio import publish
from app.config import NotificationSettings, TopicSettings
from app.domains.topics.consumers import Consumer, Received
from app.domains.topics.tracing import message_headers
from app.outbound.mail import send_mail
from app.outbound.webhook import post
from app.queue.retry import HandlerError

CAMERAS, RESULTS, NOTIFICATIONS, AUDIT = (
    "camera.events",
    "ai.inference.results",
    "notifications",
    "audit.logs",
)
AI, ANALYTICS = "ai-consumer-group", "analytics-consumer-group"
NOTIFICATION, ARCHIVE = "notification-consumer-group", "audit-consumer-group"
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    CAMERAS: (AI, ANALYTICS, NOTIFICATION),
    RESULTS: (ANALYTICS, NOTIFICATION),
    NOTIFICATIONS: (NOTIFICATION,),
    AUDIT: (ARCHIVE,),
}
CROWD: Final = 40
"""From so many people on somebody is told."""


class CameraEvent(BaseModel):
    """What a camera says; `frame` stands for the picture."""

    camera: str
    kind: Literal["frame", "status", "error"] = "frame"
    frame: str = ""


class Inference(BaseModel):
    """How many people a frame shows."""

    camera: str
    people: int


class Notification(BaseModel):
    """Something to tell somebody."""

    channel: Literal["email", "sms", "push", "webhook"]
    to: str
    subject: str
    text: str = ""


class Port(Protocol):
    """A way to tell somebody something; `message_id` is the same for each try, so that receivers drop repeats."""

    async def send(self, one: Notification, message_id: str) -> None:
        """Send. Raises an error whose class says whether another try makes sense."""


class MailPort:
    """E-mail through the SMTP server of the settings."""

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings

    async def send(self, one: Notification, message_id: str) -> None:
        """Send one mail."""
        if self._settings.smtp_host is None:
            raise _not_set_up("email", "TANDEM_NOTIFICATIONS__SMTP_HOST")
        text = one.text or one.subject
        await send_mail(self._settings, to=one.to, subject=one.subject, text=text, message_id=message_id)


class GatewayPort:
    """An HTTP gateway: webhooks to `to` itself; SMS and push through the provider's address in the settings."""

    def __init__(self, settings: NotificationSettings, url: str | None, secret: str, name: str) -> None:
        self._settings, self._url, self._secret, self._name = settings, url, secret, name

    async def send(self, one: Notification, message_id: str) -> None:
        """Post one notification, signed."""
        url = one.to if self._name == "webhook" else self._url
        if url is None:
            raise _not_set_up(self._name, f"TANDEM_TOPICS__{self._name.upper()}_GATEWAY")
        await post(
            url,
            one.model_dump(),
            message_id=message_id,
            secret=self._secret,
            seconds=self._settings.timeout_seconds,
            private=self._settings.webhook_private_addresses,
        )


def _not_set_up(channel: str, variable: str) -> HandlerError:
    return HandlerError(f"no way to send {channel}: set {variable}", error_class="permanent", code="no-port")


def make_ports(settings: TopicSettings, outbound: NotificationSettings) -> dict[str, Port]:
    """One port for each channel."""
    secret = settings.webhook_secret.get_secret_value()
    return {
        "email": MailPort(outbound),
        "webhook": GatewayPort(outbound, None, secret, "webhook"),
        "sms": GatewayPort(outbound, settings.sms_gateway, secret, "sms"),
        "push": GatewayPort(outbound, settings.push_gateway, secret, "push"),
    }


async def infer(received: Received[CameraEvent]) -> None:
    """The AI group: count people, and publish the result in the transaction that acknowledges the event."""
    event = received.body
    if event.kind != "frame":
        return
    if event.frame == "unreadable":
        raise HandlerError("the frame cannot be decoded", error_class="permanent", code="bad-frame")
    people = sum(event.frame.encode()) % 50
    async with received.job.transaction() as tx:
        result = Inference(camera=event.camera, people=people)
        await publish(tx.connection, RESULTS, result, key=event.camera, headers=message_headers({}))


async def count(received: Received[Any]) -> dict[str, Any]:
    """The analytics groups: what was counted is the job's result."""
    return {"camera": received.body.get("camera"), "people": received.body.get("people", 0)}


async def notice(received: Received[CameraEvent]) -> None:
    """The notification group of camera events: an error is worth telling, and for the audit log."""
    event = received.body
    if event.kind != "error":
        return
    told = Notification(
        channel="email", to="operator@example.org", subject=f"{event.camera} reports an error"
    )
    async with received.job.transaction() as tx:
        await publish(tx.connection, NOTIFICATIONS, told, key=event.camera, headers=message_headers({}))
        entry = {"event": "camera-error", "camera": event.camera}
        await publish(tx.connection, AUDIT, entry, key=event.camera, headers=message_headers({}))


async def warn(received: Received[Inference]) -> None:
    """The notification group of results: a crowd is worth telling."""
    if received.body.people < CROWD:
        return
    text = f"{received.body.people} people at {received.body.camera}"
    told = Notification(channel="webhook", to=received.headers.get("alarm", ""), subject=text)
    if not told.to:
        told = Notification(channel="email", to="operator@example.org", subject=text)
    async with received.job.transaction() as tx:
        await publish(
            tx.connection, NOTIFICATIONS, told, key=received.body.camera, headers=message_headers({})
        )


def consumers(settings: TopicSettings, outbound: NotificationSettings) -> list[Consumer]:
    """The example's four groups on its four topics."""
    ports = make_ports(settings, outbound)

    async def tell(received: Received[Notification]) -> None:
        await ports[received.body.channel].send(received.body, str(received.envelope.message_id))

    async def archive(received: Received[Any]) -> None:
        line = {"position": received.envelope.position, "at": received.envelope.published_at.isoformat()}
        await asyncio.to_thread(_append, settings.archive_folder, line | {"entry": received.body})

    return [
        Consumer(CAMERAS, AI, infer, message=CameraEvent),
        Consumer(CAMERAS, ANALYTICS, count),
        Consumer(CAMERAS, NOTIFICATION, notice, message=CameraEvent),
        Consumer(RESULTS, ANALYTICS, count),
        Consumer(RESULTS, NOTIFICATION, warn, message=Inference),
        Consumer(NOTIFICATIONS, NOTIFICATION, tell, message=Notification),
        Consumer(AUDIT, ARCHIVE, archive, backoff="linear"),
    ]


def _append(folder: Path, line: dict[str, Any]) -> None:
    """Long-term storage: one JSON line a day's file; a repeat has the same position."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"audit.logs-{line['at'][:10]}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
