"""The HTTP server's side against slow and many clients: deadlines for heads and bodies, limits on connections.

uvicorn bounds only the pause between two requests. A proxy in front does the same job and more; this holds without one.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.config import ApiSettings

MOST_HEAD_BYTES: Final = 64 * 1024
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_LARGE_HEAD: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


@dataclass
class Limits:
    """The bounds of one server, and how many connections each address holds."""

    settings: ApiSettings
    held: Counter[str] = field(default_factory=Counter)


class BoundedProtocol(HttpToolsProtocol):
    """One connection: silent, slow or greedy ones are closed; what they ask for is bounded before it is read."""

    limits: ClassVar[Limits]
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _address: str | None = None
    _unused_bytes: int = 0
    _body_bytes: int = 0
    _in_head: bool = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, unless there are too many; its first request's head must come in time."""
        super().connection_made(transport)
        settings, held = self.limits.settings, self.limits.held
        self._address = self.client[0] if self.client else ""
        held[self._address] += 1
        # Sockets of this machine carry no address to tell their callers apart.
        many = self._address != "" and held[self._address] > settings.connections_per_address
        if many or len(self.connections) > settings.connections:
            transport.write(_FULL)
            transport.close()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._cancel()
        self._writing_goes_on()
        if self._address is not None:
            held = self.limits.held
            held[self._address] -= 1
            if held[self._address] <= 0:
                del held[self._address]
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what came since a head or a piece of a body: the parser takes heads and trailers of any length."""
        if self.transport.is_closing():
            return
        self._unused_bytes += len(data)
        super().data_received(data)
        if self._unused_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            if self._in_head:
                self.transport.write(_LARGE_HEAD)
            self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head has ended: what follows is the body, which must come at a pace."""
        self._in_head, self._unused_bytes, self._body_bytes = False, 0, 0
        super().on_headers_complete()
        self._watch_body()

    def on_body(self, body: bytes) -> None:
        """Count it."""
        self._unused_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: how long the answer takes is the application's business."""
        self._cancel()
        self._in_head = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read: wait for it, but not for ever."""
        super().pause_writing()
        self._writing_goes_on()
        self._stalled = self.loop.call_later(self.limits.settings.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._writing_goes_on()
        super().resume_writing()

    def _expect_head(self) -> None:
        self._cancel()
        self._in_head = True
        self._timer = self.loop.call_later(self.limits.settings.head_seconds, self._give_up)

    def _watch_body(self) -> None:
        """Look again after each window: a body that brought too little meanwhile ends the connection."""
        self._cancel()
        before, settings = self._body_bytes, self.limits.settings

        def look() -> None:
            wanted = settings.body_bytes_per_second * settings.body_window_seconds
            # While we do not read, nothing can come.
            if self._body_bytes - before >= wanted or self.flow.read_paused:
                self._watch_body()
            else:
                self._give_up()

        self._timer = self.loop.call_later(settings.body_window_seconds, look)

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _writing_goes_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def bounded(settings: ApiSettings) -> type[asyncio.Protocol]:
    """The protocol under these settings, for uvicorn's `http`."""
    attributes: dict[str, Any] = {"limits": Limits(settings)}
    return type("BoundedProtocol", (BoundedProtocol,), attributes)
