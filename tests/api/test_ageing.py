"""/v1/queues/{queue}/ageing over HTTP: a setting's life, what it does to waiting jobs, and every refusal."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from psycopg import AsyncConnection

from app.queue.priority import read_rules, recalculate
from tests.support.claims import add, claim, worker_connection
from tests.support.conversations import serving

PATH = "/v1/queues/default/ageing"


@pytest.fixture
async def api(db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a database of the test's own."""
    async with serving(db_url) as client:
        yield client


async def walk(connection: AsyncConnection[Any]) -> int:
    """What the sweep's walk moves now."""
    page = await recalculate(connection, await read_rules(connection, {}), after=0, most=100)
    return page.moved


async def test_what_is_set_over_http_lets_waiting_jobs_rise(api: httpx.AsyncClient, db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        (old,) = await add(connection, 1, priority=1)
        await connection.execute("UPDATE tandem.ready SET ready_at = ready_at - interval '25 minutes'")
        await add(connection, 1, priority=4)
        assert await walk(connection) == 0, "nothing ages yet"
        made = await api.put(PATH, json={"after": 300, "most": 7})
        assert (made.status_code, made.json()) == (
            200,
            {"queue": "default", "after": 300.0, "step": 1, "most": 7},
        )
        assert (await api.get(PATH)).json() == made.json()
        assert await walk(connection) == 1
        assert [job.id for job in await claim(connection, 1)] == [old]


async def test_a_settings_life(api: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        answer = await api.request(method, PATH)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:tandem:problem:no-ageing")
    await api.put(PATH, json={"after": 60.5, "step": 2, "most": 8})
    changed = await api.put(PATH, json={"after": 60.5})
    assert changed.json() == {"queue": "default", "after": 60.5, "step": 1, "most": 9}, "all settings at once"
    assert (await api.get("/v1/queues/mail/ageing")).status_code == 404, "it is one queue's"
    assert (await api.delete(PATH)).status_code == 204
    assert (await api.get(PATH)).status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"after": 0.5}, "validation-failed", "/after"),
        ({"after": 366 * 86_400 + 1}, "validation-failed", "/after"),
        ({"step": 1}, "validation-failed", "/after"),
        ({"after": 60, "step": 10}, "validation-failed", "/step"),
        ({"after": 60, "most": -1}, "validation-failed", "/most"),
        ({"after": 60, "every": 5}, "unknown-field", "/every"),
    ],
)
async def test_a_bad_setting_is_refused(
    api: httpx.AsyncClient, body: dict[str, object], code: str, pointer: str
) -> None:
    refused = await api.put(PATH, json=body)
    assert (refused.status_code, refused.json()["type"]) == (422, f"urn:tandem:problem:{code}")
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert (await api.get(PATH)).status_code == 404


async def test_what_is_no_name_is_nowhere(api: httpx.AsyncClient) -> None:
    refused = await api.put("/v1/queues/NO%00/ageing", json={"after": 60})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:tandem:problem:unknown-queue")
