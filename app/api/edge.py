"""The outermost layer: request ids, header limits, safe headers, a fact for metrics, and never a stack trace.

Plain ASGI, because a middleware of Starlette's own kind would cost each request a task and a queue.
"""

import logging
import re
from time import monotonic
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import events
from app.api.facts import RequestEnded
from app.api.ids import uuid7
from app.api.problems import render, unforeseen
from app.context import bind
from app.errors import AppError, Forbidden, InvalidInput

MOST_HEADERS: Final = 100
MOST_HEADER_BYTES: Final = 32 * 1024
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_ALWAYS: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]

_log = logging.getLogger(__name__)


class Edge:
    """Wraps the application. A client's own X-Request-ID is kept if it is a plain token, so that traces join up."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else uuid7().hex
        with bind(request_id=request_id):
            await self._serve(scope, receive, send, request_id.encode())

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        started = monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                names = {name for name, _ in headers}
                headers += [header for header in _ALWAYS if header[0] not in names]
                message = {**message, "headers": headers}
            await send(message)

        try:
            refused = _refusal(scope)
            if refused is not None:
                await render(refused)(scope, receive, send_with_headers)
            else:
                await self.app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                raise  # the answer has begun: only the server can still close the connection
            await unforeseen(error)(scope, receive, send_with_headers)
        finally:
            self._report(scope, status, monotonic() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "")
        events.publish(RequestEnded(method, route, status, seconds))
        _log.debug("%s %s answered %s in %.1f ms", method, route or "unknown path", status, seconds * 1000)


def _refusal(scope: Scope) -> AppError | None:
    headers = scope["headers"]
    change = scope["method"] not in SAFE
    foreign = False
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    hosts = 0
    for name, value in headers:
        size += len(name) + len(value)
        hosts += name == b"host"
        # What a browser says of the page behind a call (Fetch Metadata); programs say nothing.
        foreign |= change and name == b"sec-fetch-site" and value not in (b"same-origin", b"none")
    if len(headers) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        return InvalidInput("headers-too-large", "the request's headers are too large or too many")
    # RFC 9112, section 3.2: what two servers on the way could address differently is refused.
    if hosts > 1 or (hosts == 0 and scope.get("http_version") == "1.1"):
        return InvalidInput("bad-host", "a request has exactly one Host header")
    if foreign:
        return Forbidden(
            "cross-site", "a browser sent this for another site: only pages of this one may change things"
        )
    return None
