"""/v1/schedules over HTTP: a schedule's life, and every refusal."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.queue import schedules
from app.queue.schedules import Schedule
from tests.support.claims import worker_connection
from tests.support.conversations import serving

BODY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "kind": "report", "payload": {"n": 1}}


@pytest.fixture
async def api(db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a database of the test's own."""
    async with serving(db_url) as client:
        yield client


async def test_a_schedules_life(api: httpx.AsyncClient) -> None:
    made = await api.put("/v1/schedules/nightly", json=BODY)
    assert made.status_code == 200, made.text
    assert (made.json()["source"], made.json()["missed"], made.json()["last_job_id"]) == (
        "operator",
        "coalesce",
        None,
    )
    assert [one["name"] for one in (await api.get("/v1/schedules")).json()["schedules"]] == ["nightly"]
    assert len((await api.get("/v1/schedules/nightly/ticks", params={"count": 3})).json()["ticks"]) == 3
    assert (await api.post("/v1/schedules/nightly/pause")).json()["paused_by"] == "api"
    job = (await api.post("/v1/schedules/nightly/run")).json()["job_id"]
    assert (await api.get(f"/v1/jobs/{job}")).json()["payload"] == {"n": 1}
    assert (await api.post("/v1/schedules/nightly/resume")).json()["paused_at"] is None
    assert (await api.get("/v1/schedules/nightly")).json()["timezone"] == "Europe/Berlin"
    assert (await api.delete("/v1/schedules/nightly")).status_code == 204
    assert (await api.get("/v1/schedules/nightly")).status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BODY | {"cron": "often"}, "invalid-cron"),
        (BODY | {"timezone": "Mars/Olympus"}, "invalid-timezone"),
        (BODY | {"kind": "No Kind"}, "validation-failed"),
        (BODY | {"at": "noon"}, "unknown-field"),
        ({"kind": "report"}, "validation-failed"),
    ],
)
async def test_a_bad_schedule_is_refused(api: httpx.AsyncClient, body: dict[str, object], code: str) -> None:
    refused = await api.put("/v1/schedules/nightly", json=body)
    assert refused.status_code == 422
    assert refused.json()["type"] == f"urn:tandem:problem:{code}"


@pytest.mark.parametrize("path", ["nightly", "nightly/ticks", "No%20Name", "%00"])
async def test_one_that_is_not_there_is_404(api: httpx.AsyncClient, path: str) -> None:
    refused = await api.get(f"/v1/schedules/{path}")
    assert refused.status_code == 404


async def test_one_from_code_cannot_be_changed(api: httpx.AsyncClient, db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await schedules.declare_schedules(connection, [Schedule("nightly", "@daily", "report")])
    refused = await api.put("/v1/schedules/nightly", json=BODY)
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:tandem:problem:declared-in-code"
