"""The edge of the API: request ids, problems for everything that goes wrong, header limits, nothing leaking out."""

import logging

import httpx
import pytest
from fastapi import FastAPI

from app.api import problems
from app.api.edge import Edge
from app.api.facts import RequestEnded
from app.errors import ConfigurationError
from app.events import subscribe
from tests.support.conversations import body, serving


async def ask(app: FastAPI, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        return await client.request(method, path, headers=headers)


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI(redirect_slashes=False)
    problems.install(made)
    made.add_middleware(Edge)

    @made.get("/things/{number}")
    async def thing(number: int) -> dict[str, int]:
        return {"number": 100 // number}

    @made.get("/broken")
    async def broken() -> None:
        raise ConfigurationError("half-built", "something was set wrongly")

    return made


@pytest.mark.parametrize("given", ["call-7", "0199f2d0.c0de_A", "x" * 64])
async def test_a_plain_request_id_is_kept(app: FastAPI, given: str) -> None:
    assert (await ask(app, "/things/1", **{"X-Request-ID": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<script>", "a;b", "\x7f"])
async def test_any_other_is_replaced(app: FastAPI, given: str) -> None:
    answers = [await ask(app, "/things/1", **{"X-Request-ID": given}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert given not in ids


async def test_a_mistake_of_ours_is_a_problem_without_a_trace(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(app, "/things/0", **{"X-Request-ID": "call-0"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:tandem:problem:internal-error",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "something went wrong on our side; the request's id helps to find it",
        "instance": "urn:tandem:request:call-0",
    }
    assert "ZeroDivisionError" in caplog.text


async def test_an_error_that_no_client_can_cause_is_our_mistake(app: FastAPI) -> None:
    assert (await ask(app, "/broken")).status_code == 500


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/things/1/", 404, "not-found"),
        ("POST", "/things/1", 405, "method-not-allowed"),
        ("TRACE", "/things/1", 405, "method-not-allowed"),
        ("GET", "/things/one", 422, "validation-failed"),
    ],
)
async def test_wrong_addresses_and_methods_are_problems(
    app: FastAPI, method: str, path: str, status: int, code: str
) -> None:
    answer = await ask(app, path, method)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tandem:problem:{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"] == "GET"


async def test_headers_are_limited_in_size_and_number(app: FastAPI) -> None:
    large = await ask(app, "/things/1", big="x" * 40_000)
    many = await ask(app, "/things/1", **{f"h{number}": "x" for number in range(101)})
    long_path = await ask(app, "/things/" + "1" * 40_000)
    for answer in (large, many, long_path):
        assert answer.status_code == 431
        assert answer.json()["type"] == "urn:tandem:problem:headers-too-large"
        assert answer.headers["connection"] == "close"


async def test_every_answer_is_kept_from_caches_and_sniffing(app: FastAPI) -> None:
    for path in ("/things/1", "/nothing", "/things/0"):
        headers = (await ask(app, path)).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


async def test_requests_are_reported_by_route_not_by_path(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[RequestEnded] = []
    leave = subscribe(RequestEnded, reported.append)
    caplog.set_level(logging.CRITICAL)
    for method, path in [
        ("GET", "/things/1"),
        ("GET", "/nothing/at/all"),
        ("BREW", "/x"),
        ("GET", "/things/0"),
    ]:
        await ask(app, path, method)
    leave()
    told = [(fact.method, fact.route, fact.status) for fact in reported]
    assert told == [
        ("GET", "/things/{number}", 200),
        ("GET", "", 404),
        ("OTHER", "", 404),
        ("GET", "/things/{number}", 500),
    ]


async def test_the_document_describes_bodies_answers_and_problems(shared_db_url: str) -> None:
    async with serving(shared_db_url) as client:
        document = (await client.get("/openapi.json")).json()
    call = document["paths"]["/v1/conversations/end"]["post"]
    reference = call["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schemas = document["components"]["schemas"]
    assert reference == "#/components/schemas/EndConversation"
    example = schemas["EndConversation"]["examples"][0]
    assert set(example) == set(body())
    assert {"202", "400", "409", "413", "415", "422", "503"} <= set(call["responses"])
    assert "application/problem+json" in call["responses"]["409"]["content"]
    assert "Retry-After" in call["responses"]["503"]["headers"]
    assert {"Problem", "FieldError", "LogTurn", "Accepted", "ConversationState"} <= set(schemas)
    assert "/conversations/end" in document["paths"]


@pytest.mark.parametrize(
    ("method", "site", "status"),
    [
        ("POST", None, 405),
        ("POST", "same-origin", 405),
        ("POST", "none", 405),
        ("POST", "cross-site", 403),
        ("POST", "same-site", 403),
        ("DELETE", "cross-site", 403),
        ("POST", "", 403),
        ("GET", "cross-site", 200),
    ],
)
async def test_changes_that_a_browser_sends_for_another_site_are_refused(
    app: FastAPI, method: str, site: str | None, status: int
) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    answer = await ask(app, "/things/1", method, **headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "urn:tandem:problem:cross-site"
