"""Slow, silent and greedy clients of a real server: each is closed in its time while honest ones are served."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from app.api.server import bounded
from app.main import create_app
from tests.support.conversations import END, body, counts, make_settings
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {"head_seconds": 0.5, "body_window_seconds": 0.5, "body_bytes_per_second": 1000}
Address = tuple[str, int]
HEAD = f"POST {END} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n".encode()


@contextmanager
def served(url: str, *, guard: bool = True, **api: Any) -> Iterator[Address]:
    """A running API as `tandem api` runs it; without `guard`, as uvicorn alone would."""
    settings = make_settings(api={**QUICK, **api})
    config = uvicorn.Config(
        create_app(settings, url=url), port=0, log_config=None, access_log=False, timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        http=bounded(settings.api) if guard else "httptools", loop="uvloop",
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def open_slow(address: Address, said: bytes) -> socket.socket:
    """A connection on which these bytes were sent, and no more."""
    client = socket.create_connection(address, timeout=5)
    client.sendall(said)
    return client


def is_closed(client: socket.socket, within: float) -> bool:
    """Whether the server closes it in time, whatever it says before."""
    end = time.monotonic() + within
    try:
        while (left := end - time.monotonic()) > 0:
            client.settimeout(left)
            if not client.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


SLOW = {
    "silent from the start": b"",
    "half a request line": b"POST /v1/conv",
    "head without end": HEAD + b"X-A: b\r\n",
    "body that never comes": HEAD + b"Content-Length: 500\r\n\r\n",
    "body that stops": HEAD + b"Content-Length: 500\r\n\r\n" + b'{"conversation_id": ',
    "chunk that stops": HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "silent in a later head": b"GET /health/live HTTP/1.1\r\nHost: api\r\n\r\nGET /heal",
    "refused, and the body goes on": b"POST /nowhere HTTP/1.1\r\nHost: api\r\nContent-Length: 500\r\n\r\nx",
}


def test_slow_requests_end_and_honest_ones_are_served(db_url: str) -> None:
    with served(db_url) as address, ExitStack() as stack:
        slow = {name: stack.enter_context(open_slow(address, said)) for name, said in SLOW.items()}
        crowd = [stack.enter_context(open_slow(address, HEAD)) for _ in range(100)]
        answer = httpx.post(f"http://{address[0]}:{address[1]}{END}", json=body())
        assert answer.status_code == 202
        assert {name for name, client in slow.items() if not is_closed(client, 10)} == set()
        assert all(is_closed(client, 10) for client in crowd)
    assert counts(db_url) == (1, 1)


def test_without_the_guard_they_would_stay(shared_db_url: str) -> None:
    with served(shared_db_url, guard=False) as address, ExitStack() as stack:
        slow = [stack.enter_context(open_slow(address, said)) for said in SLOW.values()]
        waits = [2.0] + [0.05] * (
            len(slow) - 1
        )  # all of them have waited four times their limit after the first
        assert not any(is_closed(client, wait) for client, wait in zip(slow, waits, strict=True))


def test_dripping_a_head_or_a_body_does_not_help(shared_db_url: str) -> None:
    with served(shared_db_url) as address:
        for start, drop in [(HEAD, b"X-A: b\r\n"), (HEAD + b"Content-Length: 9999\r\n\r\n", b" ")]:
            with open_slow(address, start) as client:
                client.settimeout(0.05)

                def drip_until_closed(client: socket.socket = client, drop: bytes = drop) -> bool:
                    try:
                        client.sendall(drop)
                        return not client.recv(65536)
                    except TimeoutError:
                        return False
                    except OSError:
                        return True

                eventually(drip_until_closed, timeout=10)


def test_a_body_at_a_pace_is_waited_for(db_url: str) -> None:
    document = json.dumps(body()).encode()
    padded = document + b" " * 6000
    head = HEAD + f"Content-Length: {len(padded)}\r\nConnection: close\r\n\r\n".encode()
    with (
        served(db_url, body_window_seconds=0.2, body_bytes_per_second=500) as address,
        open_slow(address, head) as client,
    ):
        started = time.monotonic()
        for place in range(0, len(padded), 500):
            client.sendall(padded[place : place + 500])
            threading.Event().wait(0.05)
        assert time.monotonic() - started > 0.4  # it took several windows
        assert client.recv(65536).startswith(b"HTTP/1.1 202 ")
    assert counts(db_url) == (1, 1)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
ENDLESS = {
    "one header": (HEAD + b"X-Filler: ", b"x" * 65536),
    "many headers": (HEAD, b"X-A: b\r\n" * 8192),
    "a path": (b"GET /", b"x" * 65536),
    "one trailer": (CHUNKED + b"0\r\nX-Filler: ", b"x" * 65536),
    "many trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 8192),
    "an extension of a chunk": (CHUNKED + b"2;a=", b"x" * 65536),
}
ENOUGH = 16 * 1024 * 1024  # more than all buffers on the way hold


def pour(address: Address, name: str) -> int:
    """Send one endless thing; answers how many bytes the server took before it closed, ENOUGH if it did not."""
    start, more = ENDLESS[name]
    with open_slow(address, start) as client:
        for sent in range(0, ENOUGH, len(more)):
            try:
                client.sendall(more)
            except OSError:
                return sent
    return ENOUGH


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_closed_before_it_is_kept(shared_db_url: str, name: str) -> None:
    with served(shared_db_url, head_seconds=60, body_window_seconds=60) as address:
        assert pour(address, name) < ENOUGH


def test_without_the_guard_a_header_and_a_trailer_may_be_endless(shared_db_url: str) -> None:
    with served(shared_db_url, guard=False) as address:
        assert [pour(address, name) for name in ("one header", "one trailer")] == [ENOUGH, ENOUGH]


def test_a_head_that_is_too_large_is_told_so(shared_db_url: str) -> None:
    with served(shared_db_url) as address, open_slow(address, HEAD + b"X-Filler: ") as client:
        with contextlib.suppress(OSError):
            client.sendall(b"x" * 70_000)
        with contextlib.suppress(OSError):
            assert client.recv(65536).startswith(b"HTTP/1.1 431 ")
        assert is_closed(client, 5)


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
def test_too_many_connections_are_turned_away_and_room_comes_back(shared_db_url: str, limit: str) -> None:
    changes: dict[str, Any] = {"head_seconds": 60, limit: 5}
    with served(shared_db_url, **changes) as address:
        url = f"http://{address[0]}:{address[1]}/health/live"
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(open_slow(address, b""))
            eventually(lambda: httpx.get(url).status_code == 503)
            assert httpx.get(url).headers["retry-after"] == "2"
        eventually(lambda: httpx.get(url).status_code == 200)


def test_a_client_that_never_reads_is_let_go(shared_db_url: str) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n"
    with served(shared_db_url, stall_seconds=0.5) as address:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        with client:
            client.settimeout(0.2)

            def is_reset() -> bool:
                try:
                    client.sendall(asked * 20)
                except TimeoutError:
                    return False
                except OSError:
                    return True
                return False

            eventually(is_reset, timeout=20)
