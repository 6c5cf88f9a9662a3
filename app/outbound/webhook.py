"""Signed webhooks (Standard Webhooks 1.0): one POST to a judged address, no redirects, answers read in part only."""

import asyncio
import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from types import ModuleType
from typing import Any, Final

from app.errors import AppError, InvalidInput
from app.outbound.addresses import resolve

PREFIX: Final = "whsec_"
_KEY_BYTES: Final = 24


class WebhookFailed(AppError):
    """The receiver did not take it: `error_class` says whether another try makes sense."""

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


def make_secret() -> str:
    """A fresh secret, as receivers' libraries expect it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature: HMAC-SHA256 over id, timestamp and body. Raises InvalidInput for what is no secret of ours."""
    if not secret.startswith(PREFIX):
        raise InvalidInput("bad-secret", "the webhook's secret does not begin with whsec_")
    key = base64.b64decode(secret.removeprefix(PREFIX))
    said = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, said, sha256)).decode()


async def post(
    url: str,
    document: Mapping[str, Any],
    *,
    message_id: str,
    secret: str,
    seconds: float = 10.0,
    private: bool = False,
) -> int:
    """Send and answer the status. Raises WebhookFailed: network when nobody answered within `seconds`, temporary
    for 5xx, 408 and 429, auth for 401 and 403, permanent for anything else that is no 2xx; InvalidInput for an
    address that is not allowed.
    """
    target = await resolve(url, private=private)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(time.time())
    default = target.port == (443 if target.scheme == "https" else 80)
    name = f"[{target.host}]" if ":" in target.host else target.host
    headers = {
        "host": name if default else f"{name}:{target.port}",
        "content-type": "application/json",
        "user-agent": "tandem-webhook/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
    address = f"[{target.address}]" if ":" in target.address else target.address
    url = f"{target.scheme}://{address}:{target.port}{target.path}"
    exchange = await asyncio.to_thread(_load)
    try:
        status = await exchange.exchange(
            url, server_name=target.host, headers=headers, body=body, seconds=seconds
        )
    except exchange.NoAnswerError as error:
        message = f"{target.host} does not answer: {error}"
        raise WebhookFailed("webhook-unreachable", message, error_class="network") from error
    return _judge(status, target.host)


def _load() -> ModuleType:
    # layout: late-import - it brings httpx, which a worker that sends no webhooks does without
    from app.outbound import exchange  # noqa: PLC0415

    return exchange


def _judge(status: int, host: str) -> int:
    if 200 <= status < 300:
        return status
    again = status >= 500 or status in (408, 425, 429)
    error_class = "temporary" if again else "auth" if status in (401, 403) else "permanent"
    raise WebhookFailed("webhook-refused-by-receiver", f"{host} answers {status}", error_class=error_class)
