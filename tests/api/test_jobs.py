"""/v1/jobs over HTTP on a real database: every state, every refusal, and what is left behind."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.conversations import END, body, make_settings, serving
from tests.support.membership import check_membership
from tests.support.states import States, fill

NOBODY = [
    "0",
    "-1",
    "00017",
    "017",
    "17.0",
    "abc",
    "1e3",
    "9223372036854775808",
    "9" * 400,
    "٣",
    "%00",
    "999999",
]
PROBLEM = "application/problem+json"


@pytest.fixture
async def states(db_url: str) -> States:
    """Jobs in every state."""
    return await fill(db_url)


@pytest.fixture
async def api(db_url: str, states: States) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on that database."""
    async with serving(db_url) as client:
        yield client


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that must have been answered."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    told: dict[str, Any] = response.json()
    assert told["type"] == f"urn:tandem:problem:{code}"
    return told


async def good(client: httpx.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    """What a GET that must succeed answers."""
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


# --- one job ---------------------------------------------------------------------------------------------------


async def test_a_job_is_shown_with_its_tries(api: httpx.AsyncClient, states: States) -> None:
    job = states.jobs["dead"][0]
    found = await good(api, f"/v1/jobs/{job}")
    assert (found["job_id"], found["status"], found["kind"], found["payload"]) == (
        job,
        "DEAD",
        "plain",
        {"n": 1},
    )
    assert (found["error_class"], found["reason"]) == ("temporary", "ValueError: number 0")
    [tried] = found["attempts"]
    assert (tried["verdict"], tried["fingerprint"], tried["worker_name"]) == ("DEAD", "bbbb", "host:1")
    assert "traceback" not in tried
    assert "Traceback" not in json.dumps(found)


@pytest.mark.parametrize(
    "state", ["ready", "scheduled", "blocked", "running", "expired", "succeeded", "cancelled"]
)
async def test_a_job_in_every_state_is_shown(api: httpx.AsyncClient, states: States, state: str) -> None:
    job = states.jobs[state][0]
    expected = {"expired": "RUNNING"}.get(state, state.upper())
    found = await good(api, f"/v1/jobs/{job}")
    assert found["status"] == (expected if expected in ("RUNNING", "SUCCEEDED", "CANCELLED") else "PENDING")
    assert (await good(api, f"/v1/jobs/{job}/explain"))["reasons"]


async def test_it_says_why_a_job_does_not_run(api: httpx.AsyncClient, states: States) -> None:
    job = states.one("paused")
    found = await good(api, f"/v1/jobs/{job}/explain")
    assert found["job_id"] == job
    assert [one["code"] for one in found["reasons"]] == ["queue-paused", "no-worker", "waiting"]
    assert found["reasons"][0]["text"] == "queue mail is paused by ann"
    assert found["reasons"][0]["since"] is not None


async def test_a_result_is_there_once_the_job_has_succeeded(api: httpx.AsyncClient, states: States) -> None:
    job = states.jobs["succeeded"][0]
    assert await good(api, f"/v1/jobs/{job}/result") == {"job_id": job, "result": {"ok": True}}
    for state, status in (("ready", "PENDING"), ("running", "RUNNING"), ("dead", "DEAD")):
        told = problem(await api.get(f"/v1/jobs/{states.jobs[state][0]}/result"), 409, "wrong-state")
        assert told["job_status"] == status
        assert told["status"] == 409


@pytest.mark.parametrize("job", NOBODY)
async def test_an_id_that_is_not_there_is_always_the_same_404(api: httpx.AsyncClient, job: str) -> None:
    answers = [
        await api.get(f"/v1/jobs/{job}"),
        await api.get(f"/v1/jobs/{job}/result"),
        await api.get(f"/v1/jobs/{job}/explain"),
        await api.post(f"/v1/jobs/{job}/cancel"),
        await api.post(f"/v1/jobs/{job}/retry"),
    ]
    for answer in answers:
        told = problem(answer, 404, "unknown-job")
        assert told["detail"] == "there is no such job"
        assert set(told) == {"type", "title", "status", "detail", "instance"}


# --- lists -----------------------------------------------------------------------------------------------------


async def test_lists_are_read_page_by_page(api: httpx.AsyncClient, states: States) -> None:
    everything = await good(api, "/v1/jobs", limit=1000)
    ids = [one["job_id"] for one in everything["jobs"]]
    assert ids == sorted((job for jobs in states.jobs.values() for job in jobs), reverse=True)
    assert everything["next_cursor"] is None
    seen: list[int] = []
    page = await good(api, "/v1/jobs", limit=4)
    while True:
        seen += [one["job_id"] for one in page["jobs"]]
        if page["next_cursor"] is None:
            break
        page = await good(api, "/v1/jobs", limit=4, cursor=page["next_cursor"])
    assert seen == ids


async def test_lists_are_filtered(api: httpx.AsyncClient, states: States) -> None:
    dead = await good(api, "/v1/jobs", status="DEAD")
    assert [one["job_id"] for one in dead["jobs"]] == states.jobs["dead"][::-1]
    scored = await good(api, "/v1/jobs", kind="scored", queue="default")
    assert [one["job_id"] for one in scored["jobs"]] == states.jobs["expired"]
    assert (await good(api, "/v1/jobs", queue="nowhere"))["jobs"] == []


async def test_a_cursor_that_is_not_ours_is_refused(api: httpx.AsyncClient, db_url: str) -> None:
    page = await good(api, "/v1/jobs", limit=2, status="PENDING")
    cursor = page["next_cursor"]
    forged = [
        ("B" if cursor[0] == "A" else "A") + cursor[1:],
        cursor[:-1] + ("B" if cursor[-1] == "A" else "A"),
        cursor[:-1],
        cursor + "A",
        "",
        "x" * 20_000,
        "'; DROP TABLE tandem.job; --",
        "\0",
        "42",
    ]
    for wrong in forged:
        problem(await api.get("/v1/jobs", params={"status": "PENDING", "cursor": wrong}), 400, "bad-cursor")
    for others in ({"status": "DEAD"}, {"status": "PENDING", "queue": "default"}, {}):
        problem(await api.get("/v1/jobs", params={**others, "cursor": cursor}), 400, "bad-cursor")
    async with serving(db_url) as another:
        params = {"status": "PENDING", "cursor": cursor}
        problem(await another.get("/v1/jobs", params=params), 400, "bad-cursor")


async def test_processes_with_one_key_take_each_others_cursors(db_url: str, states: States) -> None:
    settings = make_settings(api={"cursor_key": "a key of sixteen or more"})
    async with serving(db_url, settings) as one, serving(db_url, settings) as two:
        first = await good(one, "/v1/jobs", limit=3)
        rest = await good(two, "/v1/jobs", limit=1000, cursor=first["next_cursor"])
        every = await good(two, "/v1/jobs", limit=1000)
    assert first["jobs"] + rest["jobs"] == every["jobs"]


@pytest.mark.parametrize(
    "params",
    [
        *({"limit": limit} for limit in ("0", "-1", "1001", "1000000000", "1e3", "+5", "5.0", " 5", "٥", "")),
        {"status": "LOST"},
        {"status": "dead"},
        {"queue": "'; DROP TABLE"},
        {"queue": "q" * 64},
        {"queue": ""},
        {"kind": "a\0b"},
        {"kind": "../x"},
        {"colour": "red"},
    ],
    ids=str,
)
async def test_a_list_refuses_what_it_cannot_answer(api: httpx.AsyncClient, params: dict[str, str]) -> None:
    told = problem(await api.get("/v1/jobs", params=params), 422, "validation-failed")
    assert told["errors"][0]["pointer"] == f"/query/{next(iter(params))}"


# --- cancel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "scheduled", "retried", "blocked", "paused"])
async def test_a_waiting_job_is_cancelled_at_once(
    api: httpx.AsyncClient, states: States, db_url: str, state: str
) -> None:
    job = states.jobs[state][0]
    for _ in range(2):  # safe to repeat
        answer = await api.post(f"/v1/jobs/{job}/cancel", json={"reason": "a duplicate"})
        assert (answer.status_code, answer.json()) == (200, {"job_id": job, "cancel": "CANCELLED"})
    found = await good(api, f"/v1/jobs/{job}")
    assert (found["status"], found["reason"]) == ("CANCELLED", "a duplicate")
    check_membership(db_url)


async def test_a_running_job_is_asked_to_stop(api: httpx.AsyncClient, states: States) -> None:
    job = states.jobs["running"][0]
    answer = await api.post(f"/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"job_id": job, "cancel": "REQUESTED"})
    found = await good(api, f"/v1/jobs/{job}")
    assert (found["status"], found["cancel_requested_by"], found["cancel_reason"]) == ("RUNNING", "api", None)


@pytest.mark.parametrize(("state", "status"), [("succeeded", "SUCCEEDED"), ("dead", "DEAD")])
async def test_what_has_ended_is_not_cancelled(
    api: httpx.AsyncClient, states: States, state: str, status: str
) -> None:
    told = problem(await api.post(f"/v1/jobs/{states.jobs[state][0]}/cancel"), 409, "wrong-state")
    assert told["job_status"] == status


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b'{"reason": 7}', "application/json", 422, "validation-failed"),
        (b'{"reason": "a\\u0000b"}', "application/json", 422, "nul-character"),
        (b'{"reason": "a\\u001bb"}', "application/json", 422, "validation-failed"),
        (b'{"reason": "\\ud800"}', "application/json", 422, "invalid-unicode"),
        (json.dumps({"reason": "x" * 501}).encode(), "application/json", 422, "validation-failed"),
        (b'{"why": "x"}', "application/json", 422, "unknown-field"),
        (b'{"reason": "a", "reason": "b"}', "application/json", 400, "duplicate-key"),
        (b"[", "application/json", 400, "malformed-json"),
        (b"[]", "application/json", 422, "validation-failed"),
        (b"reason=x", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (json.dumps({"reason": "x" * 9000}).encode(), "application/json", 413, "body-too-large"),
    ],
)
async def test_a_bad_reason_cancels_nothing(
    api: httpx.AsyncClient, states: States, content: bytes, kind: str, status: int, code: str
) -> None:
    job = states.jobs["ready"][0]
    answer = await api.post(f"/v1/jobs/{job}/cancel", content=content, headers={"content-type": kind})
    problem(answer, status, code)
    found = await good(api, f"/v1/jobs/{job}")
    assert (found["status"], found["cancel_requested_at"]) == ("PENDING", None)


# --- retry -----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_redriven(api: httpx.AsyncClient, states: States, db_url: str) -> None:
    job = states.jobs["dead"][0]
    answer = await api.post(f"/v1/jobs/{job}/retry")
    assert (answer.status_code, answer.json()) == (202, {"job_id": job, "status": "PENDING"})
    found = await good(api, f"/v1/jobs/{job}")
    assert (found["status"], found["attempt"], len(found["attempts"])) == ("PENDING", 0, 1)
    told = problem(await api.post(f"/v1/jobs/{job}/retry"), 409, "wrong-state")
    assert told["job_status"] == "PENDING"
    check_membership(db_url)


async def test_only_dead_letters_are_redriven(api: httpx.AsyncClient, states: States) -> None:
    for state, status in (("ready", "PENDING"), ("running", "RUNNING"), ("succeeded", "SUCCEEDED")):
        told = problem(await api.post(f"/v1/jobs/{states.jobs[state][0]}/retry"), 409, "wrong-state")
        assert told["job_status"] == status


async def test_who_lacks_the_kinds_hook_says_so(api: httpx.AsyncClient, states: States, db_url: str) -> None:
    with psycopg.connect(db_url) as connection:
        connection.execute("UPDATE tandem.kind SET hooked = true WHERE name = 'plain'")
    problem(await api.post(f"/v1/jobs/{states.jobs['dead'][0]}/retry"), 409, "hook-unknown")


async def test_the_applications_rows_follow_cancel_and_retry(api: httpx.AsyncClient, db_url: str) -> None:
    """The hook of the conversations runs in the API's own transaction."""
    made = (await api.post(END, json=body())).json()
    with psycopg.connect(db_url) as connection:
        connection.execute("UPDATE tandem.kind SET hooked = true")
    assert (await api.post(f"/v1/jobs/{made['job_id']}/cancel", json={"reason": "a test"})).status_code == 200
    event = await good(api, "/v1/conversations/conv_1")
    assert (event["status"], event["outcome"]["error_code"]) == ("FAILED", "cancelled")
    with psycopg.connect(db_url) as connection:
        connection.execute("UPDATE tandem.done SET outcome = 'DEAD' WHERE job_id = %s", (made["job_id"],))
    assert (await api.post(f"/v1/jobs/{made['job_id']}/retry")).status_code == 202
    assert (await good(api, "/v1/conversations/conv_1"))["status"] == "PENDING"
    check_membership(db_url)


# --- the edge --------------------------------------------------------------------------------------------------


async def test_wrong_methods_are_problems_too(api: httpx.AsyncClient) -> None:
    problem(await api.delete("/v1/jobs/1"), 405, "method-not-allowed")
    problem(await api.get("/v1/jobs/1/cancel"), 405, "method-not-allowed")
    problem(await api.get("/v1/jobs/1/nothing"), 404, "not-found")


async def test_a_database_that_is_away_is_a_503(api: httpx.AsyncClient, states: States, db_url: str) -> None:
    job = states.jobs["ready"][0]
    name = db_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(db_url.replace(f"/{name}?", "/postgres?"), autocommit=True) as server:
        limit = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        server.execute(limit.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("false")))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        server.execute(end, (name,))
        for answer in (
            await api.get("/v1/jobs"),
            await api.get(f"/v1/jobs/{job}"),
            await api.post(f"/v1/jobs/{job}/cancel"),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert name not in answer.text
        server.execute(limit.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("true")))
    assert (await good(api, f"/v1/jobs/{job}"))["status"] == "PENDING"


async def test_openapi_describes_every_path_with_an_example(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    paths = {path: methods for path, methods in document["paths"].items() if path.startswith("/v1/jobs")}
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/v1/jobs": ["get"],
        "/v1/jobs/{job_id}": ["get"],
        "/v1/jobs/{job_id}/result": ["get"],
        "/v1/jobs/{job_id}/explain": ["get"],
        "/v1/jobs/{job_id}/eta": ["get"],
        "/v1/jobs/{job_id}/events": ["get"],
        "/v1/jobs/{job_id}/cancel": ["post"],
        "/v1/jobs/{job_id}/retry": ["post"],
    }
    schemas = document["components"]["schemas"]
    for name in ("Job", "JobResult", "JobCancel", "JobRetry", "CancelJob"):
        assert schemas[name]["examples"], name
    [parameter, request_id] = paths["/v1/jobs/{job_id}"]["get"]["parameters"]
    assert (request_id["name"], request_id["required"]) == ("X-Request-ID", False)
    assert parameter["schema"]["type"] == "integer"
    assert paths["/v1/jobs/{job_id}/cancel"]["post"]["requestBody"]["required"] is False
    assert {"404", "409", "503"} <= set(paths["/v1/jobs/{job_id}/retry"]["post"]["responses"])
