"""What only bytes on a socket can say: framing, hosts, encodings. Each is answered once, and the server goes on."""

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.conversations import END, body, counts, make_settings
from tests.support.databases import clone
from tests.support.live_api import exchange, live_api

Address = tuple[str, int]
GOOD = json.dumps(body()).encode()
CHUNKED = "Transfer-Encoding: chunked\r\n"
ONCE = b"HTTP/1.1 "


@pytest.fixture(scope="module")
def url(server_url: str, template: str) -> Iterator[str]:
    """One database for the module: nothing here may leave anything in it."""
    with clone(server_url, template) as made:
        yield made


@pytest.fixture(scope="module")
def address(url: str) -> Iterator[Address]:
    """One API for the module: it must outlive everything that is sent to it."""
    with live_api(url, make_settings(api={"body_limit_bytes": 50_000})) as place:
        yield place


def call(headers: str, content: bytes, target: str = END) -> bytes:
    return (
        f"POST {target} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n{headers}"
        f"Connection: close\r\n\r\n"
    ).encode("latin-1") + content


def sized(content: bytes, more: str = "") -> bytes:
    return call(f"Content-Length: {len(content)}\r\n{more}", content)


def get(target: str = "/health/live", headers: str = "Host: api\r\n", version: str = "1.1") -> bytes:
    return f"GET {target} HTTP/{version}\r\n{headers}Connection: close\r\n\r\n".encode("latin-1")


CASES: dict[str, tuple[bytes, int]] = {
    "length and chunks": (sized(GOOD, CHUNKED), 400),
    "negative length": (call("Content-Length: -1\r\n", GOOD), 400),
    "signed length": (call("Content-Length: +5\r\n", GOOD), 400),
    "hexadecimal length": (call("Content-Length: 0x5\r\n", GOOD), 400),
    "two lengths in one": (call("Content-Length: 5, 5\r\n", GOOD), 400),
    "unknown framing": (call("Transfer-Encoding: xchunked\r\n", GOOD), 400),
    "chunked and more": (call(CHUNKED + "Transfer-Encoding: identity\r\n", GOOD), 400),
    "gzip as framing": (call("Transfer-Encoding: gzip, chunked\r\n", b"2\r\nab\r\n0\r\n\r\n"), 400),
    "a chunk without size": (call(CHUNKED, b"zz\r\nab\r\n0\r\n\r\n"), 400),
    "2,000 trailers": (call(CHUNKED, b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 2000 + b"\r\n"), 431),
    "a length over the limit": (call("Content-Length: 50000000\r\n", b""), 413),
    "chunks over the limit": (call(CHUNKED, (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 14), 413),
    "a gzip bomb": (sized(gzip.compress(b"0" * 5_000_000), "Content-Encoding: gzip\r\n"), 415),
    "identity, then gzip": (sized(GOOD, "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"), 415),
    "two media types": (sized(GOOD, "Content-Type: text/plain\r\n"), 415),
    "a media type in bytes": (sized(GOOD, "Content-Type: \xff\xfe\r\n"), 415),
    "no host": (get(headers=""), 400),
    "two hosts": (get(headers="Host: a\r\nHost: b\r\n"), 400),
    "a host with NUL": (get(headers="Host: a\0b\r\n"), 400),
    "no host in 1.0": (get(headers="", version="1.0"), 200),
    "another version": (get(version="9.9"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, 400),
    "bare line feeds": (b"GET /health/live HTTP/1.1\nHost: api\n\n", 400),
    "a folded header": (get(headers="Host: api\r\nX: a\r\n b\r\n"), 400),
    "a space before the colon": (get(headers="Host: api\r\nX : a\r\n"), 400),
    "NUL in a header": (get(headers="Host: api\r\nX: a\0b\r\n"), 400),
    "a header of 100 KB": (get(headers="Host: api\r\nX: " + "x" * 100_000 + "\r\n"), 431),
    "10,000 headers": (get(headers="Host: api\r\n" + "".join(f"h{n}: x\r\n" for n in range(10_000))), 431),
    "a path in bytes": (get("/v1/users/\xe9/candidates"), 400),
    "a path of 40 KB": (get("/v1/jobs/" + "1" * 40_000), 431),
    "dots in the path": (get("/v1/jobs/../../etc/passwd"), 404),
    "encoded dots": (get("/v1/jobs/..%2f..%2fetc%2fpasswd"), 404),
    "an address of somebody else": (get("http://evil.example/v1/jobs/1"), 404),
    "a method nobody knows": (get().replace(b"GET", b"BREW", 1), 400),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_is_answered_once_and_leaves_nothing(address: Address, url: str, name: str) -> None:
    request, status = CASES[name]
    answer = exchange(address, request)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert answer.count(ONCE) == 1
    assert httpx.get(f"http://{address[0]}:{address[1]}/health/live").status_code == 200
    assert counts(url) == (0, 0)


def test_what_follows_a_refused_body_is_not_a_request(address: Address) -> None:
    """Smuggling: the rest of a body that nobody reads must not be taken for the next call."""
    answer = exchange(
        address, call("Content-Length: 90000\r\n", get()).replace(b"Connection: close\r\n", b"", 1)
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(ONCE) == 1


def test_pipelined_calls_are_answered_in_turn(address: Address) -> None:
    keep = get().replace(b"Connection: close\r\n", b"")
    answer = exchange(address, keep * 20 + sized(b"{}").replace(b"Connection: close\r\n", b"") + get())
    assert answer.count(b"HTTP/1.1 200 ") == 21
    assert answer.count(b"HTTP/1.1 422 ") == 1


def test_one_key_from_many_sides_at_once_is_one_job(server_url: str, template: str) -> None:
    with clone(server_url, template) as own, live_api(own, make_settings()) as (host, port):

        def post(number: int) -> tuple[int, str]:
            answer = httpx.post(f"http://{host}:{port}{END}", json=body(bot_name=f"name {number % 3}"))
            return answer.status_code, answer.json().get("event_id", "")

        with ThreadPoolExecutor(12) as pool:
            answers = set(pool.map(post, range(36)))
        assert counts(own) == (1, 1)
    assert {status for status, _ in answers} == {202, 409}
    assert len({event for status, event in answers if status == 202}) == 1
