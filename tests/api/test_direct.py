"""Routes that are served without injection: found first, permission asked for, refusals and errors like everywhere."""

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.api import direct, problems
from app.api.auth import Guard, check_routes, requires
from app.errors import Conflict
from tests.support.conversations import make_settings

MAY = requires("jobs:read")


async def answer(request: Request) -> Response:
    """An endpoint."""
    if request.url.query:
        raise Conflict("taken", "somebody else has it")
    return PlainTextResponse("served")


async def injected(request: Request, other: str) -> Response:
    """An endpoint that asks for too much."""
    return PlainTextResponse(other)


def _app(mode: str) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.guard = Guard(make_settings(api={"auth": mode}))
    problems.install(app)
    return app


async def _call(app: FastAPI, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


async def test_the_permission_is_asked_for_before_the_endpoint_runs() -> None:
    app = _app("required")
    direct.add(app, "/hot", answer, method="POST", needs=MAY)
    refused = await _call(app, "POST", "/hot")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert check_routes(app)["POST /hot"] == "jobs:read"


async def test_answers_errors_and_refused_methods_are_those_of_any_route() -> None:
    app = _app("off")
    direct.add(app, "/hot", answer, method="POST", needs=MAY)
    served = await _call(app, "POST", "/hot")
    assert (served.status_code, served.text) == (200, "served")
    failed = await _call(app, "POST", "/hot?fail")
    assert (failed.status_code, failed.json()["type"]) == (409, "urn:tandem:problem:taken")
    wrong = await _call(app, "PUT", "/hot")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "/hot" in app.openapi()["paths"]


def test_an_endpoint_with_parameters_is_refused_when_it_is_added() -> None:
    with pytest.raises(TypeError, match="injected must take the request alone"):
        direct.add(_app("off"), "/hot", injected, method="POST", needs=MAY)  # type: ignore[arg-type]
