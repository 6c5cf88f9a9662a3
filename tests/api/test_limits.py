"""/v1/limits over HTTP: a limit's life, and every refusal."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.admission import admit, manage
from tests.support.claims import add, worker_connection
from tests.support.conversations import serving


@pytest.fixture
async def api(db_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a database of the test's own."""
    async with serving(db_url) as client:
        yield client


async def test_a_limits_life(api: httpx.AsyncClient, db_url: str) -> None:
    async with await worker_connection(db_url) as connection:
        await manage(connection)
        await add(connection, 5, partition_key="a/b")
        for target, body in (
            ("global", {"max_running": 4}),
            ("key:default/a/b", {"max_running": 2, "weight": 2.0}),
        ):
            made = await api.put(f"/v1/limits/{target}", json=body)
            assert made.status_code == 204, made.text
        assert len(await admit(connection)) == 2
        listed = {one["target"]: one for one in (await api.get("/v1/limits")).json()["limits"]}
        assert {name: (one["max_running"], one["running"]) for name, one in listed.items()} == {
            "global": (4, 2),
            "queue:default": (None, 2),
            "key:default/a/b": (2, 2),
        }
        assert listed["key:default/a/b"]["weight"] == 2.0
        assert (await api.delete("/v1/limits/key:default/a/b")).status_code == 204
        assert len(await admit(connection)) == 2, "the global limit remains"
        assert (await api.delete("/v1/limits/key:default/a/b")).status_code == 404


@pytest.mark.parametrize(
    ("target", "body", "status", "code"),
    [
        ("global", {"max_running": -1}, 422, "validation-failed"),
        ("global", {"most": 1}, 422, "unknown-field"),
        ("global", {"weight": 2.0}, 422, "invalid-limit"),
        ("galaxy", {"max_running": 1}, 404, "unknown-limit"),
        ("key:default/%00", {"max_running": 1}, 404, "unknown-limit"),
    ],
)
async def test_a_bad_limit_is_refused(
    api: httpx.AsyncClient, target: str, body: dict[str, object], status: int, code: str
) -> None:
    refused = await api.put(f"/v1/limits/{target}", json=body)
    assert (refused.status_code, refused.json()["type"]) == (status, f"urn:tandem:problem:{code}")
    assert (await api.get("/v1/limits")).json() == {"limits": []}
