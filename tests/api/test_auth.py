"""Who may call what: nothing without a permission, nobody without a credential, and off only where no stranger is."""

import logging
import re
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from app.api.auth import PrincipalDep, check_routes, mode_of, principal, public, requires
from app.api.facts import Denied
from app.api.failures import MOST_ADDRESSES, Failures, Sparing
from app.api.principals import GRANTS, Principal
from app.config import ApiSettings, Settings
from app.errors import ConfigurationError
from app.events import subscribe
from app.main import create_app
from tests.support.conversations import END, body, claim_one, counts, serving, write
from tests.support.identities import bearer, guarded, make_key, token

JOBS = "/v1/jobs"
PARAMETER = re.compile(r"\{\w+\}")


@pytest.fixture
def denied() -> Any:
    """What was refused while the test runs."""
    seen: list[Denied] = []
    leave = subscribe(Denied, seen.append)
    yield seen
    leave()


# --- every route declares a permission --------------------------------------------------------------------------


async def nothing() -> None:
    """An endpoint."""


def undeclared_routes() -> list[tuple[str, Any]]:
    plain, nested = APIRouter(), APIRouter(prefix="/outer")
    plain.add_api_route("/api", nothing)
    knows = APIRouter()
    knows.add_api_route("/knows-who", nothing, dependencies=[Depends(principal)])
    nested.include_router(plain, prefix="/inner")
    socket = APIRouter()
    socket.add_api_websocket_route("/socket", nothing)
    return [
        ("/api", plain),
        ("/outer/inner/api", nested),
        ("/knows-who", knows),
        ("/socket", socket),
        ("/plain", Route("/plain", nothing)),
        ("/mounted", Mount("/mounted", app=PlainTextResponse("here"))),
    ]


@pytest.mark.parametrize(
    ("path", "route"), undeclared_routes(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_route_without_a_permission_fails_at_start(path: str, route: Any) -> None:
    app = FastAPI(openapi_url=None)
    if isinstance(route, APIRouter):
        app.include_router(route)
    else:
        app.router.routes.append(route)
    with pytest.raises(ConfigurationError, match=f"without a declared permission: {path};"):
        check_routes(app)


def test_the_application_itself_fails_to_start_with_such_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    router.add_api_route("/v1/forgotten", nothing)
    monkeypatch.setattr("app.main.documents.router", router)
    with pytest.raises(ConfigurationError, match="/v1/forgotten"):
        create_app(Settings(), url="postgresql://nowhere")


def test_a_declared_permission_is_found_wherever_it_stands() -> None:
    app = FastAPI(openapi_url=None)
    inner = APIRouter(dependencies=[Depends(requires("a:b"))])
    inner.add_api_route("/by-router", nothing)
    app.include_router(inner)
    app.add_api_route("/open", nothing, dependencies=[Depends(public)])

    @app.get("/by-argument")
    async def known(_: Principal = Depends(requires("c:d"))) -> None:  # noqa: B008
        """An endpoint."""

    assert check_routes(app) == {"GET /by-router": "a:b", "GET /open": "public", "GET /by-argument": "c:d"}


@pytest.mark.parametrize("permission", ["", "jobs", "jobs:", ":read", "jobs:*"])
def test_a_permission_is_an_area_and_a_verb(permission: str) -> None:
    with pytest.raises(ValueError, match="area:verb"):
        requires(permission)


def test_only_what_probes_ask_is_public() -> None:
    routes = check_routes(create_app(Settings(), url="postgresql://nowhere"))
    assert {route for route, permission in routes.items() if permission == "public"} == {
        "GET /health/live",
        "GET /health/ready",
        "GET /health/workflows",
    }


# --- every route refuses whom it should ---------------------------------------------------------------------------


async def test_without_a_credential_every_route_but_the_public_answers_401(db_url: str) -> None:
    async with guarded(db_url) as client:
        routes = check_routes(client._transport.app)  # type: ignore[attr-defined]
        for route, permission in routes.items():
            method, path = route.split(" ")
            answer = await client.request(method, PARAMETER.sub("1", path))
            if permission == "public":
                assert answer.status_code == 200, route
                continue
            assert answer.status_code == 401, route
            assert answer.headers["www-authenticate"] == 'Bearer realm="tandem"'
            assert answer.json()["type"] == "urn:tandem:problem:unauthenticated"
            assert answer.headers["content-type"] == "application/problem+json"
    assert counts(db_url) == (0, 0)


@pytest.mark.parametrize("role", sorted(GRANTS))
async def test_a_role_may_what_the_table_grants_and_nothing_else(db_url: str, role: str) -> None:
    key = await make_key(db_url, role)
    holder = Principal("x", frozenset({role}))
    async with guarded(db_url) as client:
        routes = check_routes(client._transport.app)  # type: ignore[attr-defined]
        for route, permission in routes.items():
            method, path = route.split(" ")
            answer = await client.request(method, PARAMETER.sub("1", path), headers=bearer(key.clear))
            allowed = permission == "public" or holder.may(permission)
            assert (answer.status_code == 403) is not allowed, (route, answer.status_code)
            if not allowed:
                assert answer.json()["type"] == "urn:tandem:problem:forbidden"
                assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_scopes_narrow_and_never_widen(db_url: str) -> None:
    narrow = await make_key(db_url, "admin", scopes=["jobs:read"])
    wide = await make_key(db_url, "monitor", scopes=["*"])
    async with guarded(db_url) as client:
        assert (await client.get(JOBS, headers=bearer(narrow.clear))).status_code == 200
        assert (await client.post(f"{JOBS}/1/retry", headers=bearer(narrow.clear))).status_code == 403
        assert (await client.get("/metrics", headers=bearer(wide.clear))).status_code == 200
        assert (await client.get(JOBS, headers=bearer(wide.clear))).status_code == 403


async def test_who_cancels_is_kept_by_name(db_url: str) -> None:
    key = await make_key(db_url, "system", "operator", name="billing")
    async with guarded(db_url) as client:
        made = (await client.post(END, json=body(), headers=bearer(key.clear))).json()
        await claim_one(db_url)
        answer = await client.post(f"{JOBS}/{made['job_id']}/cancel", headers=bearer(key.clear))
        found = (await client.get(f"{JOBS}/{made['job_id']}", headers=bearer(key.clear))).json()
    assert answer.status_code == 202
    assert found["cancel_requested_by"] == "key:billing"


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_the_database_holds_no_key_in_clear(db_url: str) -> None:
    key = await make_key(db_url, "operator")
    secret = key.clear.removeprefix(f"tandem_{key.id}_")
    with psycopg.connect(db_url) as connection:
        [row] = connection.execute("SELECT k::text FROM tandem.api_key AS k").fetchall()
    assert len(secret) == 43
    assert secret not in row[0]
    assert key.id in row[0]  # the search does find what is there


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE tandem.api_key SET expires_at = clock_timestamp() - interval '1 s'", "expired"),
        ("UPDATE tandem.api_key SET revoked_at = clock_timestamp()", "revoked"),
        ("UPDATE tandem.api_key SET secret_hash = sha256('other')", "invalid"),
        ("DELETE FROM tandem.api_key", "invalid"),
    ],
)
async def test_a_key_that_does_not_hold_is_refused_alike(
    db_url: str, denied: list[Denied], statement: str, reason: str
) -> None:
    key = await make_key(db_url, "operator")
    async with guarded(db_url, key_cache_seconds=0.001) as client:
        assert (await client.get(JOBS, headers=bearer(key.clear))).status_code == 200
        write(db_url, statement)
        answer = await client.get(JOBS, headers=bearer(key.clear))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="tandem", error="invalid_token"'
    assert reason not in answer.text.replace("valid credential", "")
    assert [(one.reason, one.route) for one in denied] == [(reason, JOBS)]


async def test_a_good_key_is_remembered_for_its_seconds_and_its_use_is_noted(db_url: str) -> None:
    key = await make_key(db_url, "operator")
    async with guarded(db_url, key_cache_seconds=600) as client:
        assert (await client.get(JOBS, headers=bearer(key.clear))).status_code == 200
        with psycopg.connect(db_url) as connection:
            row = connection.execute("SELECT last_used_at IS NOT NULL FROM tandem.api_key").fetchone()
        write(db_url, "UPDATE tandem.api_key SET revoked_at = clock_timestamp()")
        assert row == (True,)
        assert (await client.get(JOBS, headers=bearer(key.clear))).status_code == 200


async def test_memory_never_outlives_the_key(db_url: str) -> None:
    key = await make_key(db_url, "operator", lifetime=timedelta(milliseconds=1))
    async with guarded(db_url, key_cache_seconds=600) as client:
        assert (await client.get(JOBS, headers=bearer(key.clear))).status_code == 401


async def test_a_database_that_is_away_lets_nobody_in(db_url: str) -> None:
    key = await make_key(db_url, "operator")
    async with guarded(db_url) as client:
        write(db_url, "ALTER TABLE tandem.api_key RENAME TO gone")
        assert (await client.get(JOBS, headers=bearer(key.clear))).status_code >= 500


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "tandem_a_b", "Bearer tandem_aaaaaaaaaaaa_short", "Bearer a b",
     "Bearer tandem_aaaaaaaaaaaa_" + "A" * 43 + "x", "Bearer " + "x" * 9000, "Bearer tandem_aaaaaaaaaaaa_" + "A" * 43],
)  # fmt: skip
async def test_what_is_no_credential_is_refused(db_url: str, header: str) -> None:
    async with guarded(db_url) as client:
        answer = await client.get(JOBS, headers={"Authorization": header})
        assert (await client.get(JOBS, headers=bearer(token(roles=["operator"])))).status_code == 200
    assert answer.status_code == 401


async def test_two_credentials_are_one_too_many(db_url: str) -> None:
    good = f"Bearer {token(roles=['operator'])}"
    async with guarded(db_url) as client:
        answer = await client.get(JOBS, headers=[("authorization", good), ("authorization", good)])
    assert answer.status_code == 401


# --- many failures ---------------------------------------------------------------------------------------------------


async def test_guesses_are_answered_429_before_they_cost_a_look_up(db_url: str, denied: list[Denied]) -> None:
    known = await make_key(db_url, "operator")
    guess = bearer("tandem_aaaaaaaaaaaa_" + "A" * 43)
    async with guarded(db_url, failures_per_minute=3, key_cache_seconds=600) as client:
        assert (await client.get(JOBS, headers=bearer(known.clear))).status_code == 200
        answers = [await client.get(JOBS, headers=guess) for _ in range(5)]
        good = await client.get(JOBS, headers=bearer(known.clear))
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert good.status_code == 200  # who is known already is not locked out by a neighbour
    assert [one.reason for one in denied] == ["invalid"] * 3 + ["too-many"] * 2


def test_failures_are_forgotten_after_their_window_and_never_fill_the_memory() -> None:
    now = 0.0
    failures = Failures(2, clock=lambda: now)
    for _ in range(2):
        failures.add("10.0.0.1")
    assert failures.wait("10.0.0.1") == 60
    assert failures.wait("10.0.0.2") == 0
    now = 60.0
    assert failures.wait("10.0.0.1") == 0
    for number in range(MOST_ADDRESSES * 2):
        failures.add(str(number))
    assert len(failures._windows) == MOST_ADDRESSES


def test_refusals_cannot_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    sparing = Sparing(logging.getLogger("sparing"), most=2, clock=lambda: now)
    for _ in range(7):
        sparing.warning("refused %s", "x")
    assert [record.getMessage() for record in caplog.records] == ["refused x"] * 2
    now = 10.0
    sparing.warning("refused %s", "y")
    assert [record.getMessage() for record in caplog.records[2:]] == [
        "5 more refusals were not logged",
        "refused y",
    ]


async def test_denials_are_counted_by_reason_and_route(db_url: str) -> None:
    async with guarded(db_url) as client:
        await client.get(JOBS)
        await client.get(JOBS, headers=bearer(token(roles=["monitor"])))
        scrape = (await client.get("/metrics", headers=bearer(token(roles=["monitor"])))).text
    assert 'tandem_http_denied_total{reason="missing",route="/v1/jobs"} 1.0' in scrape
    assert 'tandem_http_denied_total{reason="forbidden",route="/v1/jobs"} 1.0' in scrape


# --- on and off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "host", "url", "mode"),
    [
        (None, "127.0.0.1", None, "off"),
        (None, "::1", None, "off"),
        (None, "localhost", None, "off"),
        (None, "0.0.0.0", None, "required"),  # noqa: S104
        (None, "127.0.0.1", "postgresql://db/app", "required"),
        (None, "api.example", "postgresql://db/app", "required"),
        ("off", "127.0.0.1", "postgresql://db/app", "off"),
        ("off", "/run/tandem.sock", "postgresql://db/app", "off"),
        ("required", "127.0.0.1", None, "required"),
        ("required", "0.0.0.0", "postgresql://db/app", "required"),  # noqa: S104
    ],
)
def test_authentication_is_off_only_for_development(
    chosen: Any, host: str, url: str | None, mode: str
) -> None:
    assert mode_of(Settings(database_url=url, api=ApiSettings(auth=chosen, host=host))) == mode


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "api.example", ""])  # noqa: S104
def test_off_on_a_public_address_is_refused_at_start(host: str) -> None:
    with pytest.raises(ConfigurationError, match="needs a loopback address"):
        create_app(Settings(api=ApiSettings(auth="off", host=host)), url="postgresql://nowhere")


async def test_off_serves_nobody_from_outside_whatever_the_server_was_told(db_url: str) -> None:
    async with serving(db_url) as client:
        assert (await client.get(f"http://127.0.0.1{JOBS}")).status_code == 200
        assert (await client.get(f"http://[::1]{JOBS}")).status_code == 200
        for address in ("192.168.1.5", "[2001:db8::1]", "0.0.0.0"):  # noqa: S104
            answer: httpx.Response = await client.get(f"http://{address}{JOBS}")
            assert (answer.status_code, answer.json()["type"]) == (
                403,
                "urn:tandem:problem:auth-off-in-public",
            )


@pytest.mark.parametrize(
    ("mode", "said"), [("off", "authentication is off"), ("required", "is required: API keys")]
)
async def test_the_log_says_which_it_is(
    db_url: str, caplog: pytest.LogCaptureFixture, mode: Any, said: str
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(db_url, Settings(api=ApiSettings(auth=mode))):
        assert said in caplog.text


async def test_a_route_learns_who_calls(db_url: str) -> None:
    async with guarded(db_url) as client:
        app = client._transport.app  # type: ignore[attr-defined]

        async def me(caller: PrincipalDep) -> list[Any]:
            return [caller.subject, caller.customer, caller.tier, sorted(caller.roles)]

        app.add_api_route("/me", me, dependencies=[Depends(requires("docs:read"))])
        headers = bearer(token(customer="acme", tier="vip", roles=["user"]))
        assert (await client.get("/me", headers=headers)).json() == ["ann", "acme", "vip", ["user"]]
        key = await make_key(db_url, "user", claims={"customer": "acme", "tier": "free"})
        answer = await client.get("/me", headers=bearer(key.clear))
        assert answer.json() == ["key:caller", "acme", "free", ["user"]]
