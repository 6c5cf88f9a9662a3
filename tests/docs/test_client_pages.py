"""The pages on the client and on the testing kit are tried: their Python runs, their tables are true."""

import os
import re
import subprocess
import sys
from typing import Any

import httpx
import psycopg
import pytest

from app.client import job as limits
from app.config import CHECKOUT
from tests.client.places import open_asyncpg
from tests.docs.test_docs import blocks
from workers.testing import assert_enqueued

EXAMPLE = CHECKOUT / "docs" / "examples" / "invoices"


async def test_the_clients_page_runs(db_url: str) -> None:
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, total numeric NOT NULL)")
        page: dict[str, Any] = {"url": db_url, "__name__": "page"}
        for number, text in enumerate(blocks("client.md", "python")):
            exec(compile(text, f"client.md block {number + 1}", "exec"), page)  # noqa: S102 - our own page
        async with open_asyncpg(db_url) as other:
            await page["with_asyncpg"](other)
        transport = httpx.ASGITransport(app=page["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/orders", json={"id": 6, "total": 1.5})
            assert answer.status_code == 202
            with pytest.raises(Exception, match="orders_pkey"):
                await client.post("/orders", json={"id": 6, "total": 1.5})
        await page["async_engine"].dispose()
        for order in range(1, 7):
            assert_enqueued(connection, "send-receipt", payload={"order": order}, count=1)
        assert_enqueued(connection, "import", count=5_100)
        assert_enqueued(connection, "build-report", count=1)


def test_the_table_of_limits_is_the_clients() -> None:
    page = (CHECKOUT / "docs" / "client.md").read_text()
    for limit in (limits.PAYLOAD_LIMIT_BYTES, limits.POLICY_LIMIT_BYTES, limits.BATCH_LIMIT):
        assert f"{limit:,}" in page.partition("## Limits")[2]
    assert page.count(f"{limits.FURTHEST.days} days") == 2
    assert str(limits.LONGEST_KEY) in page.partition("## Limits")[2]


def test_the_table_of_errors_names_every_code() -> None:
    table = (CHECKOUT / "docs" / "client.md").read_text().partition("## Errors")[2]
    told = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table))
    sources = [file.read_text() for file in (CHECKOUT / "app" / "client").glob("*.py")]
    found = {
        code
        for text in sources
        for code in re.findall(r'(?:InvalidInput|UniqueConflict)\(\s*"([a-z-]+)"', text)
    }
    made = {
        f"invalid-{what}"
        for what in (
            *("kind", "queue", "unique-key", "partition-key"),
            *("policy", "context", "payload", "run-at", "start-by"),
        )
    }
    made |= {f"{what}-too-large" for what in ("payload", "policy", "context")}
    assert told == found | made


def test_the_testing_page_runs(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page: dict[str, Any] = {"__name__": "page"}
    for number, text in enumerate(blocks("testing.md", "python")):
        exec(compile(text, f"testing.md block {number + 1}", "exec"), page)  # noqa: S102 - our own page
    tests = [one for name, one in page.items() if name.startswith("test_")]
    assert len(tests) == 6
    with psycopg.connect(db_url) as connection:
        connection.execute("CREATE TABLE points (who text PRIMARY KEY, points integer NOT NULL)")
        connection.commit()
        for test in tests:
            needs = test.__code__.co_varnames[: test.__code__.co_argcount]
            test(*[connection for _ in needs])
            connection.rollback()


def test_the_message_that_the_page_shows_is_the_one_that_comes(tx: Any) -> None:
    (shown,) = [text for text in blocks("testing.md", "") if "AssertionError" in text]
    payload = {"order": 7, "language": "en"}
    tx.execute(
        "SELECT tandem.enqueue('send-receipt', %s, queue => 'mail')", (psycopg.types.json.Jsonb(payload),)
    )
    with pytest.raises(AssertionError) as failed:
        assert_enqueued(tx, "send-receipt", payload={"order": 8})
    told = re.sub(r"#\d+", "#12", f"AssertionError: {failed.value}")
    assert told == shown.strip()


def test_the_example_project_passes_its_own_tests(server_url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=EXAMPLE,
        env={**os.environ, "DATABASE_URL": server_url, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
