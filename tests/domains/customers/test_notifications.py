"""Notifications leave by mail and webhook, tried against real servers on loopback; nothing private is reached."""

import asyncio
import base64
import email
import email.policy
import hmac
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from app.errors import InvalidInput
from app.outbound.addresses import check_url, is_public, resolve
from app.outbound.webhook import WebhookFailed, make_secret, post, sign
from tests.support.conversations import read, write
from tests.support.customers import make_settings, submit, working
from tests.support.waiting import eventually_async


class Inbox:
    """An SMTP server's handler that keeps what comes; the first `refusals` messages get a 451."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.mails: list[tuple[list[str], Any]] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a message."""
        if self.refusals > 0:
            self.refusals -= 1
            return "451 try again"
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((envelope.rcpt_tos, parsed))
        return "250 taken"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    """A mail server on a free port."""
    handler = Inbox(refusals=1)
    with socket.create_server(("127.0.0.1", 0)) as free:  # aiosmtpd connects to the port it is told
        port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


class Receiver:
    """A webhook's receiver: answers the statuses given, then 204, and keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.calls.append((headers, body))
        status = self.statuses.pop(0) if self.statuses else 204
        location = "Location: http://127.0.0.1:1/\r\n" if status == 302 else ""
        writer.write(
            f"HTTP/1.1 {status} X\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(*statuses)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=b"
    async with server:
        yield receiver


def sent(url: str) -> list[Any]:
    """Notifications that were marked as sent."""
    return read(url, "SELECT topic FROM customer_notifications WHERE sent_at IS NOT NULL")


async def test_a_mail_is_tried_again_and_arrives_once(db_url: str, inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    settings = make_settings(
        notifications={
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_security": "none",
            "mail_from": "q@tandem.example",
        }
    )
    await submit(db_url, "ann", "pro")
    write(db_url, "UPDATE customers SET notify_by = 'mail', email = 'ann@example.org', language = 'vi'")
    async with working(db_url, settings, sweep=True):
        await eventually_async(lambda: sent(db_url), timeout=30)
    [(recipients, mail)] = handler.mails
    assert recipients == ["ann@example.org"]
    assert mail["Subject"].startswith("Tác vụ ")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "workflow: text-keywords" in mail.get_content()


async def test_a_webhook_is_signed_and_tried_again_under_the_same_id(db_url: str) -> None:
    secret = make_secret()
    await submit(db_url, "ann", "pro")
    async with receiving(503) as receiver:
        write(
            db_url,
            "UPDATE customers SET notify_by = 'webhook', webhook_url = %s, webhook_secret = %s",
            receiver.url,
            secret,
        )
        settings = make_settings(notifications={"webhook_private_addresses": True})
        async with working(db_url, settings, sweep=True):
            await eventually_async(lambda: sent(db_url), timeout=30)
    [(first, _), (headers, body)] = receiver.calls
    assert first["webhook-id"] == headers["webhook-id"]
    said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, said, sha256)).decode()
    document = json.loads(body)
    assert document["type"] == "tandem.job-succeeded"
    assert document["data"]["customer_id"] == "ann"


async def test_a_webhook_to_a_private_address_is_given_up_and_stays_readable(db_url: str) -> None:
    await submit(db_url, "ann", "pro")
    async with receiving() as receiver:
        write(
            db_url,
            "UPDATE customers SET notify_by = 'webhook', webhook_url = %s, webhook_secret = %s",
            receiver.url.replace("http://127.0.0.1", "https://localhost"),
            make_secret(),
        )
        async with working(db_url, sweep=True):
            await eventually_async(
                lambda: read(db_url, "SELECT 1 AS n FROM customer_notifications WHERE failed_at IS NOT NULL"),
                timeout=30,
            )
    assert receiver.calls == []
    [dead] = read(db_url, "SELECT error_class FROM tandem.done WHERE outcome = 'DEAD'")
    assert dead.error_class == "permanent"


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (500, "temporary"),
        (429, "temporary"),
        (401, "auth"),
        (403, "auth"),
        (404, "permanent"),
        (302, "permanent"),
    ],
)
async def test_an_answer_that_is_no_success_is_classified(status: int, error_class: str) -> None:
    async with receiving(status) as receiver:
        with pytest.raises(WebhookFailed) as failed:
            await post(receiver.url, {}, message_id="msg_1", secret=make_secret(), private=True)
    assert failed.value.error_class == error_class
    assert len(receiver.calls) == 1, "a redirect is not followed"


async def test_nobody_there_is_a_network_error() -> None:
    async with receiving() as receiver:
        url = receiver.url
    with pytest.raises(WebhookFailed) as failed:
        await post(url, {}, message_id="msg_1", secret=make_secret(), private=True)
    assert failed.value.error_class == "network"


@asynccontextmanager
async def talking(said: bytes, drip: bytes) -> AsyncIterator[str]:
    """A receiver that says this, then the same bytes for ever."""

    ended = asyncio.Event()
    talks: list[Any] = []

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        writer.write(said)
        while not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 0.05)
            writer.write(drip)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        ended.set()
        server.close()
        await asyncio.gather(*talks)


@pytest.mark.parametrize(("said", "drip"), [(b"", b""), (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n")])
async def test_f58_a_receiver_that_does_not_come_to_an_end_is_left(said: bytes, drip: bytes) -> None:
    async with talking(said, drip) as url, asyncio.timeout(60):
        with pytest.raises(WebhookFailed) as failed:
            await post(url, {}, message_id="msg_1", secret=make_secret(), private=True, seconds=1.0)
    assert failed.value.error_class == "network"


async def test_f58_an_answers_body_need_not_end() -> None:
    async with talking(b"HTTP/1.1 200 OK\r\n\r\n", b"on and on") as url, asyncio.timeout(60):
        assert await post(url, {}, message_id="msg_1", secret=make_secret(), private=True, seconds=30) == 200


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "https://", "https://user:pass@example.org/", "https://127.0.0.1/",
        "https://[::1]/", "https://169.254.169.254/latest/meta-data", "https://example.org:0/", "https://example.org:99999/",
    ],
)  # fmt: skip
def test_urls_that_no_webhook_may_have(url: str) -> None:
    with pytest.raises(InvalidInput, match="webhook"):
        check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433"])
async def test_names_and_odd_spellings_of_loopback_are_refused_when_resolved(host: str) -> None:
    with pytest.raises(InvalidInput, match="private or special"):
        await resolve(f"https://{host}/")


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
