"""Liveness and readiness: what each promises, and that probes do not load the database."""

import psycopg
import pytest

from app.api.access import Access
from app.api.health import FRESH_SECONDS, Readiness
from app.errors import Unavailable
from tests.support.conversations import make_settings, serving, write


async def test_ready_means_the_schema_fits_and_writes_work(db_url: str) -> None:
    async with serving(db_url) as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")
    assert (live.status_code, live.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def test_an_older_schema_is_not_ready_and_a_newer_one_is(db_url: str) -> None:
    for version, status in [("0001", 503), ("9999", 200)]:
        write(db_url, "UPDATE tandem.alembic_version SET version_num = %s", version)
        async with serving(db_url) as client:
            assert (await client.get("/health/ready")).status_code == status


async def test_many_probes_ask_the_database_once_until_the_verdict_is_old(db_url: str) -> None:
    now = 0.0
    access = Access(db_url, make_settings())
    readiness = Readiness(access, clock=lambda: now)
    try:
        assert (await readiness.ask()).status == "ready"
        with psycopg.connect(db_url, autocommit=True) as connection:
            connection.execute("DROP TABLE tandem.alembic_version")
        assert (await readiness.ask()).status == "ready"
        now += FRESH_SECONDS * 1.1
        with pytest.raises(Unavailable, match="no schema"):
            await readiness.ask()
        with pytest.raises(Unavailable):
            await readiness.ask()
    finally:
        await access.close()
