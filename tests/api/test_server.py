"""The API under its real server: what only bytes on a socket can show."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.conversations import END, body, counts, make_settings
from tests.support.live_api import exchange, live_api


@pytest.fixture
def address(db_url: str) -> Iterator[tuple[str, int]]:
    """Host and port of a running API with a small body limit."""
    with live_api(db_url, make_settings(api={"body_limit_bytes": 20_000})) as place:
        yield place


def head(length: int | None = None, extra: str = "") -> bytes:
    size = "" if length is None else f"Content-Length: {length}\r\n"
    return (
        f"POST {END} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n{size}{extra}\r\n"
    ).encode()


def test_a_call_over_the_wire(address: tuple[str, int], db_url: str) -> None:
    answer = httpx.post(f"http://{address[0]}:{address[1]}{END}", json=body())
    assert answer.status_code == 202
    assert counts(db_url) == (1, 1)


def test_a_body_that_says_it_is_too_large_is_refused_unread_and_the_connection_closed(
    address: tuple[str, int],
) -> None:
    answer = exchange(address, head(50_000_000))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_chunked_body_is_counted(address: tuple[str, int]) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    answer = exchange(address, head(extra="Transfer-Encoding: chunked\r\n") + chunk * 6)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "extra",
    [
        "Content-Length: -1\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Bad Header: x\r\n",
    ],
)
def test_requests_that_two_parsers_could_read_differently_are_refused(
    address: tuple[str, int], db_url: str, extra: str
) -> None:
    answer = exchange(address, head(extra=extra) + json.dumps(body()).encode())
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1") == 1
    assert counts(db_url) == (0, 0)


def test_headers_without_end_are_refused(address: tuple[str, int]) -> None:
    answer = exchange(address, head(2, "X-Filler: " + "x" * 100_000 + "\r\n") + b"{}")
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_caller_who_hangs_up_midway_leaves_nothing(address: tuple[str, int], db_url: str) -> None:
    with socket.create_connection(address, timeout=3) as client:
        client.sendall(head(5000) + b'{"conversation_id": "conv_1", ')
    answer = httpx.get(f"http://{address[0]}:{address[1]}/health/live")
    assert answer.status_code == 200
    assert counts(db_url) == (0, 0)
