"""PostgreSQL's wire protocol as far as a proxy must know it: where messages end, and which statements a request holds.

Reads only; whatever it does not know passes unchanged.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

PROTOCOL_3 = 3 << 16
CANCEL_REQUEST, TLS_REQUEST, GSS_REQUEST = 80877102, 80877103, 80877104
READY, ERROR = b"Z", b"E"
_COMMIT = re.compile(r"\s*(commit|end)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(insert|update|delete)\b|\btandem\.(enqueue|wake|drop|add)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """One message with its type byte; start-up packets have none."""

    kind: bytes
    raw: bytes


class Splitter:
    """Cuts a stream into messages and keeps what is incomplete. A client's stream begins with start-up packets."""

    def __init__(self, *, from_client: bool) -> None:
        self._buffer = bytearray()
        self._starting = from_client

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes."""
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        buffer, head = self._buffer, 0 if self._starting else 1
        if len(buffer) < head + 4:
            return None
        size = head + int(struct.unpack_from("!i", buffer, head)[0])
        if len(buffer) < size:
            return None
        raw = bytes(buffer[:size])
        del buffer[:size]
        if not self._starting:
            return Message(raw[:1], raw)
        if startup_code(raw) not in (TLS_REQUEST, GSS_REQUEST):
            self._starting = False
        return Message(b"", raw)


def startup_code(raw: bytes) -> int:
    """The protocol version of a start-up packet, or the code of a special request."""
    return int(struct.unpack_from("!i", raw, 4)[0]) if len(raw) >= 8 else 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sends up to the point where the server answers "ready": one simple query, or all up to a Sync."""

    number: int
    statements: tuple[str, ...]
    in_transaction: bool

    @property
    def is_commit(self) -> bool:
        """Whether it is an explicit COMMIT."""
        return any(_COMMIT.match(text) for text in self.statements)

    @property
    def commits(self) -> bool:
        """Whether the server commits something for it: a COMMIT, or a writing statement outside a transaction."""
        return self.is_commit or (not self.in_transaction and any(_writes(text) for text in self.statements))

    def says(self, text: str) -> bool:
        """Whether one of its statements contains `text`."""
        return any(text in statement for statement in self.statements)


@lru_cache(maxsize=1024)
def _writes(text: str) -> bool:
    return _WRITES.search(text) is not None


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes to forward. `request` is set where they complete one, so where an answer follows."""

    raw: bytes
    request: Request | None = None


class RequestReader:
    """Joins a client's messages to requests. `in_transaction` is what the server said last."""

    def __init__(self) -> None:
        self.in_transaction = False
        self._splitter = Splitter(from_client=True)
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._pending = bytearray()
        self._statements: list[str] = []
        self._count = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """What can be forwarded now."""
        for message in self._splitter.feed(data):
            self._pending += message.raw
            if message.kind in (b"Q", b"F", b"S"):
                self._note(message)
                self._count += 1
                request = Request(self._count, tuple(self._statements), self.in_transaction)
                self._statements.clear()
                yield self._flush(request)
            elif message.kind in (b"P", b"B", b"E", b"D", b"C"):
                self._note(message)
            else:  # start-up, passwords, COPY data, Flush, Terminate: nothing to wait for
                yield self._flush(None)

    def _flush(self, request: Request | None) -> Part:
        raw = bytes(self._pending)
        self._pending.clear()
        return Part(raw, request)

    def _note(self, message: Message) -> None:
        body = message.raw[5:]
        if message.kind == b"Q":
            self._statements.append(_text(body.split(b"\0", 1)[0]))
        elif message.kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._prepared[name] = _text(query)
        elif message.kind == b"B":
            portal, name, _ = body.split(b"\0", 2)
            self._portals[portal] = self._prepared.get(name, "")
        elif message.kind == b"E":
            self._statements.append(self._portals.get(body.split(b"\0", 1)[0], ""))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
