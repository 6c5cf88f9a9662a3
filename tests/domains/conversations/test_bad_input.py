"""Whatever a caller sends is answered with a clear problem, never with a 5xx, and leaves nothing behind."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.conversations import END, body, counts, make_settings, read, serving

GOOD = json.dumps(body(), ensure_ascii=False)


def said(text: str) -> str:
    """A good body in whose first text these characters stand, as JSON spells them."""
    return GOOD.replace("Which film", text)


def with_field(name: str, value: Any) -> str:
    return json.dumps(body() | {name: value})


def turn(**changes: Any) -> str:
    entry = {"speaker": "user", "text": "hi", "timestamp": "2025-11-25T18:00:00Z"} | changes
    return with_field("conversation_log", [entry])


def without(name: str) -> str:
    return json.dumps({key: value for key, value in body().items() if key != name})


MALFORMED: dict[str, str | bytes] = {
    "empty": b"",
    "cut": GOOD[:-9],
    "two documents": GOOD + "{}",
    "not JSON": "conversation_id=conv_1",
    "not UTF-8": GOOD.encode()[:-1] + b"\xff}",
    "UTF-16": GOOD.encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "NaN": with_field("bot_name", 1).replace("1,", "NaN,", 1),
    "Infinity": '{"bot_name": -Infinity}',
    "control character": said("a\x01b"),
    "raw NUL": said("a\0b"),
    "bad escape": said("\\x41"),
    "comment": "/* no */" + GOOD,
    "single quotes": "{'conversation_id': 'x'}",
}
UNFIT: dict[str, tuple[str | bytes, str]] = {
    "null": ("null", "validation-failed"),
    "list": ("[]", "validation-failed"),
    "string": ('"conversation_id"', "validation-failed"),
    "number": ("7", "validation-failed"),
    "empty object": ("{}", "validation-failed"),
    "escaped NUL": (said("\\u0000"), "nul-character"),
    "NUL behind backslashes": (said("\\\\\\\\\\u0000"), "nul-character"),
    "NUL in a key": (GOOD.replace('"bot_id"', '"bot\\u0000id"'), "nul-character"),
    "high surrogate": (said("\\ud800"), "invalid-unicode"),
    "low surrogate": (said("\\uDFFFx"), "invalid-unicode"),
    "surrogates reversed": (said("\\ude00\\ud83d"), "invalid-unicode"),
    "too large a float": (with_field("bot_name", 7).replace("7,", "1e999,", 1), "number-out-of-range"),
    "too large an integer": ('{"bot_name": 9007199254740993}', "number-out-of-range"),
    "5,000 digits": ('{"bot_name": ' + "9" * 5000 + "}", "number-out-of-range"),
    "65 levels": ("[" * 65 + "]" * 65, "too-deep"),
    "1,000 levels": ("[" * 1000 + "]" * 1000, "too-deep"),
    "100,000 levels": ('{"a":' * 100_000 + "1" + "}" * 100_000, "too-deep"),
    "100,000 open brackets": ("[" * 100_000, "too-deep"),
    "unknown field": (with_field("status", "PROCESSED"), "unknown-field"),
    "unknown field in a turn": (turn(emotion="sad"), "unknown-field"),
    "true for a text": (with_field("bot_name", True), "validation-failed"),
    "number for a text": (turn(text=1), "validation-failed"),
    "null for a text": (turn(text=None), "validation-failed"),
    "unknown speaker": (turn(speaker="USER"), "validation-failed"),
    "no text": (with_field("conversation_log", [{"speaker": "user"}]), "validation-failed"),
    "log is an object": (with_field("conversation_log", {}), "validation-failed"),
    "turn is a text": (with_field("conversation_log", ["hi"]), "validation-failed"),
    "topic too long": (turn(topic="t" * 201), "validation-failed"),
    "small letters": (with_field("bot_type", "talk"), "validation-failed"),
    "list for a type": (with_field("bot_type", ["TALK"]), "validation-failed"),
    "name empty": (with_field("bot_name", ""), "validation-failed"),
    "name too long": (with_field("bot_name", "n" * 201), "validation-failed"),
    "escape in a name": (with_field("bot_name", "\x1b[31mred"), "validation-failed"),
}
IDS = ["", " ", "a/b", "../etc", "-x", "a b", "é", "x" * 129, "a\nb", "'; DROP TABLE x", "%00", "\u202ex"]
TIMES = [
    "", "now", "infinity", "2025-11-25", "2025-11-25T18:00:00", "2025-11-25 18:00:00Z", "2025-02-30T00:00:00Z",
    "2025-11-25T24:00:01Z", "2025-11-25T18:00:60Z", "10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z", "1764093600",
    "2025-11-25T18:00:00+25:00", "2025-11-25T18:00:00+1:00", "٢٠٢٥-11-25T18:00:00Z",
]  # fmt: skip
MISSING = sorted(body())


def unfit_cases() -> dict[str, tuple[str | bytes, str]]:
    cases = dict(UNFIT)
    for name in ("conversation_id", "profile_id", "bot_id"):
        cases |= {f"{name} {bad!r}": (with_field(name, bad), "validation-failed") for bad in IDS}
    cases |= {f"start_time {bad!r}": (with_field("start_time", bad), "validation-failed") for bad in TIMES}
    cases |= {f"timestamp {bad!r}": (turn(timestamp=bad), "validation-failed") for bad in TIMES}
    cases |= {
        f"end_time {bad!r}": (with_field("end_time", bad), "validation-failed") for bad in (1764093600, None)
    }
    cases |= {f"no {name}": (without(name), "validation-failed") for name in MISSING}
    return cases


async def send(url: str, content: str | bytes, **headers: str) -> httpx.Response:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    async with serving(url) as client:
        return await client.post(END, content=raw, headers={"content-type": "application/json"} | headers)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:tandem:problem:{code}"
    assert problem["status"] == status
    assert problem["instance"].endswith(response.headers["x-request-id"])
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize("name", sorted(MALFORMED))
async def test_what_is_not_json_is_malformed(shared_db_url: str, name: str) -> None:
    assert_problem(await send(shared_db_url, MALFORMED[name]), 400, "malformed-json")
    assert counts(shared_db_url) == (0, 0)


CASES = unfit_cases()


@pytest.mark.parametrize("name", sorted(CASES))
async def test_what_does_not_fit_is_unprocessable(shared_db_url: str, name: str) -> None:
    content, code = CASES[name]
    problem = assert_problem(await send(shared_db_url, content), 422, code)
    if code in ("validation-failed", "unknown-field"):
        assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])
    assert counts(shared_db_url) == (0, 0)


@pytest.mark.parametrize(
    "content",
    ['{"conversation_id": "a", "conversation_id": "b"}', GOOD.replace('"text":', '"text": "", "text":', 1)],
)
async def test_duplicate_keys_are_refused_at_any_depth(shared_db_url: str, content: str) -> None:
    assert_problem(await send(shared_db_url, content), 400, "duplicate-key")


async def test_the_end_may_not_be_before_the_start_and_the_answer_says_where(shared_db_url: str) -> None:
    problem = assert_problem(
        await send(shared_db_url, with_field("end_time", "2025-11-25T17:59:59Z")), 422, "validation-failed"
    )
    assert problem["errors"] == [{"pointer": "/end_time", "detail": "is before start_time"}]


async def test_errors_point_into_the_body_and_are_not_endless(shared_db_url: str) -> None:
    problem = assert_problem(
        await send(shared_db_url, with_field("conversation_log", [7] * 5000)), 422, "validation-failed"
    )
    assert problem["errors"][1]["pointer"] == "/conversation_log/1"
    assert len(problem["errors"]) == 20
    assert problem["detail"].startswith("5000")


async def test_what_was_sent_is_not_repeated(shared_db_url: str) -> None:
    secret = "hunter2 is my password"
    for content in (turn(speaker=secret), with_field("bot_type", secret), with_field("start_time", secret)):
        assert "hunter2" not in (await send(shared_db_url, content)).text


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonx",
    ],
)
async def test_other_media_types_are_not_read(shared_db_url: str, kind: str | None) -> None:
    async with serving(shared_db_url) as client:
        response = await client.post(END, content=GOOD, headers={"content-type": kind} if kind else {})
    assert_problem(response, 415, "unsupported-media-type")


async def test_compressed_bodies_are_not_read(shared_db_url: str) -> None:
    response = await send(shared_db_url, b"\x1f\x8b", **{"content-encoding": "gzip"})
    assert_problem(response, 415, "unsupported-encoding")


async def test_a_log_over_its_limit_is_too_large_and_one_at_the_limit_is_not(db_url: str) -> None:
    limited = make_settings(conversations={"log_limit_bytes": 1000})
    entry = {"speaker": "user", "text": "", "timestamp": "2025-11-25T18:00:00Z"}
    room = 1000 - len(json.dumps([entry], separators=(",", ":")))
    exact = [entry | {"text": "ơ" * (room // 2) + "x" * (room % 2)}]
    over = [entry | {"text": "ơ" * (room // 2) + "x" * (room % 2 + 1)}]
    async with serving(db_url, limited) as client:
        refused = await client.post(END, json=body("conv_over", conversation_log=over))
        taken = await client.post(END, json=body("conv_exact", conversation_log=exact))
    problem = assert_problem(refused, 413, "conversation-log-too-large")
    assert problem["errors"][0]["pointer"] == "/conversation_log"
    assert taken.status_code == 202
    assert [
        row.conversation_id for row in read(db_url, "SELECT conversation_id FROM conversation_events")
    ] == ["conv_exact"]


async def test_a_log_of_a_mebibyte_is_taken(db_url: str) -> None:
    entry = {"speaker": "user", "text": "t" * 1000, "timestamp": "2025-11-25T18:00:00Z"}
    async with serving(db_url) as client:
        response = await client.post(END, json=body(conversation_log=[entry] * 970))
    assert response.status_code == 202


async def test_a_body_over_the_limit_is_refused_with_and_without_its_length(shared_db_url: str) -> None:
    async def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 1000

    async with serving(shared_db_url, make_settings(api={"body_limit_bytes": 5000})) as client:
        for content in (b" " * 5001, endless()):
            response = await client.post(END, content=content, headers={"content-type": "application/json"})
            assert_problem(response, 413, "body-too-large")
            assert response.headers["connection"] == "close"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from([*sorted(body()), "extra"]), JSON, max_size=4)
TURNS = st.lists(
    st.dictionaries(st.sampled_from(["speaker", "text", "timestamp", "topic"]), JSON), max_size=3
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | FIELDS.map(lambda fields: json.dumps(body() | fields).encode())
    | TURNS.map(lambda turns: json.dumps(body(conversation_log=turns)).encode())
    | st.text(st.characters(exclude_categories=["Cs"])).map(
        lambda text: json.dumps(body("any", bot_name=text, conversation_log=[])).encode()
    )
)
def test_no_input_whatever_is_answered_with_a_5xx(db_url: str, content: bytes) -> None:
    response = asyncio.run(send(db_url, content))
    assert response.status_code in (202, 400, 409, 413, 422), response.text
