"""The catalogue of bad input over HTTP, beyond the body of a conversation: queries, cursors, ids, states, bodies."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.conversations import END, serving
from tests.support.membership import check_membership

NAMES = [
    "'; DROP TABLE tandem.job; --", '"', "../x", "x" * 64, "", "ma\u0456l", "%00", "a\0b", "Mail", "a b", "a\nb",
    "1a", "-a", "\u202ea", "e\u0301",
]  # fmt: skip
LIMITS = ["-1", "0", "1001", "1e9", "10000000000", "5.0", " 5", "+5", "", "true", "\u0665", "\0", "null"]
CURSORS = ["", "x", "A" * 32, "-" * 32, "A" * 31 + "=", "\0", "\U0001f600", "A" * 20_000, "\u00c5" * 32]
REASONS: dict[str, tuple[bytes, int, str]] = {
    "NUL": (b'{"reason": "a\\u0000b"}', 422, "nul-character"),
    "lone surrogate": (b'{"reason": "\\ud800"}', 422, "invalid-unicode"),
    "not UTF-8": (b'{"reason": "\xff"}', 400, "malformed-json"),
    "BOM": (b"\xef\xbb\xbf{}", 400, "malformed-json"),
    "UTF-16": ('{"reason": "x"}'.encode("utf-16"), 400, "malformed-json"),
    "NaN": (b'{"reason": NaN}', 400, "malformed-json"),
    "1e999": (b'{"reason": 1e999}', 422, "number-out-of-range"),
    "5,000 digits": (b'{"reason": ' + b"9" * 5000 + b"}", 422, "number-out-of-range"),
    "a number": (b'{"reason": 1.0}', 422, "validation-failed"),
    "true": (b'{"reason": true}', 422, "validation-failed"),
    "unknown field": (b'{"why": "x"}', 422, "unknown-field"),
    "duplicate key": (b'{"reason": "a", "reason": "b"}', 400, "duplicate-key"),
    "65 levels": (b'{"reason": ' + b"[" * 65 + b"]" * 65 + b"}", 422, "too-deep"),
    "1,000 open brackets": (b"[" * 1000, 422, "too-deep"),
    "truncated": (b'{"reason": "x', 400, "malformed-json"),
    "null": (b"null", 422, "validation-failed"),
    "list": (b"[]", 422, "validation-failed"),
    "over 8 KiB": (b'{"reason": "' + b"x" * 8192 + b'"}', 413, "body-too-large"),
    "501 characters": (b'{"reason": "' + b"x" * 501 + b'"}', 422, "validation-failed"),
    "control character": (b'{"reason": "\\u001b[31m"}', 422, "validation-failed"),
}
METHODS = {
    "/v1/jobs": "GET", "/v1/jobs/1": "GET", "/v1/jobs/1/cancel": "POST", "/v1/jobs/1/retry": "POST",
    "/v1/jobs/1/result": "GET", "/v1/jobs/1/explain": "GET", "/v1/conversations/c": "GET", "/health/ready": "GET",
}  # fmt: skip
NOWHERE = [
    "/",
    "//",
    "/v1",
    "/v1/jobs/",
    "/v1/jobs/1/2/3",
    "/V1/jobs",
    "/v1/jobs;a=b",
    "/v1/%6aobs/",
    "/.git/config",
]


@pytest.fixture
async def client(shared_db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API; what reaches the test as an exception was not handled."""
    async with serving(shared_db_url) as made:
        yield made


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, which must be of this status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["type"] == f"urn:tandem:problem:{code}"
    return told


@pytest.mark.parametrize("parameter", ["kind", "queue"])
async def test_names_that_are_none_are_refused(client: httpx.AsyncClient, parameter: str) -> None:
    for name in NAMES:
        told = problem(await client.get("/v1/jobs", params={parameter: name}), 422, "validation-failed")
        assert told["errors"][0]["pointer"] == f"/query/{parameter}"


async def test_page_sizes_are_plain_numbers_within_their_range(client: httpx.AsyncClient) -> None:
    for limit in LIMITS:
        problem(await client.get("/v1/jobs", params={"limit": limit}), 422, "validation-failed")


async def test_cursors_that_we_did_not_make_are_refused(client: httpx.AsyncClient) -> None:
    for cursor in CURSORS:
        problem(await client.get("/v1/jobs", params={"cursor": cursor}), 400, "bad-cursor")


async def test_unknown_and_repeated_parameters_are_refused(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/jobs?order=id"), 422, "validation-failed")
    for query in ("limit=5&limit=6", "status=DEAD&status=DEAD", "kind=a&kind=b", "x=1&x=2"):
        problem(await client.get(f"/v1/jobs?{query}"), 422, "repeated-parameter")


async def test_a_bad_body_of_a_cancel_changes_nothing(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        job = connection.execute("SELECT tandem.enqueue('test')").fetchall()[0][0]
    async with serving(db_url) as client:
        before = (await client.get(f"/v1/jobs/{job}")).json()
        for content, status, code in REASONS.values():
            answer = await client.post(
                f"/v1/jobs/{job}/cancel", content=content, headers={"content-type": "application/json"}
            )
            problem(answer, status, code)
            assert (await client.get(f"/v1/jobs/{job}")).json() == before
    check_membership(db_url)


async def test_a_body_of_another_kind_is_not_read(client: httpx.AsyncClient) -> None:
    for path in (END, "/v1/jobs/1/cancel"):
        for kind in ("text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=x", ""):
            answer = await client.post(path, content=b"{}", headers={"content-type": kind})
            problem(answer, 415, "unsupported-media-type")
        for encoding in ("gzip", "deflate", "br", "identity, gzip"):
            headers = {"content-type": "application/json", "content-encoding": encoding}
            problem(await client.post(path, content=b"{}", headers=headers), 415, "unsupported-encoding")


@pytest.mark.parametrize("path", sorted(METHODS))
async def test_other_methods_are_told_the_right_one(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        if method != METHODS[path]:
            answer = await client.request(method, path)
            problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == METHODS[path]


async def test_all_methods_of_an_address_are_told(client: httpx.AsyncClient) -> None:
    answer = await client.patch("/v1/schedules/nightly")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET, PUT"


async def test_other_addresses_are_nowhere(client: httpx.AsyncClient) -> None:
    for path in NOWHERE:
        problem(await client.get(path), 404, "not-found")


async def test_problems_never_repeat_what_was_sent(client: httpx.AsyncClient) -> None:
    secret = "hunter2"
    answers = [
        await client.get("/v1/jobs", params={name: f"{secret}!"})
        for name in ("kind", "queue", "status", "limit", "cursor")
    ]
    answers.append(await client.get(f"/v1/jobs/{secret}"))
    answers.append(await client.post(END, content=json.dumps({"bot_type": secret}), headers={
        "content-type": "application/json"}))  # fmt: skip
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert secret not in answer.text
