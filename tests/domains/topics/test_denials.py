"""Refused calls outside topics reach the audit log, counted, and a flood of them does not fill it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from app import events
from app.api.facts import Denied
from app.database.connect import connect
from app.domains.topics import audit
from app.domains.topics.denials import MOST, REST, STRANGER, Denials, audited
from app.errors import Unavailable
from tests.support import topics
from tests.support.identities import bearer, guarded, make_key, token
from tests.support.waiting import eventually_async

ENTRIES = "SELECT actor, topic, items, detail FROM tandem.audit_entry WHERE action = 'denied' ORDER BY id"


def opened(url: str) -> Any:
    @asynccontextmanager
    async def open_() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await connect(url, name="test") as connection:
            yield connection

    return open_


def told(url: str) -> set[tuple[str, int, str, str, str]]:
    """Actor, times, reason, permission, route of each entry; the permission of topics is their operation."""
    found = [(row, row.detail) for row in topics.rows(url, ENTRIES)]
    return {
        (row.actor, row.items, about.get("reason", ""), about.get("operation", ""), about.get("route", ""))
        for row, about in found
    }


async def test_refused_calls_are_in_the_audit_log_once_for_each_kind(db_url: str) -> None:
    key = await make_key(db_url, "monitor", name="watch")
    async with guarded(db_url) as client:
        for _ in range(3):
            assert (await client.get("/v1/jobs")).status_code == 401
        assert (await client.get("/v1/jobs", headers=bearer("nonsense"))).status_code == 401
        for _ in range(2):
            assert (await client.get("/v1/jobs", headers=bearer(key.clear))).status_code == 403
        address = "/v1/topics"
        assert (await client.get(address, headers=bearer(key.clear))).status_code == 403
        good = await client.get("/v1/jobs", headers=bearer(token(roles=["operator"])))
        assert good.status_code == 200, "the negative control: it leaves no entry"
        assert {row.actor for row in topics.rows(db_url, ENTRIES)} == {"key:watch"}, "of topics, at once"
    found = told(db_url)
    of_topics = {entry for entry in found if entry[3]}
    assert [entry[:2] for entry in of_topics] == [("key:watch", 1)], "written once, where it is asked for"
    assert {entry[:3] for entry in found - of_topics} == {
        (STRANGER, 3, "missing"),
        (STRANGER, 1, "malformed"),
        ("key:watch", 2, "forbidden"),
    }
    assert {entry[4] for entry in found - of_topics} == {"/v1/jobs"}


async def test_they_are_sealed_with_the_others(db_url: str, tmp_path: Path) -> None:
    async with await connect(db_url, name="test") as connection:
        denials = Denials(opened(db_url))
        denials.note(Denied("missing", "/v1/jobs", "", "", "10.0.0.1"))
        assert await denials.write() == 1

        async def sealed() -> bool:  # behind whatever runs on the server, also in other databases
            return await audit.seal(connection, tmp_path) == 1

        await eventually_async(sealed)
        assert (await audit.verify(connection, tmp_path)).good
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("UPDATE tandem.audit_entry SET items = 0")
        assert not (await audit.verify(connection, tmp_path)).good


async def test_a_flood_is_a_few_entries(db_url: str) -> None:
    denials = Denials(opened(db_url))
    for n in range(5_000):
        denials.note(Denied("missing", "/v1/jobs", "", "", f"10.0.{n // 256}.{n % 256}"))
    assert await denials.write() == MOST + 1
    assert await denials.write() == 0
    found = topics.rows(db_url, ENTRIES)
    assert sum(row.items for row in found) == 5_000
    assert [row.items for row in found if row.detail["reason"] == REST.reason] == [5_000 - MOST]


async def test_what_cannot_be_written_waits_for_the_next_turn(db_url: str) -> None:
    away = True

    @asynccontextmanager
    async def open_() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if away:
            raise Unavailable("database-unavailable", "not now")
        async with opened(db_url)() as connection:
            yield connection

    denials = Denials(open_)
    denials.note(Denied("missing", "/v1/jobs", "", "", "10.0.0.1"))
    assert await denials.write() == 0
    denials.note(Denied("missing", "/v1/jobs", "", "", "10.0.0.1"))
    away = False
    assert await denials.write() == 1
    assert [row.items for row in topics.rows(db_url, ENTRIES)] == [2]


async def test_texts_that_strangers_choose_can_be_stored(db_url: str) -> None:
    denials = Denials(opened(db_url))
    denials.note(Denied("forbidden", "/v1/jobs", "jobs:read", "a\0b\ud800" + "c" * 1000, "é\0" * 500))
    assert await denials.write() == 1
    [found] = topics.rows(db_url, ENTRIES)
    assert found.actor.startswith("ab?ccc")
    assert len(found.actor) <= 255


async def test_a_running_service_writes_them_without_being_stopped(db_url: str) -> None:
    async with audited(opened(db_url), every=0.01):
        events.publish(Denied("missing", "/v1/jobs", "", "", "10.0.0.1"))
        await eventually_async(lambda: bool(topics.rows(db_url, ENTRIES)))
    events.publish(Denied("missing", "/v1/jobs", "", "", "10.0.0.1"))
    assert [row.items for row in topics.rows(db_url, ENTRIES)] == [1], "nobody listens any more"
