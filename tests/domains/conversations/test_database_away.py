"""The database gone, silent, busy or forgetful: a 503 that says what is known, and the same call works afterwards."""

import asyncio
import json
import socket

import httpx
import psycopg
import pytest

from tests.support.conversations import END, body, counts, end, event, make_settings, read, serving, write
from tests.support.lost_answers import LosingProxy
from tests.support.proxy import Proxy
from tests.support.waiting import eventually, eventually_async


def assert_away(response: httpx.Response, code: str) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["type"] == f"urn:tandem:problem:{code}"
    assert int(response.headers["retry-after"]) >= 1
    # Neither addresses nor the server's own words.
    assert not any(word in response.text for word in ("127.0.0.1", "postgres", "connection to server"))


async def test_a_database_that_is_not_there(db_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with serving(f"postgresql://nobody@127.0.0.1:{port}/nothing") as client:
        assert_away(await client.post(END, json=body()), "database-unavailable")
        assert_away(await client.get("/v1/conversations/conv_1"), "database-unavailable")
        assert_away(await client.get("/v1/users/user_1/candidates"), "database-unavailable")
        assert_away(await client.get("/health/ready"), "database-unavailable")
        assert (await client.get("/health/live")).status_code == 200
        metrics = await client.get("/metrics")
    assert "tandem_database_up 0.0" in metrics.text
    assert "conversation_events_pending " not in metrics.text


async def test_bad_input_needs_no_database(db_url: str) -> None:
    async with serving("postgresql://nobody@127.0.0.1:1/nothing") as client:
        assert (await client.post(END, json={})).status_code == 422


async def test_a_database_that_falls_silent_and_comes_back(db_url: str) -> None:
    quick = make_settings(api={"request_seconds": 1.0}, database={"connect_timeout_seconds": 2})
    with Proxy(db_url) as proxy:
        async with serving(proxy.url, quick) as client:
            await end(client, "before")
            proxy.swallow()
            # Asking a pooled connection first would cost every call a round trip: so nobody knows.
            assert_away(await client.post(END, json=body()), "outcome-unknown")
            # No pooled connection is left, and a new one cannot be made.
            assert_away(await client.post(END, json=body()), "database-unavailable")
            proxy.heal()
            async with asyncio.timeout(30):
                while (await client.post(END, json=body())).status_code != 202:
                    await asyncio.sleep(0)
    assert counts(db_url) == (2, 2)


async def test_connections_that_were_killed_are_replaced_unnoticed(db_url: str) -> None:
    async with serving(db_url) as client:
        await end(client, "before")
        write(
            db_url,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'tandem api' AND datname = current_database()",
        )
        await end(client, "after")
    assert counts(db_url) == (2, 2)


async def test_a_lost_answer_is_an_unknown_outcome_and_the_repeat_tells(db_url: str) -> None:
    quick = make_settings(api={"request_seconds": 1.0})
    with LosingProxy(db_url) as proxy:
        proxy.lose_answers_to(b"conv_1")  # which stands in the statement's values, not in its text
        async with serving(proxy.url, quick) as client:
            assert_away(await client.post(END, json=body()), "outcome-unknown")
            proxy.keep_answers()
            eventually(lambda: counts(db_url) == (1, 1))
            written = event(db_url)
            again = await end(client)
    assert (again["event_id"], again["job_id"]) == (str(written.event_id), written.job_id)
    assert counts(db_url) == (1, 1)


async def test_a_call_that_waits_too_long_for_a_rival_is_unknown_and_a_repeat_tells(db_url: str) -> None:
    """The rival has the conversation_id in a transaction that does not end."""
    quick = make_settings(api={"request_seconds": 0.5})
    with psycopg.connect(db_url) as rival:
        rival.execute(_RIVAL)
        async with serving(db_url, quick) as client:
            assert_away(await client.post(END, json=body()), "outcome-unknown")
            rival.rollback()
            await end(client)
    eventually(
        lambda: not read(db_url, "SELECT pid FROM pg_stat_activity WHERE application_name = 'tandem api'")
    )
    assert counts(db_url) == (1, 1)


async def test_an_exhausted_pool_is_busy_not_hanging(db_url: str) -> None:
    small = make_settings(database={"pool_size": 1, "pool_overflow": 0, "pool_wait_seconds": 0.2})
    with psycopg.connect(db_url) as rival:
        rival.execute(_RIVAL)
        async with serving(db_url, small) as client:
            waiting = asyncio.create_task(client.post(END, json=body()))
            await eventually_async(
                lambda: bool(
                    read(
                        db_url,
                        "SELECT pid FROM pg_locks JOIN pg_stat_activity AS a USING (pid) WHERE NOT granted"
                        " AND locktype = 'transactionid' AND a.datname = current_database()",
                    )
                )
            )
            assert_away(await client.post(END, json=body("conv_2")), "database-busy")
            rival.rollback()
            assert (await waiting).status_code == 202
            await end(client, "conv_2")
    assert counts(db_url) == (2, 2)


_RIVAL = (
    "INSERT INTO conversation_events (id, conversation_id, user_id, bot_type, bot_id, bot_name, start_time,"
    " end_time, conversation_log, body_hash, next_attempt_at, created_at) VALUES (gen_random_uuid(), 'conv_1',"
    " 'user_1', 'TALK', 'b', 'b', now(), now(), '[]', '', now(), now())"
)


@pytest.mark.parametrize("setting", ["default_transaction_read_only = on", "lock_timeout = '100ms'"])
async def test_a_read_only_or_locked_database_refuses_for_now(db_url: str, setting: str) -> None:
    role = read(db_url, "SELECT current_user AS name, current_database() AS base")[0]
    with psycopg.connect(db_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{role.base}" SET {setting}'.encode())
    with psycopg.connect(db_url) as blocker:
        if setting.startswith("lock"):
            blocker.execute("LOCK TABLE conversation_events")
            expected = "database-busy"
        else:
            expected = "database-read-only"
        async with serving(db_url) as client:
            assert_away(await client.post(END, json=body()), expected)
            if expected == "database-read-only":
                assert_away(await client.get("/health/ready"), expected)


async def test_a_standby_that_lags_makes_the_outcome_unknown(db_url: str) -> None:
    """A COMMIT that did not wait for its synchronous standby says so in a warning: that is no promise."""
    write(
        db_url,
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE WARNING 'canceling wait for synchronous replication' USING ERRCODE = '01000'; RETURN NEW; END $$",
    )
    write(
        db_url, "CREATE TRIGGER warn AFTER INSERT ON conversation_events FOR EACH ROW EXECUTE FUNCTION warn()"
    )
    async with serving(db_url) as client:
        assert_away(await client.post(END, json=body()), "outcome-unknown")
        await end(client)
    assert counts(db_url) == (1, 1)


async def test_nothing_is_accepted_by_a_database_without_a_schema(empty_db_url: str) -> None:
    async with serving(empty_db_url) as client:
        response = await client.get("/health/ready")
        refused = await client.post(
            END, content=json.dumps(body()), headers={"content-type": "application/json"}
        )
    assert_away(response, "schema-missing")
    assert refused.status_code >= 500
